"""Docstrings as plain text: cleaned, summed up in a line, or read for a signature."""

from __future__ import annotations

import inspect
import re
from typing import Any

from .signatures import UNKNOWN
from .signatures import without_addresses

SUMMARY = 150
_HEADING = re.compile(r"\A.*\n([=\-~*^])\1{2,}\s*")
_ROLE = re.compile(r"(?::\w+:)?`([^`]*)`")


def doc_of(thing: Any) -> str:
    """Return the thing's own docstring, or nothing."""
    text = getattr(thing, "__doc__", None)
    return without_addresses(inspect.cleandoc(text)).rstrip() if isinstance(text, str) else ""


def without_title(doc: str, name: str) -> str:
    """Return a docstring without a heading that only says the name again."""
    return _HEADING.sub("", doc) if doc.partition("\n")[0].strip("` ") == name else doc


def summary_of(doc: str, name: str = "") -> str:
    """Return the first sentence of a docstring.

    :param name: left out where the docstring begins with it, as in ``codecs -- registry``.
    """
    doc = _HEADING.sub("", doc)
    text = " ".join(doc.partition("\n\n")[0].split()).replace("``", "")
    text = _ROLE.sub(r"\1", text)
    if name:
        text = re.sub(rf"^(?:The )?{re.escape(name)}(?:\.py)?(?: --? |: )", "", text)
    sentence = re.match(r".*?[.!?](?=\s+[A-Z(]|$)", text)
    text = sentence[0] if sentence else text
    if len(text) > SUMMARY:
        text = text[:SUMMARY].rpartition(" ")[0].rstrip(",;: ") + " " + UNKNOWN
    return text


def spoken_signature(name: str, doc: str) -> tuple[str, str]:
    """Take the signature from the first lines of a docstring, where C code has it, and the rest.

    :param name: what is called.
    """
    said = re.compile(
        rf"(?:\w+\.)?({re.escape(name)}\([^)]*\)(?: -> [\w ]+)?)(?:(?: --|[,.:]) *(.*))?$"
    )
    lines = doc.split("\n")
    found: list[str] = []
    while lines:
        match = said.match(lines[0])
        if not match and not lines[0].startswith(f"{name}("):
            break
        if lines[1:] and lines[1].startswith(" "):  # the line goes on, so it is a sentence
            break
        found.append(match[1] if match else lines[0])
        rest = match[2] if match else None
        lines[:1] = [rest] if rest else []
    return "\n".join(found) or f"{name}({UNKNOWN})", "\n".join(lines).strip("\n")

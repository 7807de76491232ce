"""Signatures as text that is the same in every process: no addresses, no values of this machine."""

from __future__ import annotations

import inspect
import re
import sys
from enum import Enum
from types import ModuleType
from typing import Any

WIDTH = 76
UNKNOWN = "…"
_ADDRESS = re.compile(r"\bat 0x[0-9A-Fa-f]*(\.\.\.)?")
_STARS = {"VAR_POSITIONAL": "*", "VAR_KEYWORD": "**"}
_PLAIN = (int, float, complex, bool, str, bytes, type(None), type(...))


def without_addresses(text: str) -> str:
    """Return the text without the memory addresses that default reprs are full of."""
    return _ADDRESS.sub(f"at {UNKNOWN}", text)


def signature_of(name: str, thing: Any) -> str | None:
    """Return how ``thing`` is called, on several lines where one would be too long."""
    try:
        signature = inspect.signature(thing)
    except Exception:  # it evaluates what C code wrote there, and lets any error of that through
        return None
    parts = _parts(list(signature.parameters.values()))
    returns = signature.return_annotation
    tail = "" if returns is inspect.Signature.empty else f" -> {_annotation(returns)}"
    line = f"{name}({', '.join(parts)}){tail}"
    if len(line) <= WIDTH or not parts:
        return line
    return f"{name}(\n{_packed(parts)}\n){tail}"


def _packed(parts: list[str]) -> str:
    """Fill lines with parameters; each gets its own where one of them is long."""
    lines = [""]
    one_each = any(len(part) > 40 for part in parts)
    for part in parts:
        if lines[-1] and (one_each or len(lines[-1]) + len(part) > WIDTH):
            lines.append("")
        lines[-1] += f"{' ' if lines[-1] else '    '}{part},"
    return "\n".join(lines)


def _parts(parameters: list[inspect.Parameter]) -> list[str]:
    parts: list[str] = []
    starred = False
    for number, parameter in enumerate(parameters):
        if parameter.kind is parameter.VAR_POSITIONAL:
            starred = True
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            parts.append("*")
            starred = True
        parts.append(_parameter(parameter))
        following = parameters[number + 1 : number + 2]
        ends = not following or following[0].kind is not parameter.POSITIONAL_ONLY
        if parameter.kind is parameter.POSITIONAL_ONLY and ends:
            parts.append("/")
    return parts


def _parameter(parameter: inspect.Parameter) -> str:
    text = _STARS.get(parameter.kind.name, "") + parameter.name
    annotated = parameter.annotation is not parameter.empty
    if annotated:
        text += f": {_annotation(parameter.annotation)}"
    if parameter.default is not parameter.empty:
        text += (" = " if annotated else "=") + shown(parameter.default)
    return text


def _annotation(annotation: Any) -> str:
    if isinstance(annotation, str):
        return annotation
    return without_addresses(inspect.formatannotation(annotation))


def shown(value: Any) -> str:
    """Return a default value as text, or an ellipsis where its text could change."""
    kind = type(value)
    if kind is str and (len(value) > 60 or sys.prefix in value or sys.base_prefix in value):
        return UNKNOWN
    if kind in _PLAIN:
        return repr(value)
    if isinstance(value, Enum):
        return f"{kind.__name__}.{value.name}"
    if kind is tuple and len(value) <= 8:
        inside = ", ".join(shown(item) for item in value)
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    if kind in (list, dict):  # what they hold may be a register that the process fills
        return f"[{UNKNOWN}]" if kind is list else f"{{{UNKNOWN}}}"
    if isinstance(value, ModuleType):
        return value.__name__
    if inspect.isclass(value) or inspect.isroutine(value):
        return _named(value)
    return UNKNOWN


def _named(value: Any) -> str:
    module = getattr(value, "__module__", None)
    name = str(getattr(value, "__qualname__", UNKNOWN))
    return name if module in (None, "builtins") else f"{module}.{name}"

"""Figures put into pages: each page says which ones, and where.

In reStructuredText a place is what stands between ``.. figures begin NAME`` and ``.. figures end``;
in Markdown, between ``<!-- figures begin NAME -->`` and ``<!-- figures end -->``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import apps

_PLACE = re.compile(
    r"(?P<begin>^(?:\.\.|<!--) figures begin (?P<name>\w+)(?: -->)?\n)"
    r".*?"
    r"(?P<end>^(?:\.\.|<!--) figures end(?: -->)?$)",
    re.DOTALL | re.MULTILINE,
)

#: What the README shows.
_BRIEF = (apps.TEMPLATES, apps.SIMPLE, apps.CONSTANT, apps.HOOK, apps.WHITENOISE, apps.LANE)


def put(page: Path, figures: Mapping[str, str]) -> list[str]:
    """Write figures into the places of a page, and return the names of those it has.

    A place whose figures were not measured stays as it is.

    :raises SystemExit: the page has no place at all.
    """
    names: list[str] = []

    def fill(found: re.Match[str]) -> str:
        names.append(found["name"])
        text = figures.get(found["name"])
        return found[0] if text is None else f"{found['begin']}\n{text}\n\n{found['end']}"

    text = _PLACE.sub(fill, page.read_text())
    if not names:
        raise SystemExit(f"{page} has no place for figures: '.. figures begin NAME' to an end.")
    page.write_text(text)
    return names


def brief(facts: Mapping[str, Any]) -> str:
    """Return the most important figures as a table in Markdown."""
    served = facts.get("servers", {})
    head = ["| the same page of 10 KB | in process |", "| --- | --: |"]
    for server in served:
        head[0] += f" under {server} |"
        head[1] += " --: |"
    rows = []
    for name in _BRIEF:
        cells = [f"{facts['serving'][name]['cpu'] * 1e6:,.1f} µs"]
        cells += [f"{found[name]['rate']:,.0f}/s" for found in served.values()]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*head, *rows])

"""The page for what is not there, with what may have been meant."""

from __future__ import annotations

from difflib import get_close_matches

from flask import render_template
from flask import request
from werkzeug.exceptions import HTTPException

from .catalogue import catalogue
from .catalogue import Entry
from .catalogue import Module


def not_found(error: HTTPException) -> tuple[str, int]:
    """Answer 404 with the nearest pages."""
    return render_template("404.html", nearest=_nearest(request.path)), 404


def _nearest(path: str) -> list[Entry | Module]:
    known = catalogue()
    parts = [part for part in path[:200].split("/") if part]
    if parts[:1] == ["library"]:
        parts = parts[1:]
    if not parts:
        return []
    module = known.by_name.get(parts[0])
    if module is None:
        return [known.by_name[name] for name in get_close_matches(parts[0], known.by_name, 5)]
    names = {entry.name: entry for entry in module.entries}
    near = get_close_matches(parts[-1], names, 5, cutoff=0.5) if parts[1:] else []
    return [module, *(names[name] for name in near)]

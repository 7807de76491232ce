"""The pages of the reference: index, modules, names, letters, sources, and search."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from platform import python_version
from typing import Any

from flask import abort
from flask import Blueprint
from flask import jsonify
from flask import render_template
from flask import request
from flask import url_for
from flask.typing import ResponseReturnValue

from . import links
from .catalogue import catalogue
from .catalogue import Entry
from .catalogue import Key
from .catalogue import Module
from .extensions import prerender
from .notes import LIMITS
from .notes import notes_on
from .notes import tag_of
from .prose import inline
from .prose import prose
from .sources import read_source
from .sources import repository_url

HOUR = 3600
bp = Blueprint("library", __name__)


@bp.app_context_processor
def _words() -> dict[str, Any]:
    return {
        "absolute": links.absolute,
        "catalogue": catalogue(),
        "note_limits": LIMITS,
        "python": python_version(),
        "repository_url": repository_url,
        "url_of": links.url_of,
        "url_of_key": links.url_of_key,
    }


def _module_params() -> Iterator[dict[str, str]]:
    return ({"module": module.name} for module in catalogue().modules)


def _name_params(parent: dict[str, str]) -> Iterator[dict[str, str]]:
    return ({"name": entry.name} for entry in catalogue().by_name[parent["module"]].entries)


def _source_params() -> Iterator[dict[str, str]]:
    return ({"module": module.name} for module in catalogue().modules if module.source)


def _letter_params() -> Iterator[dict[str, str]]:
    return ({"letter": letter} for letter in catalogue().letters)


def _module_or_404(name: str) -> Module:
    return catalogue().by_name.get(name) or abort(404)


@bp.route("/")
@prerender.mark
def index() -> str:
    return render_template("index.html")


@bp.route("/letters/<letter>/")
@prerender.mark(params=_letter_params, fallback="404", sitemap={"changefreq": "monthly"})
def letter(letter: str) -> str:
    entries = catalogue().letters.get(letter) or abort(404)
    return render_template("letter.html", letter=letter, entries=entries)


@bp.route("/library/<module>/")
@prerender.mark(
    params=_module_params,
    revalidate=HOUR,
    tags=lambda module: [f"module:{module}", tag_of(f"library/{module}")],
    sitemap={"priority": 0.8, "changefreq": "weekly"},
)
def module(module: str) -> str:
    found = _module_or_404(module)
    page = f"library/{module}"
    return render_template(
        "module.html",
        module=found,
        prose=partial(prose, resolve=links.resolver(module)),
        inline=partial(inline, resolve=lambda word, is_code: None),
        page=page,
        notes=notes_on(page),
    )


@bp.route("/library/<module>/<name>/")
@prerender.mark(
    params=_name_params,
    revalidate=HOUR,
    tags=lambda module, name: [
        f"module:{module}",
        f"name:{module}.{name}",
        tag_of(f"library/{module}/{name}"),
    ],
)
def entry(module: str, name: str) -> str:
    found = catalogue().entries.get((module, name)) or abort(404)
    page = f"library/{module}/{name}"
    return render_template(
        "entry.html",
        entry=found,
        module=catalogue().by_name[module],
        neighbours=_neighbours(found),
        subclasses=catalogue().subclasses.get(found.home, ()),
        aliases=_aliases(found),
        prose=partial(prose, resolve=links.resolver(module, name)),
        page=page,
        notes=notes_on(page),
    )


def _aliases(entry: Entry) -> list[Key]:
    return [key for key in catalogue().aliases[entry.home] if key not in (entry.key, entry.home)]


def _neighbours(entry: Entry) -> tuple[Entry | None, Entry | None]:
    entries = catalogue().by_name[entry.module].entries
    here = entries.index(entry)
    before = entries[here - 1] if here else None
    return before, entries[here + 1] if here + 1 < len(entries) else None


@bp.route("/library/<module>/index.json")
@prerender.mark(params=_module_params, tags=lambda module: [f"module:{module}"])
def module_json(module: str) -> ResponseReturnValue:
    found = _module_or_404(module)
    names = [
        {
            "name": entry.name,
            "kind": entry.kind,
            "summary": entry.summary,
            "url": links.url_of(entry),
        }
        for entry in found.entries
    ]
    return jsonify(module=found.name, summary=found.summary, names=names)


@bp.route("/source/<module>/")
@prerender.mark(params=_source_params, fallback="404", sitemap=False)
def source(module: str) -> str:
    found = _module_or_404(module)
    if found.source is None:
        abort(404)
    return render_template(
        "source.html",
        module=found,
        lines=read_source(found.source).rstrip("\n").split("\n"),
        starts=_starts(found),
    )


def _starts(module: Module) -> frozenset[int]:
    """The lines of a module's file that other pages point at."""
    entries = [entry for entry in module.entries if entry.source == module.source]
    lines = {entry.line for entry in entries}
    lines.update(member.line for entry in entries for member in entry.members)
    return frozenset(line for line in lines if line)


@bp.route("/search")
def search() -> ResponseReturnValue:
    wanted = request.args.get("q", "", type=str)[:100]
    found = catalogue().search(wanted)
    return render_template("search.html", wanted=wanted, found=found)


@bp.app_template_global()
def counted(module: Module) -> str:
    """Return what a module offers, in numbers."""
    parts = []
    for name, things in (
        ("class", (*module.classes, *module.exceptions)),
        ("function", module.functions),
    ):
        if things:
            plural = name + ("es" if name == "class" else "s")
            parts.append(f"{len(things)} {name if len(things) == 1 else plural}")
    return ", ".join(parts)


@bp.app_template_global()
def source_url(source: str | None, line: int | None = None) -> str | None:
    """Return where the site shows a line of a file, if a page shows it."""
    for module in catalogue().by_source.get(source or "", ()):
        place = f"L{line}" if line else None
        return url_for("library.source", module=module.name, _anchor=place)
    return None

"""The URLs that renders ask for again and again, each built once.

The links of a page are a fifth of what its template costs, and most of them are those of the page
before. What :meth:`~werkzeug.routing.MapAdapter.build` returns depends on its arguments, on where
the app is mounted, and on the rules: none of these change while an app runs.
"""

from __future__ import annotations

import typing as t

from flask import Flask
from flask import globals as flask_globals
from werkzeug.routing import Map
from werkzeug.routing import MapAdapter
from werkzeug.routing import Rule

_REMEMBERED = 4096
#: Values of other types may say something else tomorrow, or are equal and not the same, as ``True``
#: and ``1`` are.
_PLAIN = frozenset({int, str, type(None)})
#: Hosts that are remembered apart.
_PLACES = 16
_OWN = frozenset(Map.default_converters.values())
_NAME = "prerender-links"
#: What a URL depends on besides, where an app says it in a way of its own.
_ASKED = ("url_for", "inject_url_defaults", "handle_url_build_error")
# Since Flask 3.2 one context has all.
_context: t.Any = vars(flask_globals).get("request_ctx", flask_globals.app_ctx)

Links = dict[tuple[t.Any, ...], str]


class _Remembering(MapAdapter):
    """The adapter of a render."""

    links: Links

    def build(
        self,
        endpoint: t.Any,
        values: t.Mapping[str, t.Any] | None = None,
        method: str | None = None,
        force_external: bool = False,
        append_unknown: bool = True,
        url_scheme: str | None = None,
    ) -> str:
        how = (endpoint, method, force_external, append_unknown, url_scheme)
        if not values:
            name: tuple[t.Any, ...] = how
        elif type(values) is dict and _PLAIN.issuperset(map(type, values.values())):
            name = (*how, *values.items())
        else:
            return super().build(endpoint, values, *how[1:])
        url = self.links.get(name)
        if url is None:
            url = super().build(endpoint, values, *how[1:])
            if len(self.links) >= _REMEMBERED:
                self.links.clear()
            self.links[name] = url
        return url


def remember_links(app: Flask) -> None:
    """Let the current request, which is a render, remember the URLs that it builds.

    Not in apps with rules or converters of their own: those may look anywhere for what they write.
    """
    adapter = _context.url_adapter
    if type(adapter) is not MapAdapter:
        return
    if app.url_rule_class is not Rule or not _OWN.issuperset(app.url_map.converters.values()):
        return
    known: dict[tuple[t.Any, ...], Links] = app.extensions.setdefault(_NAME, {})
    place = (adapter.server_name, adapter.script_name, adapter.subdomain, adapter.url_scheme)
    if len(known) >= _PLACES and place not in known:
        known.clear()
    adapter.__class__ = _Remembering
    remembering = t.cast(_Remembering, adapter)
    remembering.links = known.setdefault(place, {})


def tell_templates(app: Flask, is_rendering: t.Callable[[], bool]) -> None:
    """Tell templates whether they are rendered ahead, and give those the links that are known."""
    for_visitors = {"prerendering": False}

    def names() -> dict[str, t.Any]:
        return {"prerendering": True, **_known_links(app)} if is_rendering() else for_visitors

    # The first but Flask's own: what others say wins.
    app.template_context_processors[None].insert(1, names)


def _known_links(app: Flask) -> dict[str, t.Any]:
    """Return the ``url_for`` of the templates of a render, which does not ask Flask for what it
    remembers; or nothing, where Flask's own may say something else each time."""
    adapter = _context.url_adapter
    if type(adapter) is not _Remembering or app.url_build_error_handlers:
        return {}
    if any(app.url_default_functions.values()) or not _is_own(app):
        return {}
    if app.jinja_env.globals.get("url_for") != app.url_for:
        return {}
    links, ask = adapter.links, app.url_for

    def url_for(endpoint: t.Any, **values: t.Any) -> str:
        if not _PLAIN.issuperset(map(type, values.values())) or endpoint[:1] == ".":
            return ask(endpoint, **values)
        name = (endpoint, *values.items())
        url = links.get(name)
        if url is None:
            url = links[name] = ask(endpoint, **values)
        return url

    return {"url_for": url_for}


def _is_own(app: Flask) -> bool:
    """Whether the app asks as Flask does."""
    return all(
        getattr(getattr(app, name), "__func__", None) is getattr(Flask, name) for name in _ASKED
    )

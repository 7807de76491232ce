"""``POST /_prerender/revalidate`` and ``/purge``: pages taken back over HTTP.

There is no such URL unless a token is set. Every answer is ``no-store`` and says nothing about
tokens.
"""

from __future__ import annotations

import hmac
import json
import threading
import typing as t

from flask import Flask
from flask import request
from flask import request_started
from flask import Response

from .errors import StoreError
from .revalidate import ask_for
from .revalidate import take_back
from .revalidate import Taken
from .site import Site

_ENDPOINTS = frozenset({"flask_prerender_revalidate", "flask_prerender_purge"})
_BODY_BYTES = 64 * 1024
_NAMED = 1000
_CALLS_A_SECOND = 10.0


class Endpoint:
    """The two URLs of one app."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._tokens = [token.encode() for token in site.settings.tokens]
        self._bucket = _Bucket(_CALLS_A_SECOND, site.clock)

    def install(self, app: Flask) -> None:
        if not self._tokens:
            return
        path = self._site.settings.endpoint_path
        for name in ("revalidate", "purge"):
            view = self._view(hard=name == "purge")
            endpoint = view.__name__ = f"flask_prerender_{name}"
            view.__module__ = __name__
            app.add_url_rule(f"{path}/{name}", endpoint, view, methods=["POST"])
        request_started.connect(_exempt, app)

    def _view(self, hard: bool) -> t.Callable[[], Response]:
        def view() -> Response:
            return self._answer(hard)

        return view

    def _answer(self, hard: bool) -> Response:
        status, facts = self._take_back(hard)
        response = Response(json.dumps(facts), status, mimetype="application/json")
        response.headers["Cache-Control"] = "no-store"
        if status == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        if status == 429:
            response.headers["Retry-After"] = "1"
        return response

    def _take_back(self, hard: bool) -> tuple[int, dict[str, t.Any]]:
        if not self._is_allowed():
            return 401, {"error": "unauthorized"}
        if not self._bucket.take():
            return 429, {"error": "too many calls"}
        if (request.content_length or 0) > _BODY_BYTES:
            return 413, {"error": f"the body is larger than {_BODY_BYTES} bytes"}
        # Without a length the body may be endless: read one byte more than is allowed.
        body = request.stream.read(_BODY_BYTES + 1)
        if len(body) > _BODY_BYTES:
            return 413, {"error": f"the body is larger than {_BODY_BYTES} bytes"}
        wanted = _parse(body)
        if isinstance(wanted, str):
            return 422, {"error": wanted}
        try:
            taken: Taken = take_back(self._site, hard=hard, **wanted)
        except StoreError as error:
            self._site.complain("store", "nothing was taken back: %s", error)
            return 503, {"error": "the store cannot be written"}
        ask_for(self._site.regenerator, taken)
        return 200, taken.to_dict()

    def _is_allowed(self) -> bool:
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        offered = given.strip().encode("utf-8", "replace")
        # Every token is compared, so that the time says nothing about which was near.
        found = [hmac.compare_digest(offered, token) for token in self._tokens]
        return kind.lower() == "bearer" and any(found)


def _parse(body: bytes) -> dict[str, t.Any] | str:
    """Return what is wanted, or what is wrong with the body."""
    try:
        facts = json.loads(body)
    except (ValueError, RecursionError):
        return "the body is not JSON"
    if not isinstance(facts, dict) or not facts:
        return 'a JSON object is wanted: {"paths": [], "tags": [], "prefixes": []}'
    if "tag" in facts:
        tags = facts.get("tags", [])
        facts = {**facts, "tags": [*tags, facts["tag"]] if isinstance(tags, list) else tags}
        del facts["tag"]
    if unknown := set(facts) - {"paths", "tags", "prefixes"}:
        return f"unknown: {', '.join(sorted(map(str, unknown)))}"
    for name, values in facts.items():
        if not isinstance(values, list) or not all(map(_is_text, values)):
            return f"{name} is not a list of texts"
    if sum(map(len, facts.values())) > _NAMED:
        return f"more than {_NAMED} are named"
    return facts


def _is_text(value: t.Any) -> bool:
    # JSON can say halves of characters, which no path and no tag has.
    return isinstance(value, str) and not any("\ud800" <= c <= "\udfff" for c in value)


def _exempt(sender: Flask, **extra: t.Any) -> None:
    """Take these URLs out of Flask-WTF's CSRF protection: a token is no cookie."""
    name = request.endpoint or ""
    if name in _ENDPOINTS:
        protection = sender.extensions.get("csrf")
        if protection is not None and hasattr(protection, "exempt"):
            protection.exempt(sender.view_functions[name])


class _Bucket:
    """So many calls a second, and as many at once."""

    def __init__(self, rate: float, clock: t.Callable[[], float]) -> None:
        self._rate = rate
        self._clock = clock
        self._left = rate
        self._at = clock()
        self._lock = threading.Lock()

    def take(self) -> bool:
        with self._lock:
            now = self._clock()
            self._left = min(self._rate, self._left + max(0.0, now - self._at) * self._rate)
            self._at = now
            if self._left < 1:
                return False
            self._left -= 1
            return True

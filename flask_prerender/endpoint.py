"""``POST /_prerender/revalidate`` and ``/purge``: pages taken back over HTTP.

There is no such URL unless a token is set. Every answer is ``no-store`` and says nothing about
tokens.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import threading
import typing as t
from contextlib import suppress

from flask import Flask
from flask import request
from flask import request_started
from flask import Response
from werkzeug.exceptions import NotFound
from werkzeug.exceptions import RequestEntityTooLarge

from .errors import ConfigError
from .errors import StoreError
from .revalidate import ask_for
from .revalidate import take_back
from .revalidate import Taken
from .site import Site

_ENDPOINTS = frozenset({"flask_prerender_revalidate", "flask_prerender_purge"})
_BODY_BYTES = 64 * 1024
_NAMED = 1000
_CALLS_A_SECOND = 10.0
_SIGNED = "HMAC-SHA256"
_SIGNED_SECONDS = 300.0
_MOMENT = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?\Z")


class Endpoint:
    """The two URLs of one app."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._tokens = [token.encode() for token in site.settings.tokens]
        self._bucket = _Bucket(_CALLS_A_SECOND, site.clock)
        site.renewals.append(self._bucket.renew)

    def install(self, app: Flask) -> None:
        if not self._tokens:
            if self._site.settings.signed_calls:
                raise ConfigError(
                    "PRERENDER_SIGNED_CALLS is without effect: PRERENDER_TOKENS is empty."
                )
            return
        # A rule without a host fits none where hosts are matched.
        options: dict[str, t.Any] = (
            {"host": "<flask_prerender_host>"} if app.url_map.host_matching else {}
        )
        for verb in ("revalidate", "purge"):
            path = f"{self._site.settings.endpoint_path}/{verb}"
            view = self._view(verb, path)
            endpoint = view.__name__ = f"flask_prerender_{verb}"
            view.__module__ = __name__
            app.add_url_rule(path, endpoint, view, methods=["POST"], **options)
        request_started.connect(self._exempt, app)

    def _view(self, verb: str, path: str) -> t.Callable[..., Response]:
        def view(**values: str) -> Response:
            if request.environ.get("PATH_INFO") != path:
                raise NotFound()  # slashes before it, which the URL map overlooks
            return self._answer(verb)

        return view

    def _exempt(self, sender: Flask, **extra: t.Any) -> None:
        """Take the two URLs out of Flask-WTF's CSRF protection: a token is no cookie.

        Once, at the first request: whatever protects the app is there by then, and the requests
        after it pay for nothing.
        """
        protection = sender.extensions.get("csrf")
        if protection is not None and hasattr(protection, "exempt"):
            for name in _ENDPOINTS:
                protection.exempt(sender.view_functions[name])
        with suppress(RuntimeError):  # somebody connects an app at this moment
            request_started.disconnect(self._exempt)

    def _answer(self, verb: str) -> Response:
        try:
            status, facts = self._meet(verb)
        except StoreError as error:
            self._site.complain("store", "nothing was taken back: %s", error)
            status, facts = 503, {"error": "the store cannot be written"}
        response = Response(json.dumps(facts), status, mimetype="application/json")
        response.headers["Cache-Control"] = "no-store"
        if status == 401:
            scheme = _SIGNED if self._site.settings.signed_calls else "Bearer"
            response.headers["WWW-Authenticate"] = scheme
        if status == 429:
            response.headers["Retry-After"] = "1"
        return response

    def _meet(self, verb: str) -> tuple[int, dict[str, t.Any]]:
        """
        :raises StoreError: nothing can be written.
        """
        signature = _read_signature()
        if not (self._is_timely(signature) if signature else self._has_token()):
            return 401, {"error": "unauthorized"}
        body = _read_body()
        if body is None:
            return 413, {"error": f"the body is larger than {_BODY_BYTES} bytes"}
        if signature and not self._is_signed(signature, verb, body):
            return 401, {"error": "unauthorized"}
        # After who calls is known, or strangers could use up what the owner needs.
        if not self._bucket.take():
            return 429, {"error": "too many calls"}
        if signature and not self._is_first(signature):
            self._bucket.put_back()  # whoever sends again what they overheard is a stranger too
            return 401, {"error": "unauthorized"}
        wanted = _parse(body)
        if isinstance(wanted, str):
            return 422, {"error": wanted}
        taken: Taken = take_back(self._site, hard=verb == "purge", **wanted)
        ask_for(self._site.regenerator, taken)
        return 200, taken.to_dict()

    def _has_token(self) -> bool:
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        offered = given.strip().encode("utf-8", "replace")
        # Every token is compared, so that the time says nothing about which was near.
        found = [hmac.compare_digest(offered, token) for token in self._tokens]
        return kind.lower() == "bearer" and any(found) and not self._site.settings.signed_calls

    def _is_timely(self, signature: tuple[str, str]) -> bool:
        moment = signature[0]
        if not _MOMENT.match(moment):
            return False
        return abs(self._site.clock() - float(moment)) <= _SIGNED_SECONDS

    def _is_signed(self, signature: tuple[str, str], verb: str, body: bytes) -> bool:
        moment, given = signature
        signed = f"{moment} {verb} ".encode() + body
        offered = given.encode("utf-8", "replace")
        made = [hmac.new(token, signed, hashlib.sha256).hexdigest() for token in self._tokens]
        found = [hmac.compare_digest(offered, one.encode()) for one in made]
        return any(found)

    def _is_first(self, signature: tuple[str, str]) -> bool:
        """Return whether nobody, in any process of the host, sent this call before."""
        moment, given = signature
        until = float(moment) + _SIGNED_SECONDS
        return self._site.coordination.once(given, until, self._site.clock())


def _read_signature() -> tuple[str, str] | None:
    """Return the moment of a signed call and its signature, ``None`` for one that is not signed."""
    kind, _, given = request.headers.get("Authorization", "").partition(" ")
    if kind.upper() != _SIGNED:
        return None
    moment, _, signature = given.strip().partition(":")
    return moment, signature


def _read_body() -> bytes | None:
    """Return the body, ``None`` when it is too large, or has no end."""
    request.max_content_length = _BODY_BYTES + 1  # whatever the app allows elsewhere
    try:
        body = request.get_data()
    except RequestEntityTooLarge:
        return None
    return body if len(body) <= _BODY_BYTES else None


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


class _Bucket:
    """So many calls a second, and as many at once."""

    def __init__(self, rate: float, clock: t.Callable[[], float]) -> None:
        self._rate = rate
        self._clock = clock
        self._left = rate
        self._at = clock()
        self.renew()

    def renew(self) -> None:
        """Begin with a lock of its own in a forked child."""
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

    def put_back(self) -> None:
        with self._lock:
            self._left = min(self._rate, self._left + 1)

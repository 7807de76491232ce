"""The least that a correct answer costs: what a page needs to be served, and nothing around it.

No product: no error is caught, no signal sent, nothing evicted. It is what our own answers before
Flask are held against.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

from werkzeug.datastructures import Accept
from werkzeug.http import parse_accept_header

Headers = list[tuple[str, str]]


#: ETag, headers of the answer, headers of a 304, body.
_Form = tuple[str, Headers, Headers, bytes]
#: When it expires, its revision, its forms by encoding.
_Page = tuple[float, int, Mapping[str, _Form]]

_NONE: _Page = (0.0, 0, {})
_MOST_REMEMBERED = 1000


def make_lookup(
    pages: Mapping[str, Mapping[str, bytes]], headers: Callable[[int, str], Headers]
) -> Callable[[dict[str, Any], Any], Iterable[bytes]]:
    """Return a WSGI app of pages by path, each with its bodies by encoding.

    For each request it looks at the method, the query, who is authorized, whether the page has
    expired or was taken back by another process (a counter that they share), which encoding is
    wanted, and what the client has already; and it counts.
    """
    entries = {path: _page(forms, headers) for path, forms in pages.items()}
    find, now = entries.get, time.monotonic
    shared = memoryview(mmap.mmap(-1, 4096)).cast("Q")
    chosen: dict[str | None, str] = {}
    hits = 0

    def choose(accepted: str | None) -> str:
        if len(chosen) >= _MOST_REMEMBERED:
            chosen.clear()
        wanted = parse_accept_header(accepted, Accept)
        found = chosen[accepted] = wanted.best_match(["br", "gzip"]) or "identity"
        return found

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        nonlocal hits
        get = environ.get
        method = environ["REQUEST_METHOD"]
        expires, revision, forms = find(environ["PATH_INFO"], _NONE)
        if (
            expires < now()
            or (method != "GET" and method != "HEAD")
            or get("QUERY_STRING")
            or "HTTP_AUTHORIZATION" in environ
            or revision != shared[0]
        ):
            start_response("404 Not Found", [("Content-Length", "0")])
            return []
        accepted = get("HTTP_ACCEPT_ENCODING")
        etag, ok, not_modified, body = forms[chosen.get(accepted) or choose(accepted)]
        hits += 1
        known = get("HTTP_IF_NONE_MATCH")
        if known is not None and known == etag:
            start_response("304 Not Modified", not_modified[:])
            return []
        start_response("200 OK", ok[:])
        return [body] if method == "GET" else []

    return app


def _page(forms: Mapping[str, bytes], headers: Callable[[int, str], Headers]) -> _Page:
    made: dict[str, _Form] = {}
    for encoding, body in forms.items():
        etag = f'"page-{encoding}"'
        ok = headers(len(body), etag)
        if encoding != "identity":
            ok.append(("Content-Encoding", encoding))
        kept = [item for item in ok if item[0] in ("Cache-Control", "ETag", "Vary")]
        made[encoding] = (etag, ok, kept, body)
    return time.monotonic() + 86400, 0, made

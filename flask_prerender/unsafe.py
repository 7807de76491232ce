"""A page taken back because a request changed what it shows (RFC 9111, section 4.4)."""

from __future__ import annotations

from urllib.parse import urljoin
from urllib.parse import urlsplit

from flask import Request
from flask import Response

from .errors import StoreError
from .page import make_key
from .page import split_key
from .page import typed_key
from .render import request_environ
from .revalidate import take_back
from .revocations import path_tag
from .site import Site

_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "QUERY", "TRACE"})


def after_unsafe(site: Site, request: Request, response: Response) -> Response:
    """Mark the page of a marked path stale when another method than a safe one went well there.

    In respect mode the pages that ``Location`` and ``Content-Location`` name go with it, as long
    as they are on the same host. Never raises: the answer stands.
    """
    if request.method not in _SAFE and 200 <= response.status_code < 400:
        _take_back(site, request, response)
    return response


def _take_back(site: Site, request: Request, response: Response) -> None:
    path = request.environ.get("PATH_INFO", "")
    app = site.app
    has_hosts = app.url_map.host_matching or app.subdomain_matching
    host = request.host.lower() if has_hosts else ""
    try:
        keys: dict[str, bool] = {}
        # Where Flask takes both spellings for the same, the page has one of them.
        for one in (path, path.removesuffix("/") if path.endswith("/") else f"{path}/"):
            key = make_key(one, (), host)
            target = key and site.routes.match(request_environ(site, key), key)
            if key and target:
                keys[key] = target.mark.respects
        if not keys:
            return
        named = _named(request, response, host) if any(keys.values()) else []
        if host:
            take_back(site, hard=False, tags=map(path_tag, [*keys, *named]))
        else:
            take_back(site, hard=False, paths=dict.fromkeys([*keys, *named]))
    except StoreError as error:
        site.complain("store", "%s was changed and cannot be taken back: %s", path, error)
    except Exception:
        site.complain("unsafe", "%s was changed and cannot be taken back", path, exc_info=True)


def _named(request: Request, response: Response, host: str) -> list[str]:
    found = []
    for name in ("Location", "Content-Location"):
        for value in response.headers.getlist(name):
            try:
                url = urlsplit(urljoin(request.url, value))
            except ValueError:
                continue
            if _origin(url.scheme, url.netloc) != _origin(request.scheme, request.host):
                continue
            root = request.root_path.rstrip("/")
            if not f"{url.path}/".startswith(f"{root}/"):
                continue
            key = typed_key(url.path.removeprefix(root) or "/")
            if key is not None:
                found.append(f"//{host}{split_key(key)[1]}" if host else key)
    return found


def _origin(scheme: str, host: str) -> tuple[str, str]:
    """Return scheme and host in the one form to compare (RFC 9110, section 4.3.1)."""
    host = host.lower()
    return scheme, host.removesuffix({"http": ":80", "https": ":443"}.get(scheme, ""))

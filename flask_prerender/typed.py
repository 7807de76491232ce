"""What a person means by a path: the page that the app would answer it with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import parse_qsl
from urllib.parse import urlsplit

from werkzeug.exceptions import HTTPException
from werkzeug.routing import RequestRedirect
from werkzeug.routing import Rule

from .marks import Mark
from .page import make_key
from .page import split_key
from .page import typed_key
from .page import wsgi_path
from .render import request_environ
from .settings import Settings
from .site import Site
from .variants import variants_of
from .variants import with_variant

#: From ``/about`` to ``/about/``, and from there to the rule whose ``defaults`` it has.
_REDIRECTS = 4


@dataclass(frozen=True, slots=True)
class Meant:
    """The page that somebody means.

    :ivar key: the key without a variant, in the form that pages are stored under.
    :ivar mark: of its route; ``None`` when no marked route has it.
    :ivar unnamed: parameters of its query that the mark does not name: such a request is the
        app's, and `key` is without them.
    :ivar variant: what is after the ``#`` of a key that says which one of its variants is meant.
    :ivar is_redirected: Flask redirects what was typed to this page.
    """

    key: str
    mark: Mark | None = None
    unnamed: tuple[str, ...] = ()
    variant: str = ""
    is_redirected: bool = False

    @property
    def keys(self) -> list[str]:
        """The whole keys: several where pages differ by a header, none where there is no page."""
        if self.mark is None:
            return []
        variants = [self.variant] if self.variant else variants_of(self.mark.vary)
        return [with_variant(self.key, variant) for variant in variants]


def meant_by(site: Site, path: str) -> Meant | None:
    """Return the page that a path, or a URL of the site, is about; ``None`` when it is neither, or
    is never stored.

    :param path: with or without a query, percent-encoded or not, with or without the slash at its
        end where Flask takes both for one or redirects; a key as well.
    """
    typed, _, variant = path.partition("#")  # in a URL it says where to look on the page
    key = _key(site, typed)
    if key is None:
        return None
    found, rule = _find(site, key)
    host, plain, query = split_key(found)
    mark = None if rule is None else site.routes.mark_for(rule, wsgi_path(plain))
    if rule is None or mark is None:
        return Meant(found)
    pairs, unnamed = sort_query(site.settings, mark, parse_qsl(query, keep_blank_values=True))
    canonical = make_key(canonical_path(rule, wsgi_path(plain)), pairs, host)
    if canonical is None:
        return None
    variant = variant if _has_variant(mark, variant) else ""
    return Meant(canonical, mark, tuple(unnamed), variant, found != key)


def prefix_meant_by(site: Site, prefix: str) -> str | None:
    """Return the start of keys that a prefix stands for, or ``None`` when no key begins with it."""
    typed = prefix.partition("#")[0]
    if site.has_hosts and typed.startswith("//") and "/" not in typed[2:]:
        typed += "/"  # a whole host
    key = _key(site, typed)
    if key is None:
        return None
    host, path, _ = split_key(key)
    return f"//{host}{path}" if host else path


def canonical_path(rule: Rule, path: str) -> str:
    """Return a path in the form that its rule has: where Flask takes ``/about`` and ``/about/``
    for the same (``strict_slashes=False``), they share one page."""
    if rule.strict_slashes is not False or path == "/":
        return path
    if rule.is_leaf:
        return path.removesuffix("/")
    return path if path.endswith("/") else f"{path}/"


def sort_query(
    settings: Settings, mark: Mark, pairs: Iterable[tuple[str, str]]
) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the parameters that belong to a key, and the names of those for which the app has to
    answer. What never changes a page is in neither."""
    named, unnamed = [], []
    for name, value in pairs:
        if mark.has_query(name):
            named.append((name, value))
        elif not (
            name in settings.ignored_query
            or name.startswith("utm_")
            or settings.unknown_query == "ignore"
        ):
            unnamed.append(name)
    return named, unnamed


def _key(site: Site, path: str) -> str | None:
    # Two slashes begin with a host, and three with none.
    if path.startswith("///" if site.has_hosts else "//"):
        return None
    return site.typed_key(path)


def _find(site: Site, key: str) -> tuple[str, Rule | None]:
    """Return the key that a request ends at, whatever it is redirected to, and the rule it has."""
    for _ in range(_REDIRECTS):
        request = site.app.request_class(request_environ(site, key))
        try:
            adapter = site.app.create_url_adapter(request)
            if adapter is None:
                return key, None
            rule, _ = adapter.match(method="GET", return_rule=True)
        except RequestRedirect as redirect:
            target = _within(site, redirect.new_url, request.host)
            if target is None:
                return key, None
            key = target
        except HTTPException:
            return key, None
        else:
            return key, rule
    return key, None


def _has_variant(mark: Mark, variant: str) -> bool:
    allowed = dict(mark.vary)
    pairs = parse_qsl(variant, keep_blank_values=True)
    return all(n in allowed and (not allowed[n] or v in allowed[n]) for n, v in pairs)


def _within(site: Site, url: str, host: str) -> str | None:
    """Return the key of an absolute URL that Flask redirects to, if it is one of the site."""
    to = urlsplit(url)
    if not to.path.startswith(f"{site.script_name}/"):
        return None
    path = to.path.removeprefix(site.script_name) + (f"?{to.query}" if to.query else "")
    if site.has_hosts:
        return typed_key(f"//{to.netloc}{path}", has_hosts=True)
    return typed_key(path) if to.netloc.lower() == host.lower() else None

"""Marks: the options a route may have, and the decorator that leaves them on a view."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass

from .errors import MarkError
from .errors import TagsError
from .options import check_options
from .options import EVERY
from .options import HEADERS
from .options import Params
from .options import required_arguments
from .options import Sitemap
from .options import Tags
from .options import Values
from .settings import Settings
from .variants import Vary

View = t.TypeVar("View", bound=Callable[..., t.Any])

#: The name under which a view carries its mark. It survives ``functools.wraps``.
ATTRIBUTE = "__prerender__"


class MarkOptions(t.TypedDict, total=False):
    """The options of a mark, for type checkers."""

    params: Params | None
    fallback: str
    revalidate: float | str | None
    expire: float | None
    tags: Tags
    query: Iterable[str]
    vary: Iterable[str] | Mapping[str, Iterable[str]]
    statuses: Iterable[int]
    headers: Mapping[str, str]
    visitors: str
    sitemap: Sitemap
    max_pages: int


class Marker(t.Protocol):
    """What :func:`mark` can be called with."""

    @t.overload
    def __call__(self, view: View, /) -> View: ...
    @t.overload
    def __call__(self, view: bool, /) -> Callable[[View], View]: ...
    @t.overload
    def __call__(self, **options: t.Unpack[MarkOptions]) -> Callable[[View], View]: ...


@dataclass(frozen=True, slots=True)
class Mark:
    """The options of one marked route, complete with defaults.

    :ivar params: enumerator of the route's arguments, or ``None``.
    :ivar declared: the options that somebody wrote down for this route.
    """

    params: Params | None = None
    fallback: str = "render"
    revalidate: float | None = None
    expire: float | None = None
    tags: Tags = ()
    query: tuple[str, ...] = ()
    vary: Vary = ()
    statuses: frozenset[int] = frozenset({200})
    headers: tuple[tuple[str, str], ...] = ()
    visitors: str = "all"
    sitemap: Sitemap = True
    #: How many pages of first visits are kept.
    max_pages: int = 10_000
    declared: frozenset[str] = frozenset()
    #: Respect mode: the view's own headers say for how long a page is fresh.
    respects: bool = False

    def has_query(self, name: str) -> bool:
        """Whether a query parameter is part of a page's URL."""
        return name in self.query or EVERY in self.query

    @property
    def wants_parent(self) -> bool:
        """Whether the enumerator takes its parent route's arguments."""
        return callable(self.params) and required_arguments(self.params) == 1

    def tags_for(self, values: Values) -> tuple[str, ...]:
        """Return the tags of the page with these values in its URL, sorted.

        :raises TagsError: the callable failed, or gave something else than texts.
        """
        try:
            found = self.tags(**values) if callable(self.tags) else self.tags
            tags = tuple(sorted(set(map(str, found))))
        except Exception as error:
            raise TagsError(f"{type(error).__name__}: {error}") from error
        if isinstance(found, str):
            raise TagsError(f"tags gave the text {found!r} where a list of texts is wanted.")
        return tags

    def options(self) -> dict[str, t.Any]:
        """Return what the manifest and the sitemap keep of the mark."""
        facts: dict[str, t.Any] = {"fallback": self.fallback, "visitors": self.visitors}
        if self.query:
            facts["query"] = list(self.query)
        if self.vary:
            facts["vary"] = [[name, list(values)] for name, values in self.vary]
        if self.sitemap is not True:
            facts["sitemap"] = dict(self.sitemap) if isinstance(self.sitemap, Mapping) else False
        return facts


@t.overload
def mark(view: View, /) -> View: ...
@t.overload
def mark(view: bool, /) -> Callable[[View], View]: ...
@t.overload
def mark(**options: t.Unpack[MarkOptions]) -> Callable[[View], View]: ...
def mark(view: t.Any = None, /, **options: t.Any) -> t.Any:
    """Mark a view: its pages are rendered ahead, stored, and served.

    Works bare or with options, above or below ``@app.route``, on functions and on
    :class:`~flask.views.MethodView` classes. ``mark(False)`` takes a view out of a marked group.

    :raises MarkError: an option is unknown, or its value cannot be used.
    """
    if view is None or isinstance(view, bool):
        if view is False and options:
            raise MarkError("mark(False) takes no options: the view is not prerendered.")
        checked = None if view is False else check_options(options, "@prerender")
        return lambda target: _leave(target, checked)
    if not callable(view):
        raise MarkError(
            f"@prerender marks a view, not {view!r}. Options are keywords: "
            "@app.prerender(revalidate=60)."
        )
    return _leave(view, {})


def _leave(view: View, options: dict[str, t.Any] | None) -> View:
    before = getattr(view, ATTRIBUTE, None)
    if options is not None and isinstance(before, dict):
        options = {**before, **options}
    try:
        setattr(view, ATTRIBUTE, False if options is None else options)
    except AttributeError as error:
        raise MarkError(
            f"{view!r} cannot carry a mark. Mark the function it calls, or use "
            'prerender.mark_all("its endpoint").'
        ) from error
    return view


def left_on(view: t.Any) -> dict[str, t.Any] | bool | None:
    """Return the options that a view, its class, or the class's ``get`` carries: a dict,
    ``False``, or ``None``."""
    found = getattr(view, ATTRIBUTE, None)
    if found is not None:
        return t.cast("dict[str, t.Any] | bool", found)
    whole = getattr(view, "view_class", None)
    get = getattr(whole, "get", None)
    places = [getattr(place, ATTRIBUTE, None) for place in (whole, get)]
    if False in places:  # also of a class whose parent marks the method
        return False
    told = [options for options in places if options is not None]
    return {name: value for options in told for name, value in options.items()} if told else None


def build_mark(options: Mapping[str, t.Any], settings: Settings) -> Mark:
    """Return the mark that these options make with the defaults of `settings`."""
    filled: dict[str, t.Any] = {
        "fallback": settings.fallback,
        "revalidate": settings.revalidate,
        "expire": settings.expire,
        "max_pages": settings.max_pages,
        **options,
    }
    if filled["revalidate"] == HEADERS:
        filled |= {"revalidate": None, "expire": None, "respects": True}
    # A span written on the route is not held against a default that was meant for others.
    revalidate, expire = filled["revalidate"], filled["expire"]
    if revalidate is not None and expire is not None and expire <= revalidate:
        filled["revalidate" if "expire" in options else "expire"] = None
    if settings.visitors == "bots":
        filled["visitors"] = "bots"
    return Mark(**filled, declared=frozenset(options))

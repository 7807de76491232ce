"""Marks: the options a route may have, and the decorator that leaves them on a view."""

from __future__ import annotations

import inspect
import math
import re
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import fields
from datetime import date
from datetime import datetime

from .errors import ConfigError
from .errors import MarkError
from .errors import nearest
from .settings import check_spans
from .settings import Settings

Values = Mapping[str, t.Any]
LastModified = datetime | date | float | int | None
#: What an enumerator yields: the arguments of one page, alone or with its last change.
Listed = Values | tuple[Values, LastModified]
Params = Iterable[Listed] | Callable[[], Iterable[Listed]] | Callable[[t.Any], Iterable[Listed]]
Tags = Iterable[str] | Callable[..., Iterable[str]]
Sitemap = Mapping[str, t.Any] | bool

View = t.TypeVar("View", bound=Callable[..., t.Any])

#: The name under which a view carries its mark. It survives ``functools.wraps``.
ATTRIBUTE = "__prerender__"

#: Statuses a page may have when its mark asks for them. Never 5xx, whoever asks.
STATUSES = frozenset({200, 203, 301, 302, 303, 307, 308, 404, 410})

_CHANGE_FREQUENCIES = ("always", "hourly", "daily", "weekly", "monthly", "yearly", "never")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")


class MarkOptions(t.TypedDict, total=False):
    """The options of a mark, for type checkers."""

    params: Params | None
    fallback: str
    revalidate: float | None
    expire: float | None
    tags: Tags
    query: Iterable[str]
    statuses: Iterable[int]
    headers: Mapping[str, str]
    visitors: str
    sitemap: Sitemap


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
    statuses: frozenset[int] = frozenset({200})
    headers: tuple[tuple[str, str], ...] = ()
    visitors: str = "all"
    sitemap: Sitemap = True
    declared: frozenset[str] = frozenset()

    @property
    def wants_parent(self) -> bool:
        """Whether the enumerator takes its parent route's arguments."""
        return callable(self.params) and _required(self.params) == 1

    def tags_for(self, values: Values) -> tuple[str, ...]:
        """Return the tags of the page with these view arguments, sorted."""
        found = self.tags(**values) if callable(self.tags) else self.tags
        if isinstance(found, str):
            raise MarkError(f"tags gave the text {found!r} where a list of texts is wanted.")
        return tuple(sorted(set(map(str, found))))

    def options(self) -> dict[str, t.Any]:
        """Return what the manifest and the sitemap keep of the mark."""
        facts: dict[str, t.Any] = {"fallback": self.fallback, "visitors": self.visitors}
        if self.query:
            facts["query"] = list(self.query)
        if self.sitemap is not True:
            facts["sitemap"] = dict(self.sitemap) if isinstance(self.sitemap, Mapping) else False
        return facts


OPTIONS = frozenset(item.name for item in fields(Mark)) - {"declared"}


def _required(call: Callable[..., t.Any]) -> int:
    try:
        parameters = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature takes nothing from us
        return 0
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in kinds and p.default is inspect.Parameter.empty for p in parameters)


def check_options(options: Mapping[str, t.Any], where: str) -> dict[str, t.Any]:
    """Return the options in their normal form.

    :param where: what is being marked, for the message.
    :raises MarkError: an option is unknown, or its value cannot be used.
    """
    checked: dict[str, t.Any] = {}
    for name, value in options.items():
        if name not in OPTIONS:
            raise MarkError(
                f"{where}: there is no option {name!r}.{nearest(name, OPTIONS)} "
                f"The options are: {', '.join(sorted(OPTIONS))}."
            )
        try:
            checked[name] = _CHECKS[name](value)
        except (TypeError, ValueError) as error:
            raise MarkError(f"{where}: {name}={value!r}: {error}") from error
    try:
        check_spans(checked.get("revalidate"), checked.get("expire"), f"{where}: expire")
    except ConfigError as error:
        raise MarkError(str(error)) from error
    return checked


def _check_params(value: t.Any) -> t.Any:
    if value is None or (callable(value) and _required(value) <= 1):
        return value
    if callable(value):
        raise ValueError(
            "an enumerator takes no argument, or one: the arguments of its parent route"
        )
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        raise ValueError("an iterable of dicts is wanted, or a callable that returns one")
    if iter(value) is value:
        raise ValueError(
            "an iterator is used up after one build; give a list, or the callable that makes it"
        )
    return value


def _check_choice(*choices: str) -> Callable[[t.Any], str]:
    def check(value: t.Any) -> str:
        if value not in choices:
            hint = nearest(value, choices) if isinstance(value, str) else ""
            raise ValueError(f"one of {', '.join(map(repr, choices))} is wanted.{hint}")
        return str(value)

    return check


def _check_seconds(value: t.Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError("seconds are wanted, or None")
    return float(value)


def _check_tags(value: t.Any) -> t.Any:
    return value if callable(value) else _check_names(value)


def _check_names(value: t.Any) -> tuple[str, ...]:
    if isinstance(value, str) or not all(isinstance(name, str) and name for name in value):
        raise ValueError("a list of texts is wanted")
    return tuple(value)


def _check_statuses(value: t.Any) -> frozenset[int]:
    statuses = frozenset({value} if isinstance(value, int) else value)
    if refused := sorted(statuses - STATUSES, key=str):
        raise ValueError(
            f"{', '.join(map(str, refused))} can never be stored; "
            f"possible are {', '.join(map(str, sorted(STATUSES)))}"
        )
    return statuses


def _check_headers(value: t.Any) -> tuple[tuple[str, str], ...]:
    pairs = tuple(value.items() if isinstance(value, Mapping) else value)
    for name, content in pairs:
        if not _TOKEN.match(name) or name.lower() == "set-cookie":
            raise ValueError(f"{name!r} cannot be a header of a stored page")
        if not isinstance(content, str) or re.search(r"[\x00-\x08\x0a-\x1f\x7f]", content):
            raise ValueError(f"the value of {name} cannot be sent")
    return pairs


def _check_sitemap(value: t.Any) -> Sitemap:
    if isinstance(value, bool):
        return value
    if not isinstance(value, Mapping) or set(value) - {"priority", "changefreq"}:
        raise ValueError("False is wanted, or a dict with priority and changefreq")
    priority = value.get("priority", 0.5)
    if isinstance(priority, bool) or not isinstance(priority, int | float):
        raise ValueError("priority is a number from 0.0 to 1.0")
    if not 0 <= priority <= 1:
        raise ValueError("priority is a number from 0.0 to 1.0")
    if "changefreq" in value:
        _check_choice(*_CHANGE_FREQUENCIES)(value["changefreq"])
    return dict(value)


_CHECKS: dict[str, Callable[[t.Any], t.Any]] = {
    "params": _check_params,
    "fallback": _check_choice("render", "pass", "404"),
    "revalidate": _check_seconds,
    "expire": _check_seconds,
    "tags": _check_tags,
    "query": _check_names,
    "statuses": _check_statuses,
    "headers": _check_headers,
    "visitors": _check_choice("all", "bots"),
    "sitemap": _check_sitemap,
}


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
    """Return the options that a view or its class carries: a dict, ``False``, or ``None``."""
    found = getattr(view, ATTRIBUTE, None)
    if found is None:
        found = getattr(getattr(view, "view_class", None), ATTRIBUTE, None)
    return found


def build_mark(options: Mapping[str, t.Any], settings: Settings) -> Mark:
    """Return the mark that these options make with the defaults of `settings`."""
    filled: dict[str, t.Any] = {
        "fallback": settings.fallback,
        "revalidate": settings.revalidate,
        "expire": settings.expire,
        **options,
    }
    # A span written on the route is not held against a default that was meant for others.
    revalidate, expire = filled["revalidate"], filled["expire"]
    if revalidate is not None and expire is not None and expire <= revalidate:
        filled["revalidate" if "expire" in options else "expire"] = None
    if settings.visitors == "bots":
        filled["visitors"] = "bots"
    return Mark(**filled, declared=frozenset(options))

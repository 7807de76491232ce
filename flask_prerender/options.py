"""The options of a mark: what each may be."""

from __future__ import annotations

import inspect
import re
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from datetime import date
from datetime import datetime
from functools import wraps

from .checks import choice
from .checks import names
from .checks import seconds
from .errors import ConfigError
from .errors import MarkError
from .errors import nearest
from .settings import check_spans
from .variants import Vary

Values = Mapping[str, t.Any]
LastModified = datetime | date | float | int | None
#: What an enumerator yields: the arguments of one page, alone or with its last change.
Listed = Values | tuple[Values, LastModified]
Params = Iterable[Listed] | Callable[[], Iterable[Listed]] | Callable[[t.Any], Iterable[Listed]]
Tags = Iterable[str] | Callable[..., Iterable[str]]
Sitemap = Mapping[str, t.Any] | bool


#: ``revalidate``: the view's own headers say for how long its pages are fresh.
HEADERS = "headers"
#: ``query``: every parameter is part of the page's URL.
EVERY = "*"

_NEVER_VARIED = frozenset({"accept-encoding", "authorization", "cookie", "host", "range"})

#: Statuses a page may have when its mark asks for them. Never 5xx, whoever asks.
STATUSES = frozenset({200, 203, 301, 302, 303, 307, 308, 404, 410})

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
#: Lives with a name: seconds fresh, seconds until the page is not served any more.
PROFILES = {
    "seconds": (1.0, _MINUTE),
    "minutes": (_MINUTE, _HOUR),
    "hours": (_HOUR, _DAY),
    "days": (_DAY, 7 * _DAY),
    "weeks": (7 * _DAY, 30 * _DAY),
    "max": (30 * _DAY, 365 * _DAY),
}
#: Said of the connection, of one moment or of one visitor; never part of a page.
NOT_STORED = frozenset(
    {
        "accept-ranges", "age", "cache-status", "connection", "content-encoding", "content-length",
        "date", "etag", "keep-alive", "last-modified", "proxy-authenticate", "proxy-authorization",
        "server", "server-timing", "set-cookie", "te", "traceparent", "tracestate", "trailer",
        "transfer-encoding", "upgrade", "x-request-id",
    }
)  # fmt: skip

_CHANGE_FREQUENCIES = ("always", "hourly", "daily", "weekly", "monthly", "yearly", "never")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")


def check_options(options: Mapping[str, t.Any], where: str) -> dict[str, t.Any]:
    """Return the options in their normal form.

    :param where: what is being marked, for the message.
    :raises MarkError: an option is unknown, or its value cannot be used.
    """
    checked: dict[str, t.Any] = {}
    options = _unfold(options, where)
    for name, value in options.items():
        if name not in _CHECKS:
            raise MarkError(
                f"{where}: there is no option {name!r}.{nearest(name, _CHECKS)} "
                f"The options are: {', '.join(sorted(_CHECKS))}."
            )
        try:
            checked[name] = _CHECKS[name](value)
        except (TypeError, ValueError) as error:
            raise MarkError(f"{where}: {name}={value!r}: {error}") from error
    if checked.get("revalidate") == HEADERS and checked.get("expire") is not None:
        raise MarkError(f"{where}: the view's headers say when its pages expire; leave expire out.")
    try:
        check_spans(checked.get("revalidate"), checked.get("expire"), f"{where}: expire")
    except ConfigError as error:
        raise MarkError(str(error)) from error
    return checked


def _unfold(options: Mapping[str, t.Any], where: str) -> Mapping[str, t.Any]:
    """Put a profile's seconds in the place of its name; an ``expire`` of one's own wins."""
    name = options.get("revalidate")
    if not isinstance(name, str) or name == "headers":
        return options
    if name not in PROFILES:
        raise MarkError(
            f"{where}: revalidate={name!r}: seconds are wanted, None, or one of "
            f"{', '.join(PROFILES)}.{nearest(name, PROFILES)}"
        )
    revalidate, expire = PROFILES[name]
    return {"expire": expire, **options, "revalidate": revalidate}


def normal_options(options: Mapping[str, t.Any] | bool, where: str) -> Mapping[str, t.Any] | bool:
    """Return options in their normal form; ``True`` and ``False`` stand for themselves.

    :raises MarkError: they are something else, or wrong.
    """
    if isinstance(options, bool):
        return options
    if not isinstance(options, Mapping):
        raise MarkError(f"{where} is {options!r}: a dict of options, True or False is wanted.")
    return check_options(options, where)


def _check_params(value: t.Any) -> t.Any:
    if value is None or (callable(value) and required_arguments(value) <= 1):
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


def _check_count(value: t.Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("a whole number of at least 0 is wanted")
    return value


def _check_revalidate(value: t.Any) -> float | str | None:
    return HEADERS if value == HEADERS else seconds(value)


def _check_query(value: t.Any) -> tuple[str, ...]:
    return (EVERY,) if value == EVERY else names(value)


def _check_vary(value: t.Any) -> Vary:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError("a list of request headers is wanted, or a dict of headers and values")
    given = value if isinstance(value, Mapping) else dict.fromkeys(value, ())
    found = []
    for name, values in given.items():
        if not isinstance(name, str) or not _TOKEN.match(name):
            raise ValueError(f"{name!r} is no name of a header")
        if name.lower() in _NEVER_VARIED:
            raise ValueError(f"a stored page is for everybody; it cannot differ by {name}")
        values = names(values)
        if isinstance(value, Mapping) and not values:
            raise ValueError(f"the values of {name} are wanted")
        found.append((name.lower(), values))
    return tuple(sorted(found))


def _check_tags(value: t.Any) -> t.Any:
    return _told_what_it_names(value) if callable(value) else names(value)


def _told_what_it_names(call: Callable[..., t.Any]) -> Callable[..., t.Any]:
    """Return a callable that hands on those of the URL's values that `call` names.

    A ``url_value_preprocessor`` may take values away before the view is called.
    """
    try:
        parameters = inspect.signature(call).parameters
    except (TypeError, ValueError):
        return call
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
        return call

    @wraps(call)
    def told(**values: t.Any) -> t.Any:
        return call(**{name: value for name, value in values.items() if name in parameters})

    return told


def _check_statuses(value: t.Any) -> frozenset[int]:
    statuses = frozenset(value if isinstance(value, Iterable) else [value])
    if not all(type(status) is int for status in statuses):
        raise ValueError("a list of status numbers is wanted")
    if refused := sorted(statuses - STATUSES, key=str):
        raise ValueError(
            f"{', '.join(map(str, refused))} can never be stored; "
            f"possible are {', '.join(map(str, sorted(STATUSES)))}"
        )
    return statuses


def _check_headers(value: t.Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ValueError("a dict of names and values is wanted")
    pairs = tuple(value.items())
    for name, content in pairs:
        if not _TOKEN.match(name) or name.lower() in NOT_STORED | {"content-range"}:
            raise ValueError(f"{name!r} cannot be a header of a stored page")
        if not isinstance(content, str) or re.search(r"[\x00-\x08\x0a-\x1f\x7f]", content):
            raise ValueError(f"the value of {name} cannot be sent")
        _refuse_personal(name.lower(), content)
    return pairs


def _refuse_personal(name: str, content: str) -> None:
    """
    :raises ValueError: the header says that the page is not for everybody.
    """
    words = {part.partition("=")[0].strip() for part in content.lower().split(",")}
    if name == "vary" and words - {"accept-encoding"}:
        raise ValueError("a stored page is the same for everybody and varies by encoding alone")
    if is_cache_control(name) and (said := words & {"private", "no-store"}):
        raise ValueError(f"a page that is {min(said)} cannot be stored")


def is_cache_control(name: str) -> bool:
    """Whether a header, in lower case, tells caches what to do, be it a vendor's (RFC 9213)."""
    return name.endswith(("cache-control", "surrogate-control"))


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
        choice(*_CHANGE_FREQUENCIES)(value["changefreq"])
    return dict(value)


_CHECKS: dict[str, Callable[[t.Any], t.Any]] = {
    "params": _check_params,
    "fallback": choice("render", "pass", "404"),
    "revalidate": _check_revalidate,
    "expire": seconds,
    "tags": _check_tags,
    "query": _check_query,
    "vary": _check_vary,
    "statuses": _check_statuses,
    "headers": _check_headers,
    "visitors": choice("all", "bots"),
    "sitemap": _check_sitemap,
    "max_pages": _check_count,
}


def required_arguments(call: Callable[..., t.Any]) -> int:
    """Return how many positional arguments a callable cannot do without."""
    try:
        parameters = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature takes nothing from us
        return 0
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in kinds and p.default is inspect.Parameter.empty for p in parameters)

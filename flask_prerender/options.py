"""The options of a mark: what each may be."""

from __future__ import annotations

import inspect
import math
import re
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from datetime import date
from datetime import datetime

from .errors import ConfigError
from .errors import MarkError
from .errors import nearest
from .settings import check_spans

Values = Mapping[str, t.Any]
LastModified = datetime | date | float | int | None
#: What an enumerator yields: the arguments of one page, alone or with its last change.
Listed = Values | tuple[Values, LastModified]
Params = Iterable[Listed] | Callable[[], Iterable[Listed]] | Callable[[t.Any], Iterable[Listed]]
Tags = Iterable[str] | Callable[..., Iterable[str]]
Sitemap = Mapping[str, t.Any] | bool


#: Statuses a page may have when its mark asks for them. Never 5xx, whoever asks.
STATUSES = frozenset({200, 203, 301, 302, 303, 307, 308, 404, 410})

_CHANGE_FREQUENCIES = ("always", "hourly", "daily", "weekly", "monthly", "yearly", "never")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")


def check_options(options: Mapping[str, t.Any], where: str) -> dict[str, t.Any]:
    """Return the options in their normal form.

    :param where: what is being marked, for the message.
    :raises MarkError: an option is unknown, or its value cannot be used.
    """
    checked: dict[str, t.Any] = {}
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
    try:
        check_spans(checked.get("revalidate"), checked.get("expire"), f"{where}: expire")
    except ConfigError as error:
        raise MarkError(str(error)) from error
    return checked


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
    names = tuple(value) if isinstance(value, Iterable) else (value,)
    if isinstance(value, str) or not all(isinstance(name, str) and name for name in names):
        raise ValueError("a list of texts is wanted")
    return names


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


def required_arguments(call: Callable[..., t.Any]) -> int:
    """Return how many positional arguments a callable cannot do without."""
    try:
        parameters = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature takes nothing from us
        return 0
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in kinds and p.default is inspect.Parameter.empty for p in parameters)

"""What the enumerators of routes list: the arguments of each page, and when it last changed."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from datetime import date
from datetime import datetime
from datetime import UTC

from werkzeug.routing import Rule

from .errors import nearest
from .errors import RouteError
from .marks import Mark
from .options import Values

Marked = Sequence[tuple[Rule, Mark]]


def listed(
    rule: Rule, mark: Mark, marked: Marked
) -> Iterator[tuple[dict[str, t.Any], float | None]]:
    """Yield the arguments of each page of a route, and when its content last changed.

    :param marked: every marked route, among which a parent is looked for.
    :raises RouteError: the enumerator gives something else, or its parent is not to be found.
    """
    params: t.Any = mark.params
    if not mark.wants_parent:
        for item in params() if callable(params) else params:
            yield _arguments(rule, item)
        return
    parent = _parent(rule, marked)
    for values, _ in listed(*parent, marked):
        for item in params(dict(values)):
            own, last_modified = _arguments(rule, item)
            # The parent's own query parameters are not the child's.
            known = {n: v for n, v in values.items() if n in rule.arguments}
            yield {**known, **own}, last_modified


def refuse_unknown(rules: Iterable[Rule], mark: Mark, values: Values) -> None:
    """
    :param rules: all rules of the endpoint.
    :raises RouteError: a value is neither an argument of a rule nor a query parameter of the mark.
    """
    known = {*mark.query}.union(*(rule.arguments for rule in rules))
    for name in values.keys() - known:
        raise RouteError(
            f"{dict(values)!r} has {name!r}, which is neither an argument of the route nor in the "
            f"query of its mark.{nearest(str(name), known)}"
        )


def _parent(rule: Rule, marked: Marked) -> tuple[Rule, Mark]:
    """Return the marked route whose arguments are part of this one's: the nearest above it."""
    candidates = [
        (other, mark)
        for other, mark in marked
        if other.arguments < rule.arguments and other.arguments and mark.params is not None
    ]
    if not candidates:
        raise RouteError(
            "its enumerator takes a parent's arguments, but no marked route with an enumerator has "
            f"a part of the arguments {', '.join(sorted(rule.arguments))}. Mark such a route, or "
            "let the enumerator take no argument and yield all of them."
        )

    def nearness(pair: tuple[Rule, Mark]) -> tuple[int, bool, int]:
        other = pair[0]
        return len(other.arguments), rule.rule.startswith(other.rule), len(other.rule)

    return max(candidates, key=nearness)


def _arguments(rule: Rule, item: t.Any) -> tuple[dict[str, t.Any], float | None]:
    values, last_modified = item if isinstance(item, tuple) and len(item) == 2 else (item, None)
    if not isinstance(values, Mapping):
        raise RouteError(
            f"its enumerator gave {item!r}; a dict such as "
            f"{dict.fromkeys(sorted(rule.arguments), '...')} is wanted, "
            "alone or in a pair with the moment of its last change."
        )
    return dict(values), _moment(last_modified)


def _moment(value: t.Any) -> float | None:
    """Return seconds since the epoch. What names no time zone is in UTC, on every host."""
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp()
    raise RouteError(
        f"its enumerator gave {value!r} as the moment of the last change; a datetime, a date, or "
        "seconds since the epoch are wanted."
    )

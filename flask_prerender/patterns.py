"""Marks by URL pattern: what ``PRERENDER_RULES`` says of a path."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import suppress
from fnmatch import fnmatchcase

from werkzeug.routing import Rule

from .options import normal_options
from .problems import idle
from .problems import Problem

_WILDCARD = re.compile(r"[*?\[]")


class Patterns:
    """The patterns of an app, from the most general to the most specific."""

    def __init__(self, rules: Mapping[str, t.Any]) -> None:
        self._patterns = [
            (pattern, normal_options(options, _name(pattern)))
            for pattern, options in sorted(rules.items(), key=_specificity)
        ]

    def fitting(self, path: str) -> tuple[int, ...]:
        """Return the numbers of the patterns that fit a path as WSGI gives it."""
        if not self._patterns:
            return ()
        # An operator writes /über/*, and WSGI gives the bytes of its UTF-8, read as latin-1.
        with suppress(UnicodeError):
            path = path.encode("latin-1").decode()
        return tuple(
            n for n, (pattern, _) in enumerate(self._patterns) if fnmatchcase(path, pattern)
        )

    def options(self, numbers: Iterable[int]) -> list[Mapping[str, t.Any] | bool]:
        """Return what the patterns of these numbers say."""
        return [self._patterns[number][1] for number in numbers]

    def problems(self, rules: Iterable[Rule]) -> Iterator[Problem]:
        """Yield a warning for each pattern that has no effect on the routes there are."""
        rules = list(rules)
        for pattern, options in self._patterns:
            name = _name(pattern)
            has_params = isinstance(options, Mapping) and options.get("params") is not None
            if not any(_may_fit(rule, pattern) for rule in rules):
                yield idle(name, "no route has a URL that fits it", rule=pattern)
            elif has_params and not any(fnmatchcase(rule.rule, pattern) for rule in rules):
                reason = (
                    "params list the pages of a whole route, and the pattern fits only some of them"
                )
                yield idle(f"params in {name}", reason, rule=pattern)


def _name(pattern: str) -> str:
    return f"PRERENDER_RULES[{pattern!r}]"


def _may_fit(rule: Rule, pattern: str) -> bool:
    """Whether a route may have a URL that fits. Nobody knows all URLs of one with arguments."""
    fixed, argument, _ = rule.rule.partition("<")
    if not argument:
        return fnmatchcase(fixed, pattern)
    start = _WILDCARD.split(pattern, maxsplit=1)[0]
    return fixed.startswith(start) or start.startswith(fixed)


def _specificity(item: tuple[str, t.Any]) -> tuple[int, int, str]:
    pattern = item[0]
    return len(pattern.replace("*", "").replace("?", "")), len(pattern), pattern

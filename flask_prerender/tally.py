"""What a build did, counted while it runs."""

from __future__ import annotations

import typing as t
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field

from .problems import Problem
from .publish import Outcome

_SLOWEST = 10
_LISTED = 1000


@dataclass(slots=True)
class Report:
    """What a build did. Lists are cut after 1,000 entries; the counts are whole.

    :ivar total: pages planned. :ivar counts: pages by result (``published``, ``unchanged``,
        ``refused``, ``failed``). :ivar reasons: pages refused or failed, by reason.
    :ivar removed: pages taken away. :ivar error: what kept the build from its end.
    """

    total: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    turned_down: list[Outcome] = field(default_factory=list)
    slowest: list[Outcome] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    unknown_tags: list[str] = field(default_factory=list)
    removed: int = 0
    bytes: int = 0
    duration: float = 0.0
    sitemaps: list[str] = field(default_factory=list)
    was_stopped: bool = False
    error: str = ""

    def __str__(self) -> str:
        counts = (f"{count} {result}" for result, count in sorted(self.counts.items()))
        return ", ".join([f"{self.total} planned", *counts, f"{self.removed} removed"])

    @property
    def is_good(self) -> bool:
        """Whether every page that was planned is stored, and no route has more than a warning."""
        return not (
            self.turned_down
            or self.unknown
            or self.unknown_tags
            or self.was_stopped
            or self.error
            or any(not problem.is_warning for problem in self.problems)
        )

    def count(self, result: str) -> int:
        return self.counts.get(result, 0)

    def add(self, outcome: Outcome) -> None:
        if outcome.result == "removed":
            self.removed += 1
            return
        self.counts[outcome.result] = self.count(outcome.result) + 1
        if outcome.page is not None:
            self.bytes += outcome.page.size
        if outcome.result == "published" and len(self.changed) < _LISTED:
            self.changed.append(outcome.key)
        if not outcome.is_stored:
            self.reasons[outcome.reason] = self.reasons.get(outcome.reason, 0) + 1
            if len(self.turned_down) < _LISTED:
                self.turned_down.append(outcome)
        if len(self.slowest) < _SLOWEST or outcome.duration > self.slowest[-1].duration:
            self.slowest.append(outcome)
            self.slowest.sort(key=lambda one: -one.duration)
            del self.slowest[_SLOWEST:]

    def to_dict(self) -> dict[str, t.Any]:
        """Return the report as plain values, for JSON."""
        brief = ("key", "endpoint", "rule", "result", "reason", "detail", "where", "duration")
        facts = {name: getattr(self, name) for name in self.__slots__}
        facts["turned_down"] = [{n: getattr(o, n) for n in brief} for o in self.turned_down]
        facts["slowest"] = [{"key": o.key, "duration": o.duration} for o in self.slowest]
        facts["problems"] = [asdict(problem) for problem in self.problems]
        return {"ok": self.is_good, **facts}

"""What the project set itself as goals, and what of it was reached in a run.

A goal has a floor, which every version has to keep, and a target. Most are ratios within one run:
they belong to the code, where absolute figures belong to a machine.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

from . import apps
from . import building
from . import regenerating
from .servers import NGINX
from .timing import difference
from .timing import ratio
from .timing import table

#: Everything that a run found, by the name of the table.
Facts = Mapping[str, Any]
Find = Callable[[Facts], float]

THREADS, GRANIAN, WAITRESS, BJOERN = "gunicorn gthread", "granian", "waitress", "bjoern"


class Goal(NamedTuple):
    """One goal.

    :ivar find: gets the figure out of what was found; a :exc:`KeyError` says it was not measured.
    :ivar floor: the figure must be at least this, or, with `is_most`, at most.
    """

    name: str
    text: str
    find: Find
    floor: float
    target: float
    is_most: bool = False
    unit: str = "x"

    def reached(self, figure: float) -> str:
        if figure <= self.target if self.is_most else figure >= self.target:
            return "target"
        return "floor" if (figure <= self.floor if self.is_most else figure >= self.floor) else "NO"


# A call in one process.


def _rounds(name: str) -> Callable[[Facts], list[float]]:
    def find(facts: Facts) -> list[float]:
        rounds: list[float] = facts["serving"][name]["rounds"]
        return rounds

    return find


def _call(name: str, other: str) -> Find:
    """Return the cost of one call as a multiple of another's."""
    return lambda facts: ratio(_rounds(name)(facts), _rounds(other)(facts))


def _more(name: str, other: str) -> Find:
    """Return by how many microseconds a call costs more than another."""
    return lambda facts: difference(_rounds(name)(facts), _rounds(other)(facts)) * 1e6


def _clock(name: str, other: str) -> Find:
    """Return how long a call that waits takes, as a multiple of one that does not."""
    return lambda facts: facts["serving"][name]["p50"] / facts["serving"][other]["cpu"]


_IN_PROCESS = (
    Goal("W1", "WSGI hit / a dict and every check", _call(apps.LANE, apps.LOOKUP), 1.5, 1.1, True),
    Goal("W2", "WSGI hit / raw constant", _call(apps.LANE, apps.RAW), 4.5, 3.2, True),
    Goal("W3", "Flask constant / WSGI hit", _call(apps.CONSTANT, apps.LANE), 65, 95),
    Goal("W4", "WhiteNoise / WSGI hit", _call(apps.WHITENOISE, apps.LANE), 10, 15),
    Goal(
        "W5", "the same for a 304",
        _call(f"{apps.WHITENOISE}, 304", f"{apps.LANE}, 304"), 1.0, 1.6,
    ),
    Goal("W6", "Flask-Caching Simple / WSGI hit", _call(apps.SIMPLE, apps.LANE), 85, 120),
    Goal("W6", "Flask-Caching Redis / WSGI hit, wall", _clock(apps.REDIS, apps.LANE), 220, 320),
    Goal("W7", "the page from templates / WSGI hit", _call(apps.TEMPLATES, apps.LANE), 450, 650),
    Goal(
        "W13", "not ours, what the WSGI door adds",
        _more(apps.BESIDE_LANE, apps.BESIDE_HOOK), 0.3, 0.15, True, "us",
    ),
    Goal("H1", "hook hit / Flask constant", _call(apps.HOOK, apps.CONSTANT), 0.82, 0.77, True),
    Goal("H2", "hook hit / Flask-Caching Simple", _call(apps.HOOK, apps.SIMPLE), 0.63, 0.59, True),
    Goal("H3", "hook hit / hook by hand", _call(apps.HOOK, apps.NAIVE), 0.52, 0.48, True),
    Goal("H3", "hook hit / send_file", _call(apps.HOOK, apps.SEND_FILE), 0.36, 0.33, True),
    Goal(
        "H5", "not ours, what the hook adds",
        _more(apps.BESIDE_HOOK, apps.CONSTANT), 2.5, 1.5, True, "us",
    ),
    Goal("D1", "WhiteNoise / WSGI hit from disk", _call(apps.WHITENOISE, apps.LANE_DISK), 1.7, 2.1),
)  # fmt: skip


# Under a server.


def _rate(server: str, name: str, other: str) -> Find:
    return lambda facts: facts["servers"][server][name]["ratios"][other]


def _rates(
    number: str, text: str, name: str, other: str, wanted: Mapping[str, tuple[float, float]]
) -> Iterator[Goal]:
    for server, (floor, target) in wanted.items():
        yield Goal(number, f"{text}, {server}", _rate(server, name, other), floor, target)


def _alone(server: str) -> Find:
    return lambda facts: facts["servers"][server][apps.LANE]["alone_ratio"]


def _share(server: str, case: str) -> Find:
    return lambda facts: facts["regenerating"][server][case]["share"]


_SERVED = (
    *_rates(
        "W8", "WSGI req/s / raw", apps.LANE, apps.RAW,
        {
            THREADS: (0.95, 0.97), WAITRESS: (0.95, 0.97), GRANIAN: (0.95, 0.97),
            BJOERN: (0.85, 0.9),
        },
    ),
    *_rates(
        "W9", "WSGI req/s / WhiteNoise", apps.LANE, apps.WHITENOISE,
        {THREADS: (1.3, 1.38), GRANIAN: (1.35, 1.45)},
    ),
    *_rates(
        "W10", "WSGI req/s / Flask-Caching", apps.LANE, apps.SIMPLE,
        {THREADS: (2.0, 2.1), GRANIAN: (6.0, 6.5), BJOERN: (9.5, 10.5)},
    ),
    *_rates(
        "W11", "WSGI req/s / nginx", apps.LANE, NGINX,
        {GRANIAN: (0.6, 0.65), BJOERN: (1.25, 1.45)},
    ),
    Goal("W12", "one connection, p50 / nginx, granian", _alone(GRANIAN), 1.15, 1.0, True),
    Goal("W12", "one connection, p50 / nginx, bjoern", _alone(BJOERN), 1.05, 0.95, True),
    *_rates(
        "H4", "hook req/s / Flask constant", apps.HOOK, apps.CONSTANT,
        {THREADS: (1.05, 1.08), GRANIAN: (1.2, 1.25)},
    ),
    Goal("P1", "WSGI req/s / page of 22 ms", _rate(THREADS, apps.LANE, apps.HEAVY), 200, 210),
    Goal("P1", "hook req/s / page of 22 ms", _rate(THREADS, apps.HOOK, apps.HEAVY), 115, 120),
    *(
        Goal(
            "I3", f"hits while 100 pages/s are made new, {server}",
            _share(server, regenerating.STEADY), *wanted,
        )
        for server, wanted in ((THREADS, (0.93, 0.96)), (GRANIAN, (0.83, 0.87)))
    ),
    *(
        Goal(
            "I5", f"hits while {case}, {server}", _share(server, case), 0.8, 0.9,
        )
        for case in (regenerating.HEAVY, regenerating.HEAVY_PROCESS)
        for server in (THREADS, GRANIAN)
    ),
    Goal("I1", "renders for one expiry", lambda facts: facts["herd"]["renders"], 1, 1, True, ""),
    Goal(
        "I2", "slowest stale answer meanwhile",
        lambda facts: facts["herd"]["slowest"] * 1e3, 20, 8, True, "ms",
    ),
)  # fmt: skip


# Builds, and many pages.


def _speed(name: str) -> Find:
    return lambda facts: facts["building"][name]["speed"]


def _at(pages: int, fact: str, factor: float = 1.0) -> Find:
    return lambda facts: facts["scale"][str(pages)][fact] * factor


def _hits(facts: Facts) -> float:
    found = facts["scale"]
    return float(found[max(found, key=int)]["hit"] / found["1000"]["hit"])


def _over_rendering(facts: Facts) -> float:
    return float(facts["building"][building.AGAIN]["over_rendering"] * 1e6)


_BUILT = (
    Goal("G1", "build / Frozen-Flask", _speed(building.ONE), 1.55, 1.7),
    Goal("G2", "... in two processes", _speed(building.TWO), 2.8, 3.3),
    Goal("G3", "... views wait, 8 threads", _speed(building.WAITING_8), 5.5, 5.9),
    Goal("G3", "... views wait, 32 threads", _speed(building.WAITING_32), 8.5, 9.7),
    Goal("G4", "... with gzip and br", _speed(building.ONE_PACKED), 0.75, 0.82),
    Goal("G4", "... in two processes", _speed(building.TWO_PACKED), 1.45, 1.6),
    Goal("G5", "memory of 10,000 pages", _at(10_000, "build_memory"), 10, 3, True, "MB"),
    Goal("G5", "memory of 100,000 pages", _at(100_000, "build_memory"), 20, 5, True, "MB"),
    Goal(
        "G6",
        "nothing changed: files written",
        lambda facts: facts["building"][building.AGAIN]["rewritten"],
        0,
        0,
        True,
        "",
    ),
    Goal("G6", "... a page above rendering", _over_rendering, 15, 10, True, "us"),
    Goal("M1", "hit, most pages known / 1,000", _hits, 1.1, 1.02, True),
    Goal("M2", "start to answer, 100,000", _at(100_000, "start", 1e3), 10, 2, True, "ms"),
    Goal("M2", "start to answer, 1,000,000", _at(1_000_000, "start", 1e3), 15, 2, True, "ms"),
    Goal("M2", "... memory, 100,000", _at(100_000, "start_memory"), 3, 1.5, True, "MB"),
    Goal("M3", "page above its body", _at(100_000, "weight", 1 / 1024), 1.3, 0.8, True, "KB"),
    Goal("M4", "100,000 served / budget", _at(100_000, "served_memory", 1 / 64), 1.25, 1.1, True),
    Goal("M5", "noting a page, 1,000", _at(1000, "note", 1e3), 0.2, 0.05, True, "ms"),
    Goal("M5", "noting a page, 1,000,000", _at(1_000_000, "note", 1e3), 0.2, 0.05, True, "ms"),
    Goal("M6", "sitemap of 100,000", _at(100_000, "sitemap_alone", 1e3), 80, 35, True, "ms"),
)

GOALS: tuple[Goal, ...] = (*_IN_PROCESS, *_SERVED, *_BUILT)


def figures(facts: Facts) -> list[tuple[Goal, float | None]]:
    """Return each goal with its figure, which is ``None`` where it was not measured."""
    found: list[tuple[Goal, float | None]] = []
    for goal in GOALS:
        try:
            found.append((goal, goal.find(facts)))
        except KeyError:
            found.append((goal, None))
    return found


def show(facts: Facts) -> str:
    head = ("goal", "floor", "target", "measured", "reached")
    rows = []
    for goal, figure in figures(facts):
        sign = "<=" if goal.is_most else ">="
        unit = f" {goal.unit}".rstrip()
        rows.append(
            (
                f"{goal.name:<3} {goal.text}",
                f"{sign} {goal.floor:g}{unit}",
                f"{sign} {goal.target:g}{unit}",
                "-" if figure is None else f"{figure:.4g}{unit}",
                "-" if figure is None else goal.reached(figure),
            )
        )
    return table(head, rows)

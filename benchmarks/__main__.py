"""``python -m benchmarks``: every case in one run, as tables and, if asked for, as JSON."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import building
from . import figures
from . import goals
from . import packing
from . import regenerating
from . import scale
from . import servers
from . import serving
from .timing import versions

Facts = dict[str, Any]
Measure = Callable[[argparse.Namespace, Path], Any]


def _scale(args: argparse.Namespace, root: Path) -> Facts:
    return scale.measure(root, (*args.sizes, *((scale.LARGE,) if args.large else ())))


def _servers(args: argparse.Namespace, root: Path) -> Facts:
    return servers.measure(root, args.loads, args.load_seconds, args.servers)


def _regenerating(args: argparse.Namespace, root: Path) -> Facts:
    names = [name for name in regenerating.SERVERS if name in args.servers]
    return regenerating.measure(root, args.loads, args.load_seconds, names)


#: What is measured, in this order, and how it is told.
PARTS: dict[str, tuple[Measure, Callable[[Any], str]]] = {
    "serving": (lambda args, root: serving.measure(root, args.rounds, args.seconds), serving.show),
    "servers": (_servers, servers.show),
    "regenerating": (_regenerating, regenerating.show),
    "herd": (lambda args, root: regenerating.herd(root, args.builds), regenerating.show_herd),
    "building": (lambda args, root: building.measure(root, args.builds, args.pages), building.show),
    "compression": (
        lambda args, root: packing.measure(args.builds, args.seconds * 5, min(200, args.pages)),
        packing.show,
    ),
    "scale": (_scale, scale.show),
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=PARTS, help="this part; repeatable")
    parser.add_argument("--rounds", type=int, default=101, help="of calls (%(default)s)")
    parser.add_argument("--seconds", type=float, default=0.02, help="of a round (%(default)s)")
    parser.add_argument("--loads", type=int, default=5, help="rounds of requests (%(default)s)")
    parser.add_argument("--load-seconds", type=int, default=2, help="of a round (%(default)s)")
    parser.add_argument("--servers", action="append", choices=servers.SERVERS, help="only these")
    parser.add_argument("--builds", type=int, default=5, help="rounds of builds (%(default)s)")
    parser.add_argument("--pages", type=int, default=1000, help="birds in a site (%(default)s)")
    parser.add_argument("--large", action="store_true", help="a million pages too: half an hour")
    parser.add_argument("--goals", action="store_true", help="hold the figures against the goals")
    parser.add_argument("--quick", action="store_true", help="see that it runs; figures are wild")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write every figure to a file")
    parser.add_argument("--from", dest="record", type=Path, metavar="PATH",
                        help="take the figures of such a file, and measure only what "
                        "--only names")  # fmt: skip
    parser.add_argument("--page", type=Path, action="append", metavar="PATH", default=[],
                        help="put the figures into the places of this page")  # fmt: skip
    args = parser.parse_args()
    args.sizes, args.servers = scale.SIZES, args.servers or list(servers.SERVERS)
    if args.quick:
        args.rounds, args.seconds, args.builds, args.pages = 2, 0.001, 1, 20
        args.loads, args.load_seconds, args.servers = 1, 1, args.servers[:1]
        args.sizes = (200,)
    return args


def _run(args: argparse.Namespace, root: Path, facts: Facts) -> None:
    """Measure what was asked for, and tell and keep each part as soon as it is known."""
    facts |= {
        "command": sys.argv[1:],
        "date": time.strftime("%Y-%m-%d"),
        "rounds": {name: getattr(args, name) for name in ("rounds", "loads", "builds")},
        "versions": versions(),
        "missing": _missing(),
    }
    _say(_heading(facts))
    for name, (measure, show) in PARTS.items():
        if args.only and name not in args.only:
            continue
        found = measure(args, root / name)
        if found:
            facts[name] = found
            _say(show(found))
            _keep(args, facts)  # a later part may fail


def _keep(args: argparse.Namespace, facts: Facts) -> None:
    if args.json:
        args.json.write_text(json.dumps(facts, indent=1) + "\n")


def _missing() -> dict[str, str]:
    """Return what cannot be measured here, with the reasons."""
    return {**serving.missing(), **servers.missing()}


def _heading(facts: Mapping[str, Any]) -> str:
    """Return what was measured, on what, and what was not."""
    named = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    times = facts["rounds"]
    said = [
        f"Measured on {facts['date']} in {times['rounds']} rounds of calls, {times['loads']} of "
        f"requests and {times['builds']} of builds, with {named}."
    ]
    said += [f"Not measured: {name} ({reason})." for name, reason in facts["missing"].items()]
    return "\n\n".join(said)


def _quiet(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield how much of the machine was ours."""
    if "serving" in facts:
        core = statistics.median(fact["core"] for fact in facts["serving"].values())
        yield f"While calls were timed, the process had {core:.0%} of a core."
    if "servers" in facts:
        others = servers.others(facts["servers"])
        yield f"While servers were asked, other processes had {others:.0%} of a core."


def _told(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return what pages may show, by name."""
    told = {name: show(facts[name]) for name, (_, show) in PARTS.items() if name in facts}
    told["versions"] = "\n\n".join([_heading(facts), *_quiet(facts)])
    told["goals"] = goals.show(facts)
    if "serving" in facts:
        told["brief"] = figures.brief(facts)
    return told


def _say(text: str) -> None:
    print(text, end="\n\n", flush=True)


def main() -> None:
    args = _arguments()
    facts: Facts = json.loads(args.record.read_text()) if args.record else {}
    if args.only or not args.record:
        with tempfile.TemporaryDirectory(prefix="prerender-benchmarks-") as directory:
            _run(args, Path(directory), facts)
        for line in _quiet(facts):
            _say(line)
    told = _told(facts)
    if args.goals:
        _say(told["goals"])
    _keep(args, facts)
    for page in args.page:
        figures.put(page, told)


if __name__ == "__main__":
    main()

"""``python -m benchmarks``: every case in one run, as tables and, if asked for, as JSON."""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from . import building
from . import serving
from .timing import versions

#: What a page has around its figures.
_MARKS = (".. figures begin\n", ".. figures end\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=101, help="of requests (%(default)s)")
    parser.add_argument("--seconds", type=float, default=0.02, help="of a round (%(default)s)")
    parser.add_argument("--builds", type=int, default=5, help="rounds of builds (%(default)s)")
    parser.add_argument("--pages", type=int, default=1000, help="birds in a site (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="see that it runs; figures are wild")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write every figure to a file")
    parser.add_argument("--page", type=Path, metavar="PATH", help="put the figures into this page")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.seconds, args.builds, args.pages = 2, 0.001, 1, 20
    return args


def _say(text: str, said: list[str]) -> None:
    print(text, end="\n\n", flush=True)
    said.append(text)


def _put(page: Path, figures: str) -> None:
    begin, end = map(re.escape, _MARKS)
    text, count = re.subn(
        f"({begin}).*({end})",
        lambda found: f"{found[1]}\n{figures}\n\n{found[2]}",
        page.read_text(),
        flags=re.DOTALL,
    )
    if not count:
        raise SystemExit(f"{page} has no lines {_MARKS[0].strip()!r} and {_MARKS[1].strip()!r}.")
    page.write_text(text)


def _run(args: argparse.Namespace, root: Path, said: list[str]) -> dict[str, Any]:
    named = ", ".join(f"{name} {number}" for name, number in versions().items())
    date = time.strftime("%Y-%m-%d")
    rounds = f"{args.rounds} rounds of requests and {args.builds} of builds"
    _say(f"Measured on {date} in {rounds}, with {named}.", said)
    served = serving.measure(root / "serving", args.rounds, args.seconds)
    core = statistics.median(fact["core"] for fact in served.values())
    _say(f"While requests were timed, the process had {core:.0%} of a core.", said)
    _say(serving.show(served), said)
    built = building.measure(root / "building", args.builds, args.pages)
    _say(building.show(built), said)
    facts = {"command": sys.argv[1:], "date": date, "versions": versions()}
    return {**facts, "serving": served, "building": built}


def main() -> None:
    args = _arguments()
    said: list[str] = []
    with tempfile.TemporaryDirectory(prefix="prerender-benchmarks-") as directory:
        facts = _run(args, Path(directory), said)
    if args.json:
        args.json.write_text(json.dumps(facts, indent=1) + "\n")
    if args.page:
        _put(args.page, "\n\n".join(said))


if __name__ == "__main__":
    main()

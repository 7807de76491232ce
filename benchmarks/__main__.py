"""``python -m benchmarks``: every case in one run, as tables and, if asked for, as JSON."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from . import building
from . import serving
from .timing import versions


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, help="how often each case runs (default: 15, and 5)")
    parser.add_argument("--seconds", type=float, default=0.15, help="for a request in each round")
    parser.add_argument("--pages", type=int, default=1000, help="birds in a built site")
    parser.add_argument("--quick", action="store_true", help="see that it runs; figures are wild")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write every figure to a file")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.seconds, args.pages = args.rounds or 1, 0.002, 20
    return args


def main() -> None:
    args = _arguments()
    facts = {"command": sys.argv[1:], "versions": versions()}
    print(", ".join(f"{name} {number}" for name, number in versions().items()))
    with tempfile.TemporaryDirectory(prefix="prerender-benchmarks-") as directory:
        root = Path(directory)
        served = serving.measure(root / "serving", args.rounds or 15, args.seconds)
        core = statistics.median(fact["core"] for fact in served.values())
        print(f"\nThis process had {core:.0%} of a core.\n\n{serving.show(served)}", flush=True)
        built = building.measure(root / "building", args.rounds or 5, args.pages)
        print(f"\n{building.show(built)}")
    if args.json:
        record = {**facts, "serving": served, "building": built}
        args.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""What a level of compression gives, and what it costs: many different pages in turn.

One page packed again and again would be a third as dear: the processor learns its branches.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from collections.abc import Mapping
from itertools import cycle
from itertools import islice
from typing import Any

from flask_prerender.compress import make_compressor

from .site import create_app
from .site import PAGES
from .timing import in_turn
from .timing import table

#: Codec, level, and whether it is what pages are packed with unless somebody says otherwise.
CASES = (
    ("gzip", 1), ("gzip", 6), ("gzip", 9),
    ("br", 1), ("br", 4), ("br", 5), ("br", 6), ("br", 9), ("br", 10), ("br", 11),
    ("zstd", 1), ("zstd", 3), ("zstd", 9), ("zstd", 19),
)  # fmt: skip
USUAL = ("gzip 6", "br 5", "zstd 3")
_DIFFERENT = 200


def _bodies(count: int) -> list[bytes]:
    client = create_app(PAGES).test_client()
    return [client.get(f"/birds/{number}/").data for number in range(1, count + 1)]


def _packer(compress: Callable[[bytes], bytes], bodies: list[bytes]) -> Callable[[int], None]:
    coming = cycle(bodies)

    def run(count: int) -> None:
        for body in islice(coming, count):
            compress(body)

    return run


def measure(rounds: int, seconds: float, pages: int = _DIFFERENT) -> dict[str, Any]:
    """Time every level, and return facts by codec and level."""
    bodies = _bodies(pages)
    found = {f"{codec} {level}": make_compressor(codec, level) for codec, level in CASES}
    packers = {name: one.compress for name, one in found.items() if one is not None}
    timed = in_turn({n: _packer(pack, bodies) for n, pack in packers.items()}, rounds, seconds)
    whole = statistics.fmean(map(len, bodies))
    return {
        name: {
            "cpu": statistics.median(timed[name].cpu),
            "bytes": statistics.fmean(len(pack(body)) for body in bodies),
            "page": whole,
            "rounds": timed[name].cpu,
        }
        for name, pack in packers.items()
    }


def show(facts: Mapping[str, Any]) -> str:
    head = ("codec and level", "ms a page", "bytes", "of the page")
    rows = [
        (
            f"{name} (usual)" if name in USUAL else name,
            f"{fact['cpu'] * 1e3:.2f}",
            f"{fact['bytes']:,.0f}",
            f"{fact['bytes'] / fact['page']:.1%}",
        )
        for name, fact in facts.items()
    ]
    return table(head, rows)

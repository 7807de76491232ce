"""The benchmarks run to their end. What they find depends on the machine and is not asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from benchmarks import apps
from benchmarks import building
from benchmarks import figures
from benchmarks import goals
from benchmarks import load
from benchmarks import packing
from benchmarks import regenerating
from benchmarks import servers
from benchmarks import serving
from benchmarks import timing
from conftest import ROOT
from conftest import skip_or_fail

#: What somebody else's package is needed for, and what cannot be had everywhere.
OPPONENTS = ("flask_caching", "flask_frozen", "whitenoise", "granian")
FORMS = (apps.LOOKUP, apps.WHITENOISE, apps.NAIVE, apps.HOOK, apps.LANE)
SERVED = {*serving.ORDER, *(f"{name}, br" for name in FORMS), *(f"{name}, 304" for name in FORMS)}
BUILT = set(building.CASES)


def run(directory: Path, *options: object, timeout: int = 110) -> str:
    """Run ``python -m benchmarks --quick``, and return what it printed."""
    if not all(map(find_spec, OPPONENTS)):
        skip_or_fail("an opponent is missing: pip install --group bench")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", *map(str, options)],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(directory)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What a run without servers printed, and the file it wrote."""
    directory = tmp_path_factory.mktemp("benchmarks")
    record, page = directory / "record.json", directory / "page.rst"
    page.write_text(
        "Before\n\n.. figures begin serving\nold\n.. figures end\n\nBetween\n\n"
        ".. figures begin compression\n.. figures end\n\n"
        ".. figures begin servers\nkept\n.. figures end\n\nAfter\n"
    )
    only = [f"--only={name}" for name in ("serving", "herd", "building", "compression", "scale")]
    printed = run(directory, *only, "--goals", "--json", record, "--page", page)
    assert sorted(directory.iterdir()) == [page, record], "something was left behind"
    return printed, record


def rows(text: str) -> set[str]:
    return {line.split("  ", 1)[0].strip() for line in text.splitlines()}


@pytest.mark.timeout(120)
def test_every_case_has_a_row_or_a_reason(ran: tuple[str, Path]) -> None:
    lacking = json.loads(ran[1].read_text())["missing"]
    assert (SERVED | BUILT) - rows(ran[0]) - set(lacking) == set()
    assert {f"{codec} {level}" for codec, level in packing.CASES} - {
        row.removesuffix(" (usual)") for row in rows(ran[0])
    } == set()
    for name, reason in lacking.items():
        assert f"Not measured: {name} ({reason})." in ran[0]


def test_the_figures_are_put_into_the_places_of_a_page(ran: tuple[str, Path]) -> None:
    page = ran[1].with_name("page.rst").read_text()
    assert page.startswith("Before\n\n.. figures begin serving\n\n====")
    assert page.endswith(".. figures begin servers\nkept\n.. figures end\n\nAfter\n")
    assert "old" not in page
    serving_table, _, rest = page.partition("Between")
    assert apps.HOOK in rows(serving_table)
    assert "br 5 (usual)" in rows(rest)


def test_the_record_has_every_case_and_its_rounds(ran: tuple[str, Path]) -> None:
    record = json.loads(ran[1].read_text())
    assert set(record["serving"]) == SERVED - set(record["missing"])
    assert set(record["building"]) == BUILT
    assert all(fact["cpu"] > 0 and fact["rounds"] for fact in record["serving"].values())
    # Everybody made the same pages, or the comparison is none.
    assert {fact["pages"] for fact in record["building"].values()} == {30}
    assert {"Python", "Flask", "Flask-Caching", "Frozen-Flask"} <= set(record["versions"])
    written = {name: fact["rewritten"] for name, fact in record["building"].items()}
    assert (written[building.ONE], written[building.BASE], written[building.RENDERED]) == (
        30, 30, 0,
    )  # fmt: skip
    assert (written[building.AGAIN], written[building.SMALL_AGAIN]) == (0, 0)
    assert record["herd"]["renders"] == 1


def test_goals_can_be_told_of_an_earlier_run(ran: tuple[str, Path], tmp_path: Path) -> None:
    printed = run(tmp_path, "--from", ran[1], "--goals")
    assert printed.strip() in ran[0]
    (line,) = (line for line in printed.splitlines() if line.startswith("H1  hook hit"))
    assert line.split()[-1] in ("target", "floor", "NO")
    (line,) = (
        line for line in printed.splitlines() if line.startswith("W8  WSGI req/s / raw, gran")
    )
    assert line.split()[-2:] == ["-", "-"], "servers were not measured"


def test_a_part_can_be_measured_again(ran: tuple[str, Path], tmp_path: Path) -> None:
    record = tmp_path / "new.json"
    run(tmp_path, "--from", ran[1], "--only", "compression", "--json", record)
    before, after = json.loads(ran[1].read_text()), json.loads(record.read_text())
    assert after["serving"] == before["serving"]
    assert after["compression"] != before["compression"]


@pytest.mark.long
@pytest.mark.timeout(300)
def test_servers_are_asked_and_stopped(tmp_path: Path) -> None:
    if reasons := [
        servers.missing()[name] for name in ("wrk", "nginx") if name in servers.missing()
    ]:
        skip_or_fail("; ".join(reasons))
    record = tmp_path / "record.json"
    printed = run(tmp_path, "--only=servers", "--only=regenerating", "--json", record, timeout=280)
    facts = json.loads(record.read_text())
    (server,) = servers.SERVERS & facts["servers"].keys()
    assert set(facts["servers"][server]) == {*servers.APPS, apps.HEAVY, servers.NGINX}
    assert set(facts["servers"][server]) <= rows(printed)
    found = facts["regenerating"][server]
    assert set(found) == set(regenerating.APPS)
    assert found[regenerating.REST]["made"] == 0
    assert found[regenerating.STEADY]["made"] > 0
    assert [*tmp_path.iterdir()] == [record]
    for process in Path("/proc").glob("[0-9]*/environ"):
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            assert os.fsencode(tmp_path) not in process.read_bytes(), "a server is still running"


# The parts of which it is made.


WRK = """Running 2s test @ http://127.0.0.1:1/birds/7/
  Latency Distribution
     50%    1.55ms
     75%    2.00ms
     90%    3.00ms
     99%  780.00us
  19678 requests in 2.00s, 207.00MB read
Requests/sec:   9839.12
"""


def test_what_wrk_says_is_read() -> None:
    told = load._told("wrk", WRK, 1.9678)
    assert told == {
        "rate": 9839.12,
        "p50": pytest.approx(1.55e-3),
        "p99": pytest.approx(780e-6),
        "cpu": pytest.approx(100e-6),
    }


@pytest.mark.parametrize(
    "text",
    [
        "wrk: unable to connect",
        WRK.replace("19678 requests", "0 requests"),
        WRK + "  Non-2xx or 3xx responses: 3\n",
        WRK + "  Socket errors: connect 0, read 1, write 0, timeout 0\n",
    ],
)
def test_answers_with_errors_among_them_are_no_figure(text: str) -> None:
    with pytest.raises(RuntimeError, match="wrk"):
        load._told("wrk", text, 1.0)


def test_ratios_and_differences_are_those_within_the_rounds() -> None:
    assert timing.ratio([2.0, 6.0, 100.0], [1.0, 2.0, 50.0]) == 2.0
    assert timing.difference([2.0, 6.0, 100.0], [1.0, 2.0, 50.0]) == 4.0


def test_a_goal_is_reached_from_its_floor_or_its_target_on() -> None:
    most = goals.Goal("X1", "", lambda facts: 0.0, 1.5, 1.1, is_most=True)
    assert [most.reached(figure) for figure in (1.1, 1.11, 1.5, 1.51)] == [
        "target", "floor", "floor", "NO",
    ]  # fmt: skip
    least = goals.Goal("X2", "", lambda facts: 0.0, 65, 95)
    assert [least.reached(figure) for figure in (95, 94, 65, 64)] == [
        "target", "floor", "floor", "NO",
    ]  # fmt: skip


def test_every_goal_finds_its_figure() -> None:
    """Names of cases are written twice: no goal may look for one that is never measured."""
    timed = {"rounds": [1.0], "p50": 1.0, "cpu": 1.0}
    facts: dict[str, Any] = {
        "serving": dict.fromkeys(SERVED, timed),
        "servers": {
            server: {
                name: {"alone_ratio": 1.0, "ratios": dict.fromkeys([*cases, servers.NGINX], 1.0)}
                for name in cases
            }
            for server in servers.SERVERS
            for cases in [[*servers.APPS, apps.HEAVY]]
        },
        "regenerating": {
            server: {case: {"share": 1.0} for case in regenerating.APPS}
            for server in regenerating.SERVERS
        },
        "herd": {"renders": 1, "slowest": 0.001},
        "building": {
            name: {"speed": 1.0, "rewritten": 0, "over_rendering": 1e-6} for name in BUILT
        },
        "scale": {
            str(pages): dict.fromkeys(
                ("build_memory", "hit", "start", "start_memory", "weight", "served_memory", "note",
                 "sitemap_alone"), 1.0,
            )
            for pages in (1_000, 10_000, 100_000, 1_000_000)
        },
    }  # fmt: skip
    assert [goal.text for goal, figure in goals.figures(facts) if figure is None] == []
    assert {goal.name for goal in goals.GOALS} >= {
        *(f"W{n}" for n in range(1, 14)), *(f"H{n}" for n in range(1, 6)), "D1", "P1",
        *(f"G{n}" for n in range(1, 7)), *(f"M{n}" for n in range(1, 7)), "I1", "I2", "I3",
    }  # fmt: skip
    assert {figure for _, figure in goals.figures({})} == {None}


def test_a_page_in_markdown_has_places_too(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- figures begin brief -->\nold\n<!-- figures end -->\nAfter\n")
    assert figures.put(page, {"brief": "new"}) == ["brief"]
    expected = "<!-- figures begin brief -->\n\nnew\n\n<!-- figures end -->\nAfter\n"
    assert page.read_text() == expected
    figures.put(page, {"brief": "new"})
    assert page.read_text() == expected


def test_a_page_without_a_place_is_an_error(tmp_path: Path) -> None:
    page = tmp_path / "page.rst"
    page.write_text("No figures\n")
    with pytest.raises(SystemExit, match="has no place for figures"):
        figures.put(page, {"serving": "new"})


def test_the_docs_have_the_command_and_a_place_for_every_table() -> None:
    page = (ROOT / "docs" / "benchmarks.rst").read_text()
    assert "$ make bench\n" in page
    assert "-m benchmarks" in (ROOT / "Makefile").read_text()
    for name in ("versions", "serving", "servers", "regenerating", "herd", "building", "scale"):
        assert f".. figures begin {name}\n" in page
    assert ".. figures begin compression\n" in (ROOT / "docs" / "building.rst").read_text()
    assert "<!-- figures begin brief -->\n" in (ROOT / "README.md").read_text()

"""The benchmarks run to their end. What they find depends on the machine and is not asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from conftest import ROOT
from conftest import skip_or_fail

SERVED = {
    "Flask, constant view",
    "Flask, the page from its templates",
    "Flask-Caching, SimpleCache",
    "Flask-Caching, FileSystemCache",
    "send_file in a hook",
    "A hook written by hand",
    "A hook written by hand, br",
    "A hook written by hand, 304",
    "Flask-Prerender",
    "Flask-Prerender, br",
    "Flask-Prerender, 304",
    "Flask-Prerender, revalidate=3600",
    "Flask-Prerender, no memory",
    "Constant view beside Flask-Prerender",
}
BUILT = {
    "Frozen-Flask",
    "Frozen-Flask, log_url_for=False",
    "test_client in a loop",
    "Flask-Prerender, 1 worker, not compressed",
    "Flask-Prerender, 2 workers, not compressed",
    "Flask-Prerender, 1 worker",
    "Flask-Prerender, 2 workers",
    "Flask-Prerender, 1 worker, nothing changed",
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What ``python -m benchmarks --quick`` printed, and the file it wrote."""
    if not (find_spec("flask_caching") and find_spec("flask_frozen")):
        skip_or_fail("an opponent is missing: pip install Flask-Caching Frozen-Flask")
    directory = tmp_path_factory.mktemp("benchmarks")
    record, page = directory / "record.json", directory / "page.rst"
    page.write_text("Before\n\n.. figures begin\nold\n.. figures end\n\nAfter\n")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--json", record, "--page", page],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(directory)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=55,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(directory.iterdir()) == [page, record], "something was left behind"
    return done.stdout, record


def rows(text: str) -> set[str]:
    return {line.split("  ", 1)[0].strip() for line in text.splitlines()}


def test_every_case_has_a_row(ran: tuple[str, Path]) -> None:
    assert (SERVED | BUILT) - rows(ran[0]) == set()


def test_the_figures_are_put_into_a_page(ran: tuple[str, Path]) -> None:
    page = ran[1].with_name("page.rst").read_text()
    assert page.startswith("Before\n\n.. figures begin\n\nMeasured on ")
    assert page.endswith("=\n\n.. figures end\n\nAfter\n")
    assert "old" not in page
    assert (SERVED | BUILT) - rows(page) == set()


def test_the_record_has_every_case_and_its_rounds(ran: tuple[str, Path]) -> None:
    record = json.loads(ran[1].read_text())
    assert set(record["serving"]) == SERVED
    assert set(record["building"]) == BUILT
    assert all(fact["cpu"] > 0 and fact["rounds"] for fact in record["serving"].values())
    # Everybody made the same pages, or the comparison is none.
    assert {fact["pages"] for fact in record["building"].values()} == {30}
    assert {"Python", "Flask", "Flask-Caching", "Frozen-Flask"} <= set(record["versions"])


def test_the_docs_have_the_command_and_a_figure_for_every_case() -> None:
    page = (ROOT / "docs" / "benchmarks.rst").read_text()
    assert "$ make bench\n" in page
    assert "-m benchmarks\n" in (ROOT / "Makefile").read_text()
    assert (SERVED | BUILT) - rows(page) == set()

from __future__ import annotations

import multiprocessing
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Clock
from coordination_contract import CoordinationContract
from flask_prerender.coordination import local
from flask_prerender.coordination.base import Coordination
from flask_prerender.coordination.local import LocalCoordination
from flask_prerender.errors import StoreError

fork = multiprocessing.get_context("fork")


@pytest.fixture
def coordination(tmp_path: Path, clock: Clock) -> Iterator[LocalCoordination]:
    coordination = LocalCoordination(tmp_path, clock=clock)
    yield coordination
    coordination.close()


class TestLocalCoordination(CoordinationContract):
    @pytest.fixture
    def join(self, tmp_path: Path, clock: Clock) -> Iterator[Callable[[], Coordination]]:
        made: list[LocalCoordination] = []

        def make() -> LocalCoordination:
            made.append(LocalCoordination(tmp_path, clock=clock))
            return made[-1]

        yield make
        for coordination in made:
            coordination.close()


def test_the_revision_is_0_and_nothing_is_written_before_the_first_advance(
    tmp_path: Path, coordination: LocalCoordination
) -> None:
    assert coordination.revision() == 0
    assert list(tmp_path.iterdir()) == []


def test_a_file_made_later_is_noticed_at_once(tmp_path: Path, clock: Clock) -> None:
    one, two = (LocalCoordination(tmp_path, clock=clock) for _ in range(2))
    assert two.revision() == 0
    one.advance()
    assert two.revision() == 1
    one.close()
    two.close()


def test_a_removed_directory_is_noticed_within_a_second(
    tmp_path: Path, clock: Clock, coordination: LocalCoordination
) -> None:
    for _ in range(5):
        coordination.advance()
    shutil.rmtree(tmp_path / "store")
    clock.forward(1)
    assert coordination.revision() == 0
    assert coordination.advance() == 1
    assert coordination.revision() == 1


def test_a_replaced_counter_goes_on_where_the_row_stands(
    tmp_path: Path, clock: Clock, coordination: LocalCoordination
) -> None:
    for _ in range(5):
        coordination.advance()
    (tmp_path / "store" / "revision").unlink()
    assert coordination.advance() == 6
    assert coordination.revision() == 6
    (tmp_path / "other").write_bytes(b"short")
    (tmp_path / "other").replace(tmp_path / "store" / "revision")
    clock.forward(1)
    assert coordination.revision() == 0
    assert coordination.advance() == 7
    other = LocalCoordination(tmp_path)
    assert other.revision() == 7


def test_a_damaged_counter_is_mended_by_the_next_advance(
    tmp_path: Path, coordination: LocalCoordination
) -> None:
    coordination.advance()
    with (tmp_path / "store" / "revision").open("r+b") as counter:
        counter.write(b"\xff" * 8)
    assert coordination.revision() > 1
    assert coordination.advance() == 2
    assert coordination.revision() == 2


def test_a_counter_that_lost_its_row_never_goes_back(
    tmp_path: Path, coordination: LocalCoordination
) -> None:
    for _ in range(5):
        coordination.advance()
    coordination.close()
    (tmp_path / "store" / "coordination.sqlite3").unlink()
    assert coordination.advance() == 6


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_threads_and_processes_count_together(tmp_path: Path) -> None:
    def advance_often() -> None:
        for _ in range(50):
            coordination.advance()

    coordination = LocalCoordination(tmp_path)
    coordination.advance()
    processes = [fork.Process(daemon=True, target=advance_often) for _ in range(3)]
    threads = [threading.Thread(target=advance_often) for _ in range(2)]
    for runner in (*processes, *threads):
        runner.start()
    seen = [0]
    while any(process.is_alive() for process in processes):
        seen.append(coordination.revision())
    for runner in (*processes, *threads):
        runner.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert coordination.revision() == 251
    assert coordination.advance() == 252
    assert seen == sorted(seen)
    coordination.close()


def test_a_forked_child_counts_with_its_parent(coordination: LocalCoordination) -> None:
    coordination.advance()
    process = fork.Process(daemon=True, target=lambda: os._exit(coordination.advance()))
    process.start()
    process.join()
    assert process.exitcode == 2
    assert coordination.revision() == 2
    assert coordination.advance() == 3


def test_the_counter_is_never_ahead_twice_with_one_number(
    tmp_path: Path, coordination: LocalCoordination, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(sqlite3.Connection):
        def execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:
            if sql == "COMMIT":
                raise sqlite3.OperationalError("disk I/O error")
            return super().execute(sql, *parameters)  # type: ignore[arg-type]

    coordination.advance()
    coordination.close()
    connect = sqlite3.connect
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **k, factory=Failing))
        with pytest.raises(StoreError, match="disk I/O error"):
            coordination.advance()
        seen = coordination.revision()
        coordination.close()
    assert coordination.advance() > seen


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs users")
def test_a_read_only_directory_is_read_and_never_advanced(tmp_path: Path) -> None:
    def look() -> None:
        if os.geteuid() == 0:
            os.seteuid(65534)
        coordination = LocalCoordination(tmp_path)
        try:
            coordination.advance()
        except StoreError as error:
            told = str(tmp_path) in str(error)
        else:
            told = False
        os._exit(coordination.revision() if told else 100)

    writer = LocalCoordination(tmp_path)
    writer.advance()
    writer.advance()
    writer.close()
    store = tmp_path / "store"
    before = sorted(path.name for path in store.rglob("*"))
    for directory in (tmp_path, *tmp_path.parents):
        # Pytest keeps its own to its user, one level deeper where tests run in processes.
        if directory.stat().st_uid == os.getuid() and len(directory.parts) > 2:
            directory.chmod(0o755)
    for file in (store, *store.rglob("*")):
        file.chmod(0o555)
    process = fork.Process(daemon=True, target=look)
    process.start()
    process.join()
    store.chmod(0o755)
    assert process.exitcode == 2
    assert sorted(path.name for path in store.rglob("*")) == before


def test_asking_never_raises(tmp_path: Path, clock: Clock) -> None:
    coordination = LocalCoordination(tmp_path, clock=clock)
    revision = tmp_path / "store" / "revision"
    revision.mkdir(parents=True)
    assert coordination.revision() == 0
    revision.rmdir()
    revision.symlink_to("/proc/self/mem")
    clock.forward(1)
    assert coordination.revision() == 0
    revision.unlink()
    revision.parent.rmdir()
    revision.parent.write_text("a file where the directory was")
    clock.forward(1)
    assert coordination.revision() == 0
    with pytest.raises(StoreError, match="store"):
        coordination.advance()


def test_the_store_directory_may_not_be_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "store").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="symbolic link"):
        LocalCoordination(tmp_path / "root").advance()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_tokens_made_anew_go_on_above_those_that_pages_have(tmp_path: Path) -> None:
    numbers = iter((1000, 2000, 3000, 4000))
    one = LocalCoordination(tmp_path, first=lambda: next(numbers))
    lease = one.claim("/", 15.0, 0.0)
    assert lease is not None
    assert (lease.token, one.token()) == (1002, 1003)
    one.close()
    (tmp_path / "store" / "coordination.sqlite3").unlink()
    two = LocalCoordination(tmp_path, first=lambda: next(numbers))
    assert two.token() == 2000
    again = two.claim("/", 15.0, 0.0)
    assert again is not None
    assert again.token == 3002
    two.close()


def test_too_many_revocations_become_one_of_everything(
    tmp_path: Path, coordination: LocalCoordination, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_REVOCATIONS", 100)
    monkeypatch.setattr(local, "_FOLD_EACH", 10)
    coordination.revoke(["all:"], hard=True)
    numbers = {f"tag {n}": coordination.revoke([f"tag {n}"], hard=n % 2 == 0) for n in range(300)}
    _, rows = coordination.revocations(0)
    for hard in (False, True):
        kept = {row.tag: row.revision for row in rows if row.hard == hard and row.tag != "all:"}
        assert 50 <= len(kept) <= 112
        assert kept.items() <= numbers.items()
        folded = [f"tag {n}" for n in range(hard ^ 1, 300, 2) if f"tag {n}" not in kept]
        last = max(numbers[tag] for tag in folded)
        assert min(kept.values()) > last
        everything = [row.revision for row in rows if row.tag == "all:" and row.hard == hard]
        assert everything == [last]


def test_a_later_revocation_of_everything_is_not_put_back(
    coordination: LocalCoordination, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_REVOCATIONS", 10)
    monkeypatch.setattr(local, "_FOLD_EACH", 50)
    for n in range(40):
        coordination.revoke([str(n)], hard=False)
    everything = coordination.revoke(["all:"], hard=False)
    coordination.close()
    coordination.revoke(["last"], hard=False)
    _, rows = coordination.revocations(0)
    assert len(rows) < 10
    assert {row.revision for row in rows if row.tag == "all:"} == {everything}


def test_names_given_once_take_no_more_room_than_their_time(
    tmp_path: Path, coordination: LocalCoordination
) -> None:
    for n in range(50):
        assert coordination.once(str(n), n + 10.0, float(n))
    with sqlite3.connect(tmp_path / "store" / "coordination.sqlite3") as connection:
        (count,) = connection.execute("SELECT count(*) FROM once").fetchone()
    connection.close()
    assert count == 11

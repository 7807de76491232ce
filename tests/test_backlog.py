"""Keys wait in the order they were asked for, each once, and everything has its turn."""

from __future__ import annotations

import threading
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import AbstractContextManager
from contextlib import nullcontext

import pytest

from flask_prerender import backlog as module
from flask_prerender.backlog import Backlog
from flask_prerender.settings import Settings
from living import SECONDS
from living import wait_until

Make = Callable[..., Backlog]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Backlog] = []

    def make(work: Callable[[str], None], **more: Callable[[], object]) -> Backlog:
        prepare = more.get("prepare", lambda: None)
        one = Backlog(Settings(), work, prepare=prepare, on_hang=lambda key: None)
        made.append(one)
        return one

    yield make
    for one in made:
        one.close()


class Gate:
    """Work that a test lets go on, one key at a time."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.begun: list[str] = []
        self._step = threading.Semaphore(0)

    def __call__(self, key: str) -> None:
        self.begun.append(key)
        assert self._step.acquire(timeout=SECONDS)
        self.done.append(key)

    def let_go(self, count: int) -> None:
        self._step.release(count)


def test_what_was_asked_for_first_is_made_first_and_asking_again_changes_nothing(
    make: Make,
) -> None:
    gate = Gate()
    backlog = make(gate)
    assert backlog.add("a")
    wait_until(lambda: gate.begun == ["a"])
    assert [backlog.add(key) for key in "bcd"] == [True] * 3
    assert [backlog.add(key) for key in "dbacb"] == [False] * 5
    assert list(backlog.queue) == ["b", "c", "d"]
    gate.let_go(4)
    wait_until(lambda: gate.done == ["a", "b", "c", "d"])


def test_a_page_asked_for_once_has_its_turn_beside_those_that_are_always_asked_for(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_QUEUED", 10)
    hot = [f"hot {number}" for number in range(20)]
    gate = Gate()
    backlog = make(gate)

    def crowd() -> None:
        for key in hot:
            backlog.add(key)

    backlog.add(hot[0])
    wait_until(lambda: gate.begun)
    crowd()
    assert not backlog.add("cold"), "there is no room, and it is told"
    gate.let_go(1)
    wait_until(lambda: len(gate.begun) == 2)
    assert backlog.add("cold")
    for made in range(1, 20):
        crowd()
        gate.let_go(1)
        wait_until(lambda: len(gate.begun) == made + 2)  # noqa: B023
        assert len(backlog.queue) <= 10
    assert gate.begun.index("cold") == 11
    gate.let_go(20)


class Resting:
    """A pace that rests until the test has enough of it."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.is_over = threading.Event()

    def work(self) -> AbstractContextManager[None]:
        return nullcontext()

    def rest(self) -> float:
        self.asked.set()
        return 0.0 if self.is_over.is_set() else 0.01


def test_no_key_is_taken_while_the_threads_rest(make: Make) -> None:
    done: list[str] = []
    backlog, pace = make(done.append), Resting()
    backlog._pace = pace  # type: ignore[assignment]
    backlog.add("a")
    assert pace.asked.wait(SECONDS)
    backlog.add("b")
    pace.asked.clear()
    assert pace.asked.wait(SECONDS)
    assert (done, list(backlog.queue)) == ([], ["a", "b"])
    pace.is_over.set()
    wait_until(lambda: done == ["a", "b"])


def test_who_rests_does_not_keep_the_process_from_ending(make: Make) -> None:
    done: list[str] = []
    backlog, pace = make(done.append), Resting()
    backlog._pace = pace  # type: ignore[assignment]
    backlog.add("a")
    assert pace.asked.wait(SECONDS)
    backlog.close()
    wait_until(lambda: not backlog.workers)
    assert done == []


def test_a_key_waits_in_the_queue_until_there_is_somebody_to_make_it(make: Make) -> None:
    asked, go = threading.Event(), threading.Event()
    done: list[str] = []

    def prepare() -> None:
        asked.set()
        assert go.wait(SECONDS)

    backlog = make(done.append, prepare=prepare)
    backlog.add("a")
    assert asked.wait(SECONDS)
    assert list(backlog.queue) == ["a"]
    assert not any(worker.key for worker in backlog.workers)
    go.set()
    wait_until(lambda: done == ["a"])

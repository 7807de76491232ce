"""Work in the background rests by what it costs, while others in the process are busy."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from flask_prerender.pace import crowd_of_machine
from flask_prerender.pace import Pace


class Times:
    """A process with one processor, whose clocks only the test moves."""

    def __init__(self) -> None:
        self.now = self.total = self.own = 0.0
        self.crowd = 1.0
        self.pace = Pace(lambda: self.now, lambda: self.total, lambda: self.own, lambda: self.crowd)

    def pass_by(self, seconds: float, load: float) -> None:
        """Let time pass in which others use `load` of the processor."""
        self.now += seconds
        self.total += seconds * load

    def work(self, cost: float, wait: float = 0.0, load: float = 0.0) -> None:
        """Do a piece of work, which waits for something as well."""
        with self.pace.work():
            self.pass_by(wait, load)
            self.pass_by(cost, 1.0)
            self.own += cost

    def rest(self, load: float) -> float:
        """Rest as long as need be, and return how long that was."""
        began = self.now
        while (seconds := self.pace.rest()) > 1e-9:
            self.pass_by(min(seconds, 0.25), load)
        return self.now - began

    def work_on(self, cost: float, load: float, pieces: int = 200) -> float:
        """Return the share of the time that goes on work without an end."""
        for _ in range(pieces // 10):
            self.work(cost)
            self.rest(load)
        began, used = self.now, self.own
        for _ in range(pieces):
            self.work(cost)
            self.rest(load)
        return (self.own - used) / (self.now - began)


@pytest.fixture
def times() -> Iterator[Times]:
    yield Times()


@pytest.mark.parametrize("cost", [0.001, 0.01, 0.1, 1.0])
def test_work_without_an_end_gets_a_sixteenth_of_a_busy_process_whatever_a_piece_costs(
    times: Times, cost: float
) -> None:
    assert 0.055 < times.work_on(cost, load=1.0) <= 1 / 16 + 0.001


def test_where_nobody_asks_for_anything_work_hardly_rests(times: Times) -> None:
    times.work(0.1)
    assert times.rest(0.0) == pytest.approx(0.025)
    assert times.work_on(0.1, load=0.0) > 0.75


def test_the_less_a_process_has_to_do_the_less_work_rests(times: Times) -> None:
    shares = [Times().work_on(0.01, load) for load in (0.02, 0.1, 0.25, 1.0)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.3


def test_work_that_waits_costs_nothing_and_does_not_rest(times: Times) -> None:
    for _ in range(20):
        times.work(0.0, wait=1.0, load=1.0)
        assert times.rest(1.0) == 0.0


def test_a_rest_ends_when_the_requests_do(times: Times) -> None:
    times.pass_by(1.0, 1.0)
    times.work(0.5, wait=1.0, load=1.0)
    assert times.pace.rest() > 7.0
    times.pass_by(0.25, 1.0)
    assert times.pace.rest() > 7.0
    assert times.rest(0.0) < 2.0


def test_work_of_several_threads_shares_one_rest() -> None:
    times = Times()
    began = 0.0
    for number in range(220):
        if number == 20:
            began = times.now
        with times.pace.work():
            mine = times.own
            times.work(0.01)  # by another thread, with a clock of its own
            times.own = mine
            times.pass_by(0.01, 1.0)
            times.own += 0.01
        times.rest(0.9)
    assert 200 * 0.02 / (times.now - began) < 0.07


def test_who_rests_goes_on_while_another_waits_for_something(times: Times) -> None:
    times.work(0.01, wait=0.5, load=1.0)
    with times.pace.work():
        assert times.pace.rest() > 0.1
        assert times.rest(1.0) == pytest.approx(0.15, abs=0.01)
        times.pass_by(10.0, 1.0)
    times.work(0.01)
    assert times.rest(1.0) > 0.14, "nothing was credited"


def test_time_that_nobody_looked_at_is_not_taken_for_quiet(times: Times) -> None:
    times.pass_by(3600.0, 0.0)
    times.work(0.01, wait=0.05, load=1.0)
    assert times.rest(1.0) > 0.08


def test_whoever_was_woken_late_makes_up_for_it_and_for_no_more(times: Times) -> None:
    times.work_on(0.01, load=1.0)
    times.work(0.01)
    times.pass_by(0.15 + 0.03, 1.0)
    assert times.pace.rest() == 0.0
    times.work(0.01)
    assert times.rest(1.0) == pytest.approx(0.12, abs=0.001)
    times.work(0.01)
    times.pass_by(0.15 + 1.0, 1.0)
    assert times.pace.rest() == 0.0
    times.work(0.01)
    assert times.rest(1.0) == pytest.approx(0.1, abs=0.001)


def test_a_monster_of_a_page_rests_half_a_minute_at_most(times: Times) -> None:
    times.work(60.0)
    assert 10.0 < times.rest(1.0) <= 30.0


def test_greenlets_whose_clock_is_that_of_all_rest_a_quarter_of_a_second_at_most(
    times: Times, monkeypatch: pytest.MonkeyPatch
) -> None:
    patched = SimpleNamespace(is_module_patched=lambda name: name == "threading")
    monkeypatch.setitem(sys.modules, "gevent.monkey", patched)
    times.work(1.0, wait=1.0, load=1.0)
    assert 0.1 < times.rest(1.0) <= 0.25


@pytest.mark.parametrize("crowd", [2.0, 4.0])
def test_on_a_crowded_machine_the_share_is_one_of_what_the_process_gets(
    times: Times, crowd: float
) -> None:
    times.crowd = crowd
    for _ in range(20):
        times.work(0.01, wait=0.01 * (crowd - 1), load=0.0)
        times.rest(1 / crowd)
    used, total = times.own, times.total
    for _ in range(200):
        times.work(0.01, wait=0.01 * (crowd - 1), load=0.0)
        times.rest(1 / crowd)
    assert 0.05 < (times.own - used) / (times.total - total) < 0.07


def test_the_machine_says_how_crowded_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr("os.getloadavg", lambda: (6.0, 0.0, 0.0))
    assert crowd_of_machine() == 1.5

    def fail() -> None:
        raise OSError("no /proc here")

    monkeypatch.setattr("os.getloadavg", fail)
    assert crowd_of_machine() == 1.0

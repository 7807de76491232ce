"""One piece of work for everybody who asks for it at the same time."""

from __future__ import annotations

import contextvars
import logging
import threading

import pytest

from flask_prerender.flights import Flights

SECONDS = 20.0


def test_the_result_of_the_work_is_everybodys():
    flights = Flights(4)
    go = threading.Event()
    worked = []

    def work():
        go.wait(SECONDS)
        worked.append(threading.current_thread())
        return len(worked)

    joined = [flights.join("/a", work) for _ in range(20)]
    assert len({id(flight) for flight in joined}) == 1
    assert len(flights) == 1
    go.set()
    assert [flight.wait(SECONDS) for flight in joined] == [1] * 20
    assert len(worked) == 1


def test_twenty_threads_that_join_at_once_share_one_flight():
    flights = Flights(4)
    start, joined = threading.Barrier(20), threading.Barrier(20)
    worked, results = [], []

    def work():
        go.wait(SECONDS)
        worked.append(1)
        return "done"

    def visitor():
        start.wait(SECONDS)
        flight = flights.join("/a", work)
        if joined.wait(SECONDS) == 0:
            go.set()
        results.append(flight.wait(SECONDS))

    go = threading.Event()
    threads = [threading.Thread(target=visitor) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (results, worked) == (["done"] * 20, [1])


def test_the_work_is_done_in_a_thread_and_a_context_of_its_own():
    flights = Flights(4)
    variable = contextvars.ContextVar("of_the_visitor", default="nobody")
    variable.set("alice")
    seen = flights.join("/a", lambda: (threading.current_thread(), variable.get())).wait(SECONDS)
    assert seen[0] is not threading.current_thread()
    assert seen[0].daemon
    assert seen[1] == "nobody"


def test_after_a_landing_the_next_starts_anew():
    flights = Flights(1)
    numbers = iter(range(10))
    for expected in range(3):
        assert flights.join("/a", lambda: next(numbers)).wait(SECONDS) == expected
        assert len(flights) == 0


def test_who_waits_gives_up_in_time_and_the_work_goes_on():
    flights = Flights(4)
    go, landed = threading.Event(), threading.Event()

    def work():
        go.wait(SECONDS)
        landed.set()
        return "late"

    flight = flights.join("/a", work)
    assert flight.wait(0) is None
    assert flight.wait(0.01) is None
    assert not landed.is_set()
    go.set()
    assert flight.wait(SECONDS) == "late"


def test_over_the_limit_nobody_new_is_taken_and_those_under_way_are_joined():
    flights = Flights(2)
    go = threading.Event()

    def work():
        return go.wait(SECONDS)

    first, second = flights.join("/a", work), flights.join("/b", work)
    assert flights.join("/c", work) is None
    assert flights.join("/a", work) is first
    go.set()
    assert (first.wait(SECONDS), second.wait(SECONDS)) == (True, True)
    third = flights.join("/c", work)
    assert third.wait(SECONDS) is True


@pytest.mark.parametrize("error", [ValueError("broken"), RuntimeError("worse")])
def test_work_that_raises_lands_without_a_result_and_is_logged(caplog, error):
    flights = Flights(1)

    def work():
        raise error

    with caplog.at_level(logging.ERROR, "flask_prerender"):
        assert flights.join("/a", work).wait(SECONDS) is None
    assert [record.getMessage() for record in caplog.records] == ["/a could not be published"]
    assert caplog.records[0].exc_info[1] is error
    assert len(flights) == 0
    assert flights.join("/a", lambda: "well again").wait(SECONDS) == "well again"


def test_where_no_thread_can_start_nobody_waits(monkeypatch):
    flights = Flights(1)

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert flights.join("/a", lambda: "never") is None
    assert len(flights) == 0
    assert flights.join("/a", lambda: "now").wait(SECONDS) == "now"


def test_a_forked_child_forgets_the_flights_of_its_parent():
    flights = Flights(1)
    go = threading.Event()
    flight = flights.join("/a", lambda: go.wait(SECONDS))
    lock = flights._lock
    with lock:
        flights.renew_lock()
        assert len(flights) == 0
        other = flights.join("/a", lambda: "the child's own")
    assert other is not flight
    assert other.wait(SECONDS) == "the child's own"
    go.set()
    assert flight.wait(SECONDS) is True


def test_four_flights_at_most_are_left_behind_and_the_others_keep_their_places():
    now, go, begun = [0.0], threading.Event(), []
    flights = Flights(6, 10, lambda: now[0])

    def work():
        begun.append(1)
        go.wait(SECONDS)
        return "late"

    late = [flights.join(f"/{n}", work) for n in range(6)]
    assert flights.leave_behind() == []
    now[0] = 10.5
    assert flights.leave_behind() == ["/0", "/1", "/2", "/3"]
    assert (flights.leave_behind(), len(flights)) == ([], 2)
    again = flights.join("/0", lambda: "again")
    assert again.wait(SECONDS) == "again"
    go.set()
    assert [flight.wait(SECONDS) for flight in late] == ["late"] * 6
    assert len(flights) == 0


def test_a_flight_that_was_left_behind_ends_no_other():
    now, go, second = [0.0], threading.Event(), threading.Event()
    flights = Flights(1, 10, lambda: now[0])
    first = flights.join("/", lambda: go.wait(SECONDS))
    now[0] = 11.0
    assert flights.leave_behind() == ["/"]
    other = flights.join("/", lambda: second.wait(SECONDS))
    go.set()
    assert first.wait(SECONDS) is True
    assert flights.join("/", lambda: None) is other
    second.set()
    assert other.wait(SECONDS) is True

"""Values of functions, kept by the rules of pages."""

from __future__ import annotations

import functools
import gc
import logging
import os
import signal
import threading
import traceback
import weakref

import pytest
from cachelib import SimpleCache
from flask import current_app
from flask import Flask
from flask import g
from flask import has_app_context
from flask import has_request_context
from flask import request

from conftest import wait_for_our_threads
from flask_prerender import ConfigError
from flask_prerender import DataError
from flask_prerender import Fetched
from flask_prerender import Prerender
from flask_prerender import signals
from flask_prerender import StoreError
from flask_prerender.data.flights import Flight
from sources import a_coroutine
from sources import a_site
from sources import at_once
from sources import error_of
from sources import SECONDS
from sources import Source
from sources import wait_until

TOKEN = "t" * 32


@pytest.fixture
def prerender(clock):
    """An instance that is bound to no app."""
    return Prerender(clock=clock)


@pytest.fixture
def site(tmp_path, clock):
    with a_site(tmp_path, clock, PRERENDER_TOKENS=[TOKEN]) as site:
        yield site


@pytest.fixture
def source():
    return Source()


# Fresh, stale, expired.


def test_a_fresh_value_is_served_without_a_fetch(prerender, source, clock):
    value = prerender.data(ttl=60)(source)
    assert value() == "x1"
    clock.forward(59.9)
    assert value() == "x1"
    assert len(source.calls) == 1


def test_a_stale_value_is_served_at_once_while_it_is_fetched_in_a_thread(prerender, source, clock):
    value = prerender.data(ttl=60, stale_ttl=3600)(source)
    value()
    clock.forward(60)
    source.go.clear()
    source.entered.clear()
    # The source does not answer yet, and nobody waits for it.
    assert [value() for _ in range(5)] == ["x1"] * 5
    assert source.entered.wait(SECONDS)
    assert value() == "x1"
    source.go.set()
    wait_for_our_threads()
    assert value() == "x2"
    assert len(source.calls) == 2


def test_beyond_stale_ttl_the_caller_waits_for_a_new_value(prerender, source, clock):
    value = prerender.data(ttl=60, stale_ttl=100)(source)
    value()
    clock.forward(159.9)
    assert value() == "x1"
    wait_for_our_threads()
    clock.forward(160)
    assert value() == "x3"


def test_the_defaults_are_a_minute_and_an_hour_more(prerender, source, clock):
    value = prerender.data(source)
    value()
    clock.forward(59.9)
    assert value() == "x1"
    wait_for_our_threads()
    assert len(source.calls) == 1
    source.error = ValueError("not now")
    clock.forward(3600)
    assert value() == "x1"
    wait_for_our_threads()
    source.error = None
    clock.forward(0.1)
    assert value() == "x3"


def test_none_keeps_a_value_fresh_or_stale_for_ever(prerender, clock):
    fresh, stale = Source(), Source()
    ever = prerender.data(ttl=None)(fresh)
    long = prerender.data(ttl=1, stale_ttl=None)(stale)
    ever(), long()
    clock.forward(10**9)
    assert (ever(), long()) == ("x1", "x1")
    wait_for_our_threads()
    assert (len(fresh.calls), len(stale.calls)) == (1, 2)


@pytest.mark.parametrize("step", [-1000, -3600, -10 * 365 * 86400])
def test_a_value_from_the_future_is_stale_and_fetched_again(prerender, source, clock, step):
    value = prerender.data(ttl=60)(source)
    value()
    clock.forward(step)
    assert value() == "x1"
    wait_for_our_threads()
    assert value() == "x2"
    assert value() == "x2"


def test_a_clock_that_is_set_ahead_and_back_costs_two_fetches(prerender, source, clock):
    value = prerender.data(ttl=60)(source)
    value()
    source.error = ValueError("no")
    clock.forward(60)
    value()
    wait_for_our_threads()
    source.error = None
    # Ten years on it has expired, and its rest is over.
    clock.forward(10 * 365 * 86400)
    assert value() == "x3"
    clock.forward(-10 * 365 * 86400)
    assert value() == "x3"
    wait_for_our_threads()
    assert [value(), value()] == ["x4", "x4"]


@pytest.mark.parametrize("nothing", [None, 0, "", False, [], {}])
@pytest.mark.parametrize("cache", [None, lambda: SimpleCache(threshold=1000)])
def test_nothing_is_a_value_too(prerender, nothing, cache):
    calls = []

    @prerender.data(cache=cache and cache())
    def value():
        calls.append(1)
        return nothing

    assert value() == value() == nothing
    assert type(value()) is type(nothing)
    assert len(calls) == 1


def test_a_value_may_have_a_life_of_its_own(prerender, clock):
    calls = []

    @prerender.data(ttl=60, stale_ttl=100)
    def value(key):
        calls.append(key)
        return {
            "short": lambda: Fetched("s", ttl=5),
            "ever": lambda: Fetched("e", ttl=None),
            "never stale": lambda: Fetched("n", stale_ttl=0),
            "as ever": lambda: Fetched("a"),
        }[key]()

    keys = ["short", "ever", "never stale", "as ever"]
    assert [value(key) for key in keys] == ["s", "e", "n", "a"]
    clock.forward(6)
    assert [value(key) for key in keys] == ["s", "e", "n", "a"]
    wait_for_our_threads()
    assert sorted(calls[4:]) == ["short"]
    clock.forward(60)
    assert value("never stale") == "n"
    assert calls[-1] == "never stale"
    assert value("ever") == "e"
    assert calls.count("ever") == 1


# One fetch for everybody.


@pytest.mark.parametrize("expired", [True, False])
def test_two_hundred_threads_on_an_expired_or_absent_value_share_one_fetch(
    prerender, source, clock, expired
):
    value = prerender.data(ttl=60, stale_ttl=10)(source)
    if expired:
        value()
        clock.forward(70)
    source.calls.clear()
    source.go.clear()

    def let_go():
        # All the others wait for the one who fetches.
        wait_until(lambda: value.stats().shared == 199)
        source.go.set()

    threading.Thread(target=let_go).start()
    assert at_once(200, value) == ["x1"] * 200
    assert len(source.calls) == 1


def test_who_looked_before_a_fetch_was_over_does_not_fetch_again(prerender, source):
    looked, go = threading.Event(), threading.Event()

    class Slow(SimpleCache):
        def get(self, key):
            found = super().get(key)
            if threading.current_thread() is late and not looked.is_set():
                looked.set()
                assert go.wait(SECONDS)
            return found

    value = prerender.data(cache=Slow(1000))(source)
    results = []
    late = threading.Thread(target=lambda: results.append(value()))
    late.start()
    assert looked.wait(SECONDS)
    assert value() == "x1"
    go.set()
    late.join(SECONDS)
    assert (results, len(source.calls)) == (["x1"], 1)


def test_two_hundred_threads_on_a_stale_value_make_one_fetch_behind_them(prerender, source, clock):
    value = prerender.data(ttl=60)(source)
    value()
    clock.forward(60)
    source.go.clear()
    assert at_once(200, value) == ["x1"] * 200
    source.go.set()
    wait_for_our_threads()
    assert (value(), len(source.calls)) == ("x2", 2)


def test_who_waits_for_a_fetch_that_fails_gets_its_error(prerender, source):
    value = prerender.data(source)
    source.error = KeyError("gone")
    source.go.clear()

    def let_go():
        wait_until(lambda: value.stats().shared == 19)
        source.go.set()

    threading.Thread(target=let_go).start()
    errors = at_once(20, value)
    assert len(source.calls) == 1
    # Each has an error of its own, and sees where it was raised.
    assert len(set(map(id, errors))) == 20
    assert {(type(one), one.args) for one in errors} == {(KeyError, ("gone",))}
    assert {traceback.extract_tb(one.__traceback__)[-1].name for one in errors} == {"__call__"}
    assert value.stats().values == 0


def test_who_waits_for_a_fetch_that_was_ended_is_told_so(prerender, source):
    value = prerender.data(source)
    source.go.clear()
    source.error = SystemExit("stop")
    ended = []

    def ending():
        try:
            value()
        except SystemExit:
            ended.append(1)

    one = threading.Thread(target=ending)
    one.start()
    assert source.entered.wait(SECONDS)
    results = []
    two = threading.Thread(target=lambda: results.append(error_of(value)))
    two.start()
    wait_until(lambda: value.stats().shared == 1)
    source.go.set()
    one.join(SECONDS), two.join(SECONDS)
    assert ended == [1]
    assert isinstance(results[0], DataError)
    assert "SystemExit" in str(results[0])
    source.error = None
    assert value() == "x2"


def test_a_value_that_asks_for_itself_is_an_error_and_no_deadlock(prerender):
    @prerender.data
    def first(key):
        return second(key)

    @prerender.data
    def second(key):
        return first(key)

    with pytest.raises(DataError, match=r"first\('a'\) asks for itself"):
        first("a")


def test_who_waits_too_long_gives_up_and_the_next_one_tries_again(make_app, clock, caplog):
    app = make_app({"PRERENDER_TIMEOUT": 0.2})
    entered, go, numbers, results = threading.Event(), threading.Event(), iter("12"), []

    @Prerender(clock=clock).data
    def value():
        number = next(numbers)
        if number == "1":
            entered.set()
            assert go.wait(SECONDS)
        return number

    def hang():
        with app.app_context():
            results.append(value())

    hung = threading.Thread(target=hang)
    hung.start()
    assert entered.wait(SECONDS)
    with app.app_context():
        with pytest.raises(DataError, match=r"fetching it for more than 0\.2 s"):
            value()
        assert value() == "2"
        assert caplog.text.count("hangs, and another one takes its place") == 1
        go.set()
        hung.join(SECONDS)
        assert results == ["1"]
        # What the hung one got at last came too late to be kept.
        assert value() == "2"


def test_the_threads_are_bounded(prerender, clock):
    source = Source()
    value = prerender.data(ttl=60)(source)
    for number in range(20):
        value(number)
    clock.forward(60)
    source.go.clear()
    for number in range(20):
        value(number)
    busy = [thread for thread in threading.enumerate() if thread.name == "prerender-data"]
    assert len(busy) == 4
    assert all(thread.daemon for thread in busy)
    source.go.set()
    wait_for_our_threads()
    assert len(source.calls) == 24
    # The others are fetched when they are asked for again.
    assert value(19) == "1920"
    wait_for_our_threads()
    assert len(source.calls) == 25


def test_where_no_thread_can_start_the_stale_value_is_served(prerender, source, clock, monkeypatch):
    value = prerender.data(ttl=60, stale_ttl=10)(source)
    value()
    clock.forward(60)

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert [value() for _ in range(10)] == ["x1"] * 10
    assert value() == "x1"
    wait_for_our_threads()
    assert value() == "x2"


# Errors.


def test_an_error_of_the_callers_own_fetch_is_the_callers(prerender, source):
    value = prerender.data(source)
    source.error = ValueError("no")
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            value()
    source.error = None
    assert value() == "x3"
    assert (value.stats().failed, value.stats().fetched) == (2, 1)


def test_an_error_behind_the_caller_keeps_the_stale_value_and_is_logged_once(
    prerender, source, clock, caplog
):
    caplog.set_level(logging.INFO, "flask_prerender")
    value = prerender.data(ttl=60, stale_ttl=None, name="prices")(source)
    value("EUR")
    source.error = ValueError("no")
    for _ in range(600):
        clock.forward(1)
        assert value("EUR") == "EUR1"
        wait_for_our_threads()
    # At 60 s, then after about 30, 60, 120 and 240 s.
    assert 4 <= len(source.calls) - 1 <= 6
    assert len(caplog.records) == 1
    assert caplog.records[0].exc_info[1] is source.error
    assert "prices('EUR') could not be fetched: ValueError('no')" in caplog.text
    source.error = None
    clock.forward(600)
    value("EUR")
    wait_for_our_threads()
    assert value("EUR") != "EUR1"
    assert "prices('EUR') is fetched again" in caplog.text
    clock.forward(60)
    source.error = ValueError("again")
    value("EUR")
    wait_for_our_threads()
    assert "again" in caplog.records[-1].getMessage()


def test_a_fetch_behind_the_caller_that_ends_its_thread_is_a_failure_like_others(
    prerender, source, clock
):
    value = prerender.data(ttl=60)(source)
    value()
    source.error = SystemExit("stop")
    clock.forward(60)
    assert value() == "x1"
    wait_for_our_threads()
    assert value.stats().failed == 1
    source.error = None
    clock.forward(60)
    value()
    wait_for_our_threads()
    assert value() == "x3"


def test_an_error_that_many_raise_does_not_grow():
    flight = Flight("x", SECONDS)
    flight.land(None, ValueError("no"))
    for _ in range(50):
        with pytest.raises(ValueError, match="no") as caught:
            flight.wait(SECONDS)
    assert len(caught.traceback) < 5


class Copied(Exception):
    """Made of more than its arguments, or of something else."""

    def __init__(self, code, *, why):
        super().__init__(f"{code}: {why}")


class Turned(Exception):
    def __reduce__(self):
        return (str, ("no error",))


@pytest.mark.parametrize("error", [Copied(7, why="so"), Turned("so")])
def test_an_error_that_cannot_be_copied_is_raised_itself(error):
    flight = Flight("x", SECONDS)
    flight.land(None, error)
    with pytest.raises(type(error)) as caught:
        flight.wait(SECONDS)
    assert caught.value is error


def test_a_fetch_that_hangs_in_a_thread_leaves_its_place_to_others(make_app, clock, caplog):
    app, source = make_app({"PRERENDER_TIMEOUT": 0.05}), Source()
    value = Prerender(clock=clock).data(ttl=60)(source)

    def threads_hang(count):
        wait_until(lambda: len(source.calls) == count)
        flights = value._home.flights
        wait_until(lambda: all(flight.hangs for flight in flights._in_threads))

    with app.app_context():
        for number in range(10):
            value(number)
        clock.forward(60)
        source.go.clear()
        for number in range(4):
            assert value(number) == f"{number}{number + 1}"
        threads_hang(14)
        for number in range(4, 8):
            assert value(number) == f"{number}{number + 1}"
        threads_hang(18)
        assert caplog.text.count("hangs; its thread is left behind") == 4
        assert caplog.text.count("4 fetches hang: no others take the place of more") == 1
        # Four were left behind, and four more have all the places there are.
        assert value(8) == "89"
        busy = [thread for thread in threading.enumerate() if thread.name == "prerender-data"]
        assert len(busy) == 8
        source.go.set()
        wait_for_our_threads()
        assert len(source.calls) == 18
        value(8)
        wait_for_our_threads()
        assert value(8) == "819"


def test_a_fork_that_python_was_not_told_of_is_noticed(prerender, source, clock, monkeypatch):
    value = prerender.data(ttl=60)(source)
    value()
    clock.forward(60)
    source.go.clear()
    value()
    flights = value._home.flights
    assert (len(flights), len(flights._in_threads)) == (1, 1)
    before = flights._lock
    monkeypatch.setattr("flask_prerender.data.flights._process", 0)
    assert value() == "x1"
    assert flights._lock is not before
    # The child begins a fetch of its own.
    wait_until(lambda: len(source.calls) == 3)
    source.go.set()


def test_a_clock_that_is_set_back_ends_a_rest(prerender, source, clock):
    value = prerender.data(ttl=60)(source)
    value()
    clock.forward(60)
    source.error = ValueError("no")
    value()
    wait_for_our_threads()
    source.error = None
    clock.forward(-3600)
    assert value() == "x1"
    wait_for_our_threads()
    assert value() == "x3"


def test_a_value_that_rests_is_fetched_all_the_same_when_it_is_expired(prerender, source, clock):
    value = prerender.data(ttl=60, stale_ttl=10)(source)
    value()
    clock.forward(69)
    source.error = ValueError("no")
    assert value() == "x1"
    wait_for_our_threads()
    source.error = None
    clock.forward(1)
    assert value() == "x3"


# Keys.


def test_each_combination_of_arguments_has_a_value(prerender):
    calls = []

    @prerender.data
    def price(sku, currency="EUR", *more, **options):
        calls.append((sku, currency, more, options))
        return len(calls)

    assert price("a") == price("a", "EUR") == price(sku="a", currency="EUR") == 1
    assert price("a", "USD") == 2
    assert price("b") == 3
    assert price("a", "EUR", 1) == 4
    assert price("a", size=1, colour="red") == price("a", colour="red", size=1) == 5
    assert [price(1), price(1.0), price(True), price("1")] == [6, 7, 8, 9]


def test_arguments_whose_texts_run_together_are_different_keys(prerender):
    value = prerender.data(lambda *parts: parts)
    for parts in [("a", "b"), ("a', 'b",), (("a", "b"),), ("a", ("b",)), (), ("",), ([],), ((),)]:
        assert value(*parts) == parts
    named = prerender.data(lambda *parts, **names: (parts, names))
    assert named(("a", 1)) != named(a=1)
    one = prerender.data(lambda part: type(part))
    assert [one(["a"]), one(("a",)), one(0.0), one(-0.0), one(0), one(False)] == [
        list, tuple, float, float, int, bool,
    ]  # fmt: skip
    assert one.stats().fetched == 6


def test_a_dict_is_no_key_however_it_is_given(prerender):
    value = prerender.data(lambda part: part)
    with pytest.raises(DataError, match=r"key of .* is made of \{'a': 1\}"):
        value({"a": 1})
    with pytest.raises(DataError, match=r"key of .* is made of \{'a': 1\}"):
        value(part={"a": 1})


def test_an_argument_without_one_text_needs_a_key(prerender):
    class User:
        id = 7

    @prerender.data
    def name(user):
        return "never"

    with pytest.raises(DataError, match=r"key of .*name is made of .*User.*Give key="):
        name(User())

    @prerender.data(key=lambda user: user.id)
    def mended(user):
        return user.id

    assert mended(User()) == mended(User()) == 7
    assert mended.stats().fetched == 1
    assert mended.key(User()) == 7


def test_a_key_may_be_made_of_any_arguments(prerender):
    total = prerender.data(key=lambda *prices, **options: sum(prices))(
        lambda *prices, **options: [prices, options]
    )
    assert total(1, 2) == total(3, tax=0) == [(1, 2), {}]
    with pytest.raises(ConfigError, match="is async"):
        prerender.data(key=a_coroutine)(lambda *prices: prices)


def test_a_text_is_one_key_for_all(prerender, source):
    value = prerender.data(key="all")(source)
    assert value("a") == value("b") == "a1"


def test_a_long_key_takes_no_more_room_than_another(prerender, source):
    value = prerender.data(source)
    long = "x" * 100_000
    assert value(long) == value(long) != value(long + "y")
    assert max(map(len, value._source().shelf._place.names())) < 300


def test_the_number_of_values_is_bounded_and_the_least_recently_used_goes(prerender, source):
    value = prerender.data(max_values=3)(source)
    for key in "abc":
        value(key)
    assert value("a") == "a1"
    value("d")
    assert (value("a"), value("c"), value("d")) == ("a1", "c3", "d4")
    assert value("b") == "b5"
    stats = value.stats()
    assert (stats.values, stats.evicted, stats.fetched) == (3, 2, 5)


def test_a_method_is_a_function_of_its_object(prerender):
    class Shop:
        def __init__(self, name):
            self.name = name

        @prerender.data(key=lambda self, sku: (self.name, sku))
        def price(self, sku):
            return f"{self.name} {sku}"

    assert Shop("a").price("x") == "a x"
    assert Shop("b").price("x") == "b x"
    assert Shop("a").price("x") == "a x"
    assert Shop.price.stats().fetched == 2


def test_the_decorated_function_is_still_known_by_its_name(prerender):
    @prerender.data(ttl=1)
    def price(sku: str) -> int:
        """How much it is."""
        return 1

    assert (price.__name__, price.__doc__) == ("price", "How much it is.")
    assert price.__wrapped__("a") == 1
    assert price.name == f"{__name__}.{price.__qualname__}"


# Taken back.


def test_a_purged_value_is_gone_and_the_others_stay(prerender, source):
    value = prerender.data(source)
    value("a"), value("b")
    value.purge("a")
    assert value.stats().values == 1
    assert (value("b"), value("a")) == ("b2", "a3")
    value.purge()
    assert value.stats().values == 0
    assert (value("a"), value("b")) == ("a4", "b5")


def test_a_revalidated_value_is_served_once_more_while_it_is_fetched(prerender, source):
    value = prerender.data(ttl=None)(source)
    value("a"), value("b")
    value.revalidate("a")
    assert value("a") == "a1"
    wait_for_our_threads()
    assert (value("a"), value("b")) == ("a3", "b2")
    value.revalidate()
    assert (value("a"), value("b")) == ("a3", "b2")
    wait_for_our_threads()
    assert sorted(source.calls) == ["a"] * 3 + ["b"] * 2


@pytest.mark.parametrize("bound", [True, False])
def test_a_value_that_is_purged_while_it_is_fetched_is_not_kept(site, prerender, bound):
    made = site.prerender if bound else prerender
    answers = iter(["old", "new"])
    entered, go = threading.Event(), threading.Event()

    @made.data
    def value():
        answer = next(answers)
        entered.set()
        assert go.wait(SECONDS)
        return answer

    results = []
    first = threading.Thread(target=lambda: results.append(value()))
    first.start()
    assert entered.wait(SECONDS)
    value.purge()
    # Whoever asks after the purge joins the fetch that is under way, and is not served its value.
    second = threading.Thread(target=lambda: results.append(value()))
    second.start()
    wait_until(lambda: value.stats().shared == 1)
    go.set()
    first.join(SECONDS), second.join(SECONDS)
    assert sorted(results) == ["new", "old"]
    assert value() == "new"


@pytest.mark.parametrize("cache", [None, lambda: SimpleCache(threshold=1000)])
def test_a_tag_takes_values_back_softly_and_hard(site, cache):
    source = Source()
    value = site.prerender.data(
        ttl=None, tags=lambda key: [f"sku:{key}", "prices"], cache=cache and cache()
    )(source)
    with site.app.app_context():
        value("a"), value("b")
        site.prerender.revalidate(tag="sku:a")
        assert (value("a"), value("b")) == ("a1", "b2")
        wait_for_our_threads()
        assert (value("a"), value("b")) == ("a3", "b2")
        site.prerender.purge(tag=["prices"])
        assert (value("a"), value("b")) == ("a4", "b5")
        site.prerender.purge(everything=True)
        assert (value("a"), value("b")) == ("a6", "b7")
        site.prerender.purge(tag="data:" + value.name)
        assert (value("a"), value("b")) == ("a8", "b9")


def test_tags_that_are_known_only_after_the_fetch_take_a_value_back(site):
    calls = []

    @site.prerender.data(ttl=None)
    def post(number):
        calls.append(number)
        return Fetched(len(calls), tags=["author:7"])

    with site.app.app_context():
        assert post(1) == post(1) == 1
        site.prerender.purge(tag="author:7")
        assert post(1) == 2


def test_the_values_of_other_workers_are_taken_back_too(make_app, clock):
    apps = [make_app(), make_app()]
    answers = iter("abcd")
    values = [Prerender(clock=clock).data(ttl=None, name="v")(lambda: next(answers)) for _ in apps]

    def ask(number):
        with apps[number].app_context():
            return values[number]()

    assert [ask(0), ask(1)] == ["a", "b"]
    with apps[0].app_context():
        values[0].purge()
    assert [ask(1), ask(0)] == ["c", "d"]
    assert [ask(1), ask(0)] == ["c", "d"]


def test_what_is_seen_to_come_before_it_is_written_is_read_when_it_is_there(
    site, source, monkeypatch
):
    """The counter moves a moment before the row that it counts can be read."""
    value = site.prerender.data(ttl=None, tags=["t"])(source)
    state = site.app.extensions["prerender"]
    with site.app.app_context():
        site.prerender.purge(tag="other")
        assert value() == "x1"
        ahead = state.coordination.revision() + 1
        with monkeypatch.context() as patch:
            patch.setattr(state.coordination, "revision", lambda: ahead)
            assert value() == "x1"
        # Another process wrote it.
        state.coordination.revoke(["t"], hard=True)
        assert state.coordination.revision() == ahead
        assert value() == "x2"


def test_a_command_and_a_request_from_outside_take_values_back(site, source):
    value = site.prerender.data(ttl=None, tags=["prices"])(source)
    with site.app.app_context():
        assert value() == "x1"
        ran = site.app.test_cli_runner().invoke(args=["prerender", "purge", "--tag", "prices"])
        assert ran.exit_code == 0, ran.output
        assert value() == "x2"
        answer = site.app.test_client().post(
            "/_prerender/purge",
            json={"tag": "prices"},
            headers={"Authorization": f"Bearer {TOKEN}"},
        )
        assert answer.status_code == 200
        assert value() == "x3"


def test_where_it_cannot_be_read_what_was_taken_back_values_are_served_on(
    site, source, monkeypatch, caplog
):
    value = site.prerender.data(ttl=None)(source)

    def refuse():
        raise StoreError("the disk is gone")

    state = site.app.extensions["prerender"]
    with site.app.app_context(), monkeypatch.context() as patch:
        value("a")
        value.revalidate("b")
        patch.setattr(state.revocations, "follow", refuse)
        assert [value("a") for _ in range(5)] == ["a1"] * 5
    assert caplog.text.count("the disk is gone") == 1


def test_more_is_taken_back_than_can_be_remembered_without_an_app(prerender, source):
    value = prerender.data(ttl=None)(source)
    value("a")
    for number in range(10_001):
        value.revalidate(number)
    newest = value._source().shelf._revoked._newest
    assert len(newest) < 10_000
    assert value("a") == "a2"


# Who asks, and what the function sees.


def test_the_function_sees_the_app_and_nothing_of_the_visitor(site, clock):
    seen = []

    @site.prerender.data(ttl=60)
    def value():
        seen.append((has_app_context() and current_app.name, has_request_context(), g.get("user")))
        return "v"

    @site.app.route("/")
    def index():
        g.user = "alice"
        assert value() == "v"
        assert g.user == "alice"
        return request.path

    for _ in range(2):
        assert site.get("/") == "/"
        clock.forward(60)
    wait_for_our_threads()
    assert seen == [("site", False, None)] * 2


def test_an_app_that_is_the_only_one_is_there_outside_of_its_contexts(site):
    @site.prerender.data(tags=["t"])
    def value():
        return current_app.name

    assert value() == "site"
    with site.app.app_context():
        assert value.stats().fresh == 0
        value()
        site.prerender.purge(tag="t")
    assert value() == "site"
    assert (value.stats().fresh, value.stats().fetched) == (1, 2)


def test_each_app_has_values_of_its_own(make_app, clock):
    prerender = Prerender(clock=clock)
    value = prerender.data(lambda: current_app.config["NAME"])
    apps = [make_app({"NAME": name}, instance=name) for name in "ab"]
    for app in (*apps, *apps):
        with app.app_context():
            assert value() == app.config["NAME"]


def test_the_values_of_an_app_go_with_it(tmp_path):
    prerender = Prerender()
    value = prerender.data(lambda: Source())
    app = Flask("gone", instance_path=str(tmp_path))
    prerender.init_app(app)
    with app.app_context():
        kept = weakref.ref(value())
    app.extensions["prerender"].close()
    del app
    gc.collect()
    assert kept() is None


def test_without_an_app_nothing_is_inherited_and_everything_else_works(prerender, source, clock):
    assert not has_app_context()
    value = prerender.data(ttl=60, tags=["t"])(source)
    assert value() == "x1"
    clock.forward(60)
    assert value() == "x1"
    wait_for_our_threads()
    assert value() == "x2"
    stats = value.stats()
    assert (stats.fresh, stats.stale, stats.fetched, stats.failed) == (1, 1, 2, 0)


def test_an_app_without_the_extension_does_not_matter(prerender, source):
    value = prerender.data(source)
    with Flask("plain").app_context():
        assert value() == "x1"
    assert value() == "x1"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_fetches_with_locks_and_threads_of_its_own(prerender, source, clock):
    value = prerender.data(ttl=60)(source)
    value("a"), value("b")
    clock.forward(60)
    source.go.clear()
    source.entered.clear()
    assert value("a") == "a1"
    assert source.entered.wait(SECONDS)
    source_ = value._source()
    shelf = source_.shelf
    held, forked = threading.Event(), threading.Event()

    def hold():
        with (
            prerender.data._home.lock,
            shelf._lock,
            shelf._place._lock,
            source_._flights._lock,
            shelf._revoked._lock,
        ):
            held.set()
            assert forked.wait(SECONDS)

    # The parent forks while a thread of it fetches, and while another holds every lock.
    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(SECONDS)
    child = os.fork()
    if child:
        forked.set()
        source.go.set()
        holder.join(SECONDS)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        return
    status = 1
    try:
        signal.alarm(10)
        source.go.set()
        assert len(source_._flights) == 0
        assert value("a") == "a1"
        wait_until(lambda: value("a") == "a4")
        value.purge("b")
        assert value("b") == "b5"
        assert prerender.data(lambda: "new")() == "new"
        status = 0
    finally:
        os._exit(status)


# Registration.


def a_generator():
    yield 1


class Async:
    async def __call__(self):
        return 1


@pytest.mark.parametrize(
    ("options", "function", "said"),
    [
        ({}, 7, r"keeps the value of a function, and got 7"),
        ({}, a_coroutine, r"a_coroutine is async"),
        ({}, Async(), r"Async object .* is async"),
        ({}, a_generator, r"a_generator is a generator"),
        ({"ttl": -1}, len, r"data\(\) of len: ttl= is -1"),
        ({"ttl": True}, len, "ttl= is True"),
        ({"ttl": "60"}, len, "ttl= is '60'"),
        ({"ttl": float("nan")}, len, "ttl= is nan"),
        ({"ttl": float("inf")}, len, "ttl= is inf, and must be seconds, or None for ever"),
        ({}, functools.partial(a_coroutine), "is async"),
        ({"on_error": lambda: 1}, len, r"on_error= must be a function of 1 argument \(error\)"),
        ({"on_error": 7}, len, "on_error= is 7"),
        ({"onerror": len}, len, r"Did you mean 'on_error'\?"),
        ({"stale_ttl": -1}, len, "stale_ttl= is -1"),
        ({"max_values": 0}, len, "max_values= is 0"),
        ({"max_values": 1.5}, len, r"max_values= is 1\.5"),
        ({"tags": "prices"}, len, "tags= is 'prices', and must be a list"),
        ({"tags": [""]}, len, "tags="),
        ({"tags": ["x" * 257]}, len, "tags="),
        ({"tags": 7}, len, "tags= is 7"),
        ({"tags": lambda: []}, len, r"tags= must be a function of 1 argument \(obj\)"),
        ({"key": lambda a, b: a}, len, r"key= must be a function of 1 argument \(obj\), and .*lam"),
        ({"key": 7}, len, "key= is 7"),
        ({"name": ""}, len, "name="),
        ({"name": "n" * 201}, len, "name="),
        ({"dumps": str}, len, "dumps= and loads= are given together"),
        ({"dumps": str, "loads": str}, len, "are for a cache="),
        ({"tll": 60}, len, r"there is no option 'tll'\. Did you mean 'ttl'\?"),
    ],
)
def test_what_cannot_be_kept_is_refused_at_registration(prerender, options, function, said):
    with pytest.raises(ConfigError, match=said):
        prerender.data(**options)(function)


def test_what_can_be_read_only_once_is_not_kept(prerender):
    once = {
        "generator": lambda: (one for one in "ab"),
        "map": lambda: map(str, "ab"),
        "coroutine": lambda: a_coroutine(),
    }
    value = prerender.data(name="once")(lambda kind: once[kind]())
    for kind in once:
        with pytest.raises(DataError, match=rf"once\('{kind}'\) returned a {kind}, .* only once"):
            value(kind)
    assert value.stats().values == 0


@pytest.mark.parametrize(
    ("life", "said"),
    [
        ({"ttl": -1}, "ttl= is -1"),
        ({"ttl": "60"}, "ttl= is '60'"),
        ({"ttl": float("nan")}, "ttl= is nan"),
        ({"stale_ttl": True}, "stale_ttl= is True"),
        ({"tags": "prices"}, "tags= is 'prices'"),
    ],
)
def test_a_life_that_is_none_is_an_error_of_the_fetch(prerender, life, said):
    value = prerender.data(lambda: Fetched(1, **life))
    with pytest.raises(DataError, match=said):
        value()
    assert value.stats().values == 0


def test_on_error_answers_in_place_of_a_value_that_could_not_be_had(prerender, source, clock):
    errors = []
    value = prerender.data(ttl=60, stale_ttl=10, on_error=lambda e: errors.append(e) or "none")(
        source
    )
    source.error = ValueError("no")
    assert [value(), value()] == ["none", "none"]
    assert errors == [source.error] * 2
    source.error = None
    # Its answer was not kept.
    assert value() == "x3"
    source.error = ValueError("behind")
    clock.forward(60)
    assert value() == "x3"
    wait_for_our_threads()
    assert (len(source.calls), len(errors)) == (4, 2)
    clock.forward(10)
    assert value() == "none"


def test_on_error_may_raise(prerender, source):
    def closed(error):
        raise LookupError("closed") from error

    value = prerender.data(on_error=closed)(source)
    source.error = ValueError("no")
    with pytest.raises(LookupError, match="closed"):
        value()


def test_tags_that_are_no_tags_are_an_error_of_the_fetch(prerender):
    value = prerender.data(tags=lambda: "prices")(lambda: 1)
    with pytest.raises(DataError, match="tags= is 'prices'"):
        value()


def test_a_purge_tells_the_signal(site):
    told = []

    def note(sender, **facts):
        told.append(facts)

    value = site.prerender.data(name="prices")(lambda: 1)
    with signals.pages_revoked.connected_to(note, site.app):
        value.purge()
    assert told[0]["tags"] == ["data:prices"]
    assert told[0]["hard"] is True

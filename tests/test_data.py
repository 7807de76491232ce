"""Values of functions, kept by the rules of pages."""

from __future__ import annotations

import gc
import json
import logging
import os
import pickle
import signal
import threading
import time
import weakref

import pytest
from cachelib import FileSystemCache
from cachelib import NullCache
from cachelib import SimpleCache
from flask import abort
from flask import current_app
from flask import Flask
from flask import g
from flask import has_app_context
from flask import has_request_context
from flask import request
from flask.views import MethodView

from conftest import wait_for_our_threads
from flask_prerender import ConfigError
from flask_prerender import DataError
from flask_prerender import Fetched
from flask_prerender import Prerender
from flask_prerender import signals
from flask_prerender import StoreError
from flask_prerender.data.fetches import Flight

SECONDS = 20.0


@pytest.fixture
def prerender(clock):
    """An instance that is bound to no app."""
    return Prerender(clock=clock)


@pytest.fixture
def site(tmp_path, clock):
    """An app with everything on it; ``site.prerender`` is the instance."""

    class Site:
        prerender = Prerender(clock=clock)
        app = Flask("site", root_path=str(tmp_path), instance_path=str(tmp_path / "instance"))

        def page(self, key):
            return self.app.extensions["prerender"].store.get(key)

        def get(self, path):
            return self.app.test_client().get(path).text

    (tmp_path / "instance").mkdir()
    Site.app.config["PRERENDER_JITTER"] = 0.0
    Site.prerender.init_app(Site.app)
    yield Site()
    wait_for_our_threads()
    Site.app.extensions["prerender"].close()


class Source:
    """Where values come from: it counts, waits when it is told to, and fails when it is told to."""

    def __init__(self):
        self.calls = []
        self.error = None
        self.entered = threading.Event()
        self.go = threading.Event()
        self.go.set()

    def __call__(self, key="x"):
        self.calls.append(key)
        number = len(self.calls)
        self.entered.set()
        assert self.go.wait(SECONDS)
        if self.error:
            raise self.error
        return f"{key}{number}"


@pytest.fixture
def source():
    return Source()


def at_once(count, call):
    """Call in many threads, all at the same moment, and return what each got or raised."""
    start, results = threading.Barrier(count), []

    def run():
        start.wait(SECONDS)
        results.append(error_of(call))

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert len(results) == count
    return results


def error_of(call):
    try:
        return call()
    except Exception as error:
        return error


def wait_until(true):
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


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


def test_a_value_from_the_future_is_stale_and_fetched_again(prerender, source, clock):
    value = prerender.data(ttl=60)(source)
    value()
    clock.forward(-1000)
    assert value() == "x1"
    wait_for_our_threads()
    assert value() == "x2"


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
    assert at_once(20, value) == [source.error] * 20
    assert len(source.calls) == 1
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


def test_who_waits_too_long_gives_up_and_the_next_one_tries_again(make_app, clock):
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
    flight = Flight()
    flight.land(None, ValueError("no"))
    for _ in range(50):
        with pytest.raises(ValueError, match="no") as caught:
            flight.wait(SECONDS)
    assert len(caught.traceback) < 5


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
    for parts in [("a", "b"), ("a', 'b",), (("a", "b"),), ("a", ("b",)), (), ("",)]:
        assert value(*parts) == parts


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
    assert max(map(len, value._shelf()._place.names())) < 300


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
    newest = value._shelf()._revoked._newest
    assert len(newest) < 10_000
    assert value("a") == "a2"


# In a page.


def test_a_page_has_the_tags_of_its_values_and_their_life(site, clock):
    source = Source()
    price = site.prerender.data(ttl=60, tags=["prices"])(source)
    name = site.prerender.data(ttl=None, tags=["names"])(lambda: "n")

    @site.app.route("/")
    @site.app.prerender(fallback="render")
    def index():
        return f"{price()} {name()}"

    with site.app.app_context():
        price()
    clock.forward(20)
    assert site.get("/") == "x1 n"
    page = site.page("/")
    assert {"prices", "names", f"data:{price.name}"} <= set(page.tags)
    assert page.revalidate == 40.0
    with site.app.app_context():
        site.prerender.purge(tag="prices")
    assert site.get("/") == "x2 n"
    assert site.page("/").revalidate == 60.0
    with site.app.app_context():
        price.purge()
    assert site.get("/") == "x3 n"


def test_a_page_of_a_stale_value_has_a_short_life(site, clock):
    source = Source()
    price = site.prerender.data(ttl=60)(source)

    @site.app.route("/")
    @site.app.prerender(fallback="render")
    def index():
        return price()

    with site.app.app_context():
        price()
    clock.forward(60)
    assert site.get("/") == "x1"
    assert site.page("/").revalidate == 2.0
    wait_for_our_threads()
    clock.forward(2)
    assert site.get("/") == "x1"
    wait_for_our_threads()
    assert site.get("/") == "x2"
    assert site.page("/").revalidate == 58.0


def test_a_page_of_a_value_about_to_be_stale_is_not_rendered_at_every_visit(site, clock):
    value = site.prerender.data(ttl=60)(lambda: "v")

    @site.app.route("/")
    @site.app.prerender(fallback="render")
    def index():
        return value()

    with site.app.app_context():
        value()
    clock.forward(59.75)
    assert site.get("/") == "v"
    assert site.page("/").revalidate == 1.0


def test_a_page_of_values_that_last_for_ever_lasts_for_ever(site):
    value = site.prerender.data(ttl=None)(lambda: "v")

    @site.app.route("/")
    @site.app.prerender(fallback="render")
    def index():
        return value()

    assert site.get("/") == "v"
    assert site.page("/").revalidate is None


def test_a_value_made_of_values_has_their_tags_and_the_shortest_life(site, clock):
    prices = Source()
    price = site.prerender.data(ttl=10, stale_ttl=0, tags=["prices"])(prices)

    @site.prerender.data(ttl=60, stale_ttl=0)
    def basket():
        return f"{price('a')} {price('b')}"

    @site.app.route("/")
    @site.app.prerender(fallback="render")
    def index():
        return basket()

    assert site.get("/") == "a1 b2"
    assert site.page("/").revalidate == 10.0
    assert "prices" in site.page("/").tags
    clock.forward(10)
    with site.app.app_context():
        assert basket() == "a3 b4"
        site.prerender.purge(tag="prices")
        assert basket() == "a5 b6"


def test_a_purge_of_one_key_takes_the_pages_made_of_it(site):
    source = Source()
    price = site.prerender.data(ttl=None)(source)

    @site.app.route("/<sku>")
    @site.app.prerender(fallback="render")
    def show(sku):
        return price(sku)

    assert (site.get("/a"), site.get("/b")) == ("a1", "b2")
    with site.app.app_context():
        price.purge("a")
    assert (site.get("/b"), site.get("/a")) == ("b2", "a3")


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
    shelf = value._shelf()
    held, forked = threading.Event(), threading.Event()

    def hold():
        with (
            prerender.data._home.lock,
            shelf._lock,
            shelf._place._lock,
            shelf._fetches._lock,
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
        assert len(shelf._fetches) == 0
        assert value("a") == "a1"
        wait_until(lambda: value("a") == "a4")
        value.purge("b")
        assert value("b") == "b5"
        assert prerender.data(lambda: "new")() == "new"
        status = 0
    finally:
        os._exit(status)


# In a cache of cachelib.


@pytest.fixture(params=["simple", "file"])
def make_cache(request, tmp_path):
    def make(**options):
        options = {"threshold": 1000, **options}
        if request.param == "simple":
            return SimpleCache(**options)
        return FileSystemCache(str(tmp_path / "cache"), **options)

    return make


def test_a_cache_keeps_values_for_their_whole_life(prerender, source, clock, make_cache):
    value = prerender.data(ttl=60, cache=make_cache(default_timeout=1))(source)
    assert value("a") == "a1"
    clock.forward(59)
    assert value("a") == "a1"
    clock.forward(1)
    assert value("a") == "a1"
    wait_for_our_threads()
    assert value("a") == "a2"
    value.revalidate("a")
    assert value("a") == "a2"
    wait_for_our_threads()
    value.purge("a")
    assert value("a") == "a4"
    clock.forward(3660)
    assert value("a") == "a5"


def test_the_cache_is_told_the_life_of_the_value(prerender, clock):
    told = []

    class Told(SimpleCache):
        def set(self, key, value, timeout=None):
            assert isinstance(value, bytes)
            told.append(timeout)
            return super().set(key, value, timeout)

    value = prerender.data(cache=Told(1000))(
        lambda ttl, stale: Fetched(1, ttl=ttl, stale_ttl=stale)
    )
    for life in [(7, 100.5), (None, 1), (1, None), (10.0**12, 1)]:
        value(*life)
    assert told == [109, 0, 0, 10 * 365 * 86400]


def test_processes_share_what_is_in_a_cache(clock, tmp_path):
    calls = []
    values = []
    for _ in range(2):
        cache = FileSystemCache(str(tmp_path / "cache"), threshold=1000)
        values.append(
            Prerender(clock=clock).data(name="v", cache=cache, tags=["t"])(
                lambda: calls.append(1) or {"n": len(calls), "list": [None, 1.5, "ü"]}
            )
        )
    assert values[0]() == values[1]() == {"n": 1, "list": [None, 1.5, "ü"]}
    values[0].purge()
    assert values[1]()["n"] == 2
    assert values[0]()["n"] == 2


def test_the_first_caller_gets_what_all_others_get(prerender):
    value = prerender.data(cache=SimpleCache(1000))(lambda: {"pair": (1, 2), 3: "three"})
    first = value()
    assert first == value() == {"pair": [1, 2], "3": "three"}


def test_what_is_no_json_is_refused_in_words_that_say_so(prerender, make_cache):
    class Price:
        pass

    value = prerender.data(name="price", cache=make_cache())(lambda: Price())
    with pytest.raises(DataError, match=r"price returned a Price .* JSON .*dumps= and loads="):
        value()


def test_own_forms_may_be_given(prerender, make_cache):
    value = prerender.data(
        cache=make_cache(), dumps=lambda pair: b"%d\n%d" % pair, loads=lambda raw: tuple(
            map(int, raw.split())
        ),
    )(lambda: (1, 2))  # fmt: skip
    assert value() == value() == (1, 2)
    assert value.stats().fetched == 1


def test_the_error_of_an_own_form_is_the_callers(prerender):
    def refuse(value):
        raise ValueError("not this one")

    value = prerender.data(cache=SimpleCache(1000), dumps=refuse, loads=json.loads)(lambda: 1)
    with pytest.raises(ValueError, match="not this one"):
        value()


def test_own_forms_that_do_not_fit_together_are_an_error(prerender):
    value = prerender.data(cache=SimpleCache(1000), dumps=str, loads=json.loads)(lambda: "{")
    with pytest.raises(DataError, match="loads= cannot read what dumps= wrote"):
        value()


class Bomb:
    def __reduce__(self):
        return (os.mkdir, ("exploded",))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda raw: raw[:-1], id="cut"),
        pytest.param(lambda raw: raw + b" ", id="longer"),
        pytest.param(lambda raw: raw.replace(b'"a1"', b'"b1"'), id="changed"),
        pytest.param(lambda raw: raw.replace(b"data 1", b"data 2"), id="another version"),
        pytest.param(lambda raw: raw[10:], id="without its head"),
        pytest.param(lambda raw: b"", id="empty"),
        pytest.param(lambda raw: b"\n\n", id="lines"),
        pytest.param(lambda raw: pickle.dumps(Bomb()), id="a pickle"),
    ],
)
def test_bytes_that_are_not_the_value_are_not_served(prerender, source, caplog, tmp_path, damage):
    cache = SimpleCache(1000)
    value = prerender.data(cache=cache)(source)
    value("a")
    (name,) = cache._cache
    cache.set(name, damage(cache.get(name)))
    assert value("a") == "a2"
    assert "is not a value" in caplog.text
    assert value("a") == "a2"
    assert not (tmp_path / "exploded").exists()


def test_the_bytes_of_another_key_are_not_served(prerender, source):
    cache = SimpleCache(1000)
    value = prerender.data(cache=cache)(source)
    value("a"), value("b")
    one, other = cache._cache
    cache.set(one, cache.get(other))
    assert (value("a"), value("b")) == ("a3", "b2")


def test_what_somebody_else_put_there_is_no_value(prerender, source):
    cache = SimpleCache(1000)
    value = prerender.data(cache=cache)(source)
    value("a")
    (name,) = cache._cache
    cache.set(name, {"a": 1})
    assert value("a") == "a2"


class Ailing(SimpleCache):
    is_ill = True

    def get(self, key):
        if self.is_ill:
            raise ConnectionError("down")
        return super().get(key)

    def set(self, key, value, timeout=None):
        if self.is_ill:
            raise ConnectionError("down")
        return super().set(key, value, timeout)


def test_while_a_cache_is_down_values_are_kept_in_memory(prerender, source, clock, caplog):
    caplog.set_level(logging.INFO, "flask_prerender")
    cache = Ailing(1000)
    value = prerender.data(ttl=60, cache=cache)(source)
    assert [value() for _ in range(10)] == ["x1"] * 10
    assert len(caplog.records) == 2
    assert "the Ailing cannot write: ConnectionError('down')" in caplog.text
    assert "the Ailing cannot read: ConnectionError('down')" in caplog.text
    cache.is_ill = False
    clock.forward(60)
    assert value() == "x1"
    wait_for_our_threads()
    assert value() == "x2"
    assert "the Ailing can read again" in caplog.text
    assert "the Ailing can write again" in caplog.text
    assert len(cache._cache) == 1
    # What memory had meanwhile is of no use any more.
    cache.clear()
    assert value() == "x3"


def test_while_a_cache_only_cannot_be_read_values_are_kept_in_memory(prerender, source, caplog):
    class Blind(SimpleCache):
        def get(self, key):
            raise ConnectionError("blind")

    value = prerender.data(cache=Blind(1000))(source)
    assert [value() for _ in range(10)] == ["x1"] * 10
    assert len(caplog.records) == 1


def test_a_cache_that_says_it_could_not_write_is_not_relied_on(prerender, source):
    class Full(SimpleCache):
        def set(self, key, value, timeout=None):
            return False

    value = prerender.data(cache=Full(1000))(source)
    assert value() == value() == "x1"


def test_a_process_leaves_no_more_values_in_a_cache_than_it_may(prerender, source, make_cache):
    cache = make_cache()
    value = prerender.data(max_values=3, cache=cache)(source)
    for number in range(10):
        value(str(number))
    kept = [n for n in range(10) if cache.has(value._shelf()._place._place(repr(str(n))))]
    assert kept == [7, 8, 9]
    assert value.stats().evicted == 7
    value.purge()
    assert value.stats().values == 0


@pytest.mark.parametrize(
    ("cache", "said"),
    [
        (SimpleCache(), r"SimpleCache drops values beyond 500 .* SimpleCache\(threshold=1000\)"),
        (SimpleCache(threshold=0), "beyond 500"),
        (SimpleCache(threshold=999), "beyond 999"),
        (NullCache(), "keeps nothing"),
        ({}, "must be a cache of cachelib"),
    ],
)
def test_a_cache_that_would_lose_values_is_refused(prerender, cache, said):
    with pytest.raises(ConfigError, match=said):
        prerender.data(cache=cache)(len)


def test_functions_that_share_a_cache_share_its_room(prerender):
    cache = SimpleCache(threshold=1500)
    first = prerender.data(cache=cache)(lambda: "first")
    with pytest.raises(ConfigError, match="another function named"):
        prerender.data(cache=cache)(lambda: "second")
    with pytest.raises(ConfigError, match="up to 2000"):
        prerender.data(cache=cache, name="second")(lambda: "second")
    second = prerender.data(cache=cache, name="second", max_values=500)(lambda: "second")
    assert (first(), second()) == ("first", "second")


def test_a_factory_may_make_its_functions_again(clock):
    cache = SimpleCache(threshold=1000)

    def make():
        @Prerender(clock=clock).data(cache=cache)
        def value():
            return 1

        return value

    assert make()() == make()() == 1


# Registration.


async def a_coroutine():
    return 1


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


def test_tags_that_are_no_tags_are_an_error_of_the_fetch(prerender):
    value = prerender.data(tags=lambda: "prices")(lambda: 1)
    with pytest.raises(DataError, match="tags= is 'prices'"):
        value()


# The pipeline.


class Port:
    """A port of the reference's example, line by line."""

    def __init__(self, site, **options):
        self.source, self.errors = Source(), []
        self.pipeline = site.prerender.data.pipeline(
            **{
                "extract": lambda request: request.headers.get("X-Shop", "none"),
                "key": lambda request: request.headers.get("X-Shop", "none"),
                "fetch": self.source,
                "apply": self.apply,
                **options,
            }
        )
        site.app.before_request(self.pipeline)
        site.app.add_url_rule("/", "index", self.index)
        self.client = site.app.test_client()

    def apply(self, request, value):
        g.shop = value

    def index(self):
        return f"shop {g.get('shop', '-')}"

    def get(self, shop="a"):
        response = self.client.get("/", headers={"X-Shop": shop})
        return response.status_code, response.text


def test_a_miss_fetches_and_applies_and_keeps(site):
    port = Port(site)
    assert port.get() == (200, "shop a1")
    with site.app.app_context():
        assert port.pipeline.stats().values == 1


def test_a_fresh_hit_does_not_fetch(site, clock):
    port = Port(site)
    port.get()
    clock.forward(59.9)
    assert port.get() == (200, "shop a1")
    assert len(port.source.calls) == 1


def test_a_stale_hit_is_applied_and_made_new_behind_the_request(site, clock):
    port = Port(site)
    port.get()
    clock.forward(60)
    port.source.go.clear()
    assert port.get() == (200, "shop a1")
    port.source.go.set()
    wait_for_our_threads()
    assert port.get() == (200, "shop a2")


def test_beyond_the_stale_window_the_request_fetches(site, clock):
    port = Port(site)
    port.get()
    clock.forward(3660)
    assert port.get() == (200, "shop a2")


def test_a_miss_with_an_error_goes_to_on_error_and_keeps_and_applies_nothing(site):
    errors = []
    port = Port(site, on_error=lambda request, error: errors.append((request.path, error)))
    port.source.error = ValueError("no")
    assert port.get() == (200, "shop -")
    assert errors == [("/", port.source.error)]
    with site.app.app_context():
        assert port.pipeline.stats().values == 0
    port.source.error = None
    assert port.get() == (200, "shop a2")


def test_on_error_may_end_the_request(site):
    port = Port(site, on_error=lambda request, error: ("closed", 503))
    port.source.error = ValueError("no")
    assert port.get() == (503, "closed")


def test_on_error_may_abort(site):
    port = Port(site, on_error=lambda request, error: abort(418))
    port.source.error = ValueError("no")
    assert port.get()[0] == 418


def test_without_on_error_the_error_is_logged_and_the_request_goes_on(site, caplog):
    port = Port(site)
    port.source.error = ValueError("no")
    assert port.get() == (200, "shop -")
    assert caplog.records[-1].levelname == "ERROR"
    assert caplog.records[-1].exc_info[1] is port.source.error


def test_an_error_behind_the_request_does_not_go_to_on_error(site, clock):
    errors = []
    port = Port(site, on_error=lambda request, error: errors.append(error))
    port.get()
    port.source.error = ValueError("no")
    clock.forward(60)
    assert port.get() == (200, "shop a1")
    wait_for_our_threads()
    assert len(port.source.calls) == 2
    assert errors == []


def test_each_request_that_waits_for_a_fetch_that_fails_has_its_own_on_error(site):
    errors = []
    port = Port(site, on_error=lambda request, error: errors.append(error) or ("closed", 503))
    port.source.error = ValueError("no")
    port.source.go.clear()

    def let_go():
        with site.app.app_context():
            wait_until(lambda: port.pipeline.stats().shared == 9)
        port.source.go.set()

    threading.Thread(target=let_go).start()
    assert at_once(10, lambda: site.app.test_client().get("/").status_code) == [503] * 10
    assert errors == [port.source.error] * 10
    assert len(port.source.calls) == 1


def test_extract_and_key_say_which_value_it_is(site):
    port = Port(site)
    assert port.get("a") == (200, "shop a1")
    assert port.get("b") == (200, "shop b2")
    assert port.get("a") == (200, "shop a1")
    with site.app.app_context():
        port.pipeline.purge("a")
    assert port.get("a") == (200, "shop a3")
    assert port.get("b") == (200, "shop b2")


def test_without_a_key_all_requests_have_one_value(site):
    port = Port(site, key=None)
    assert port.get("a") == port.get("b") == (200, "shop a1")
    with site.app.app_context():
        port.pipeline.purge()
    assert port.get("b") == (200, "shop b2")


def test_without_extract_fetch_is_given_none(site):
    port = Port(site, key="all", extract=None)
    assert port.get("a") == port.get("b") == (200, "shop None1")
    with site.app.app_context():
        port.pipeline.purge("all")
    assert port.get("a") == (200, "shop None2")


def test_none_is_applied_like_any_value(site):
    applied = []
    calls = []
    Port(
        site,
        fetch=lambda extracted: calls.append(extracted),
        apply=lambda request, value: applied.append(value),
    )
    for _ in range(2):
        site.get("/")
    assert (applied, len(calls)) == ([None, None], 1)


def test_what_apply_returns_ends_the_request(site):
    port = Port(site, apply=lambda request, value: (f"only {value}", 202))
    assert port.get() == (202, "only a1")


def test_a_fetch_may_give_its_value_a_life_and_the_tags_may_depend_on_it(site, clock):
    calls = []

    def fetch(shop):
        calls.append(shop)
        return Fetched(f"{shop}{len(calls)}", ttl=5, stale_ttl=0)

    port = Port(site, fetch=fetch, tags=lambda shop: [f"shop:{shop}"])
    assert port.get() == (200, "shop a1")
    clock.forward(5)
    assert port.get() == (200, "shop a2")
    with site.app.app_context():
        site.prerender.purge(tag="shop:a")
    assert port.get() == (200, "shop a3")


def test_a_pipeline_goes_around_one_view_as_well(site):
    source = Source()
    features = site.prerender.data.pipeline(
        fetch=lambda extracted: source(),
        apply=lambda request, value: setattr(g, "features", value),
    )

    @site.app.route("/with/<name>")
    @features
    def with_features(name):
        return f"{name} {g.features}"

    @site.app.route("/without")
    def without():
        return str("features" in g)

    class Listing(MethodView):
        decorators = [features]  # noqa: RUF012

        def get(self):
            return g.features

    site.app.add_url_rule("/listing", view_func=Listing.as_view("listing"))
    assert with_features.__name__ == "with_features"
    assert site.get("/with/a") == "a x1"
    assert site.get("/without") == "False"
    assert site.get("/listing") == "x1"


def test_a_pipeline_around_a_view_may_answer_in_its_place(site):
    gate = site.prerender.data.pipeline(
        fetch=lambda extracted: "closed",
        apply=lambda request, value: (value, 503) if request.args.get("closed") else None,
    )

    @site.app.route("/")
    @gate
    def index():
        return "open"

    assert (site.get("/"), site.get("/?closed=1")) == ("open", "closed")


def test_a_page_behind_a_pipeline_has_the_tags_of_its_value(site):
    features = site.prerender.data.pipeline(
        fetch=lambda extracted: "f",
        apply=lambda request, value: setattr(g, "features", value),
        tags=["features"],
    )

    @site.app.route("/")
    @site.app.prerender(fallback="render")
    @features
    def index():
        return g.features

    assert site.get("/") == "f"
    assert "features" in site.page("/").tags
    assert site.page("/").revalidate == 60.0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fetch": None}, r"fetch= is missing\. It is a function of 1 argument \(extracted\)"),
        (
            {"apply": None},
            r"apply= is missing\. It is a function of 2 arguments \(request, value\)",
        ),
        ({"fetch": 7}, "fetch= is 7, and must be a function"),
        (
            {"fetch": lambda: 1},
            r"fetch= must be .* 1 argument \(extracted\), and .*<lambda>\(\) is",
        ),
        ({"fetch": a_coroutine}, "a_coroutine is async"),
        ({"apply": lambda value: 1}, r"apply= must be a function of 2 arguments"),
        ({"extract": lambda: 1}, r"extract= must be a function of 1 argument \(request\)"),
        ({"key": lambda: 1}, r"key= must be a function of 1 argument \(request\)"),
        ({"key": 7}, "key= is 7"),
        ({"on_error": lambda error: 1}, r"on_error= must be .* \(request, error\)"),
        ({"tags": lambda: []}, r"tags= must be a function of 1 argument \(extracted\)"),
        ({"ttl": -1}, r"prerender\.data\.pipeline\(\): ttl= is -1"),
        ({"stale": 1}, r"pipeline\(\): there is no option 'stale'\. Did you mean 'stale_ttl'\?"),
    ],
)
def test_a_pipeline_that_cannot_work_fails_when_it_is_made(prerender, options, said):
    good = {"fetch": lambda extracted: 1, "apply": lambda request, value: None}
    with pytest.raises(ConfigError, match=said):
        prerender.data.pipeline(**{**good, **options})


def test_a_purge_tells_the_signal(site):
    told = []

    def note(sender, **facts):
        told.append(facts)

    value = site.prerender.data(name="prices")(lambda: 1)
    with signals.pages_revoked.connected_to(note, site.app):
        value.purge()
    assert told[0]["tags"] == ["data:prices"]
    assert told[0]["hard"] is True

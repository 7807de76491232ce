"""Values in a cache of cachelib."""

from __future__ import annotations

import json
import logging
import os
import pickle

import pytest
from cachelib import FileSystemCache
from cachelib import NullCache
from cachelib import SimpleCache

from conftest import wait_for_our_threads
from flask_prerender import ConfigError
from flask_prerender import DataError
from flask_prerender import Fetched
from flask_prerender import Prerender
from sources import Source


@pytest.fixture
def prerender(clock):
    """An instance that is bound to no app."""
    return Prerender(clock=clock)


@pytest.fixture
def source():
    return Source()


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
    kept = [n for n in range(10) if cache.has(value._source().shelf._place._place(repr(str(n))))]
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

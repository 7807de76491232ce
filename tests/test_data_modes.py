"""Where a stale value is made new: what PRERENDER_REGENERATE says of values."""

from __future__ import annotations

import threading

import pytest

from conftest import wait_for_our_threads
from flask_prerender import Prerender
from sources import a_site
from sources import SECONDS
from sources import Source


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def inline(tmp_path, clock):
    with a_site(tmp_path, clock, PRERENDER_REGENERATE="inline") as site:
        yield site


@pytest.fixture
def off(tmp_path, clock):
    with a_site(tmp_path, clock, PRERENDER_REGENERATE="off") as site:
        yield site


def a_page(site, value, count=1):
    @site.app.route("/")
    def index():
        return " ".join(value() for _ in range(count))

    return site.app.test_client()


def in_a_thread_of_its_own(monkeypatch):
    """Return the list to which the name of each thread that begins is added."""
    begun = []
    start = threading.Thread.start
    monkeypatch.setattr(
        threading.Thread, "start", lambda thread: (begun.append(thread.name), start(thread))
    )
    return begun


def test_inline_a_stale_value_is_fetched_when_the_answer_was_sent(
    inline, source, clock, monkeypatch
):
    begun = in_a_thread_of_its_own(monkeypatch)
    client = a_page(inline, inline.prerender.data(ttl=60)(source))
    client.get("/")
    clock.forward(60)
    response = client.get("/")
    assert response.text == "x1"
    assert len(source.calls) == 1
    response.close()
    assert len(source.calls) == 2
    assert client.get("/").text == "x2"
    assert "prerender-data" not in begun


def test_inline_a_request_that_asks_ten_times_fetches_once_and_fails_once(
    inline, source, clock, caplog
):
    value = inline.prerender.data(ttl=60)(source)
    client = a_page(inline, value, count=10)
    client.get("/")
    clock.forward(60)
    source.error = ValueError("no")
    with client.get("/") as response:
        assert response.text == " ".join(["x1"] * 10)
    assert len(source.calls) == 2
    # It rests, as it does behind a thread.
    client.get("/").close()
    assert len(source.calls) == 2
    assert caplog.text.count("could not be fetched: ValueError('no')") == 1


def test_inline_an_error_that_ends_the_worker_is_not_held_back(inline, source, clock):
    client = a_page(inline, inline.prerender.data(ttl=60)(source))
    client.get("/")
    clock.forward(60)
    source.error = SystemExit("the worker is told to go")
    response = client.get("/")
    with pytest.raises(SystemExit, match="told to go"):
        response.close()


@pytest.mark.parametrize("mode", ["inline", "off"])
def test_without_a_request_the_caller_fetches_what_is_stale(mode, make_app, source, clock, caplog):
    app = make_app({"PRERENDER_REGENERATE": mode})
    value = Prerender(clock=clock).data(ttl=60)(source)
    with app.app_context():
        value()
        clock.forward(60)
        assert value() == "x2"
        source.error = ValueError("no")
        clock.forward(60)
        assert [value(), value()] == ["x2", "x2"]
        assert len(source.calls) == 3
        assert "could not be fetched: ValueError('no')" in caplog.text
    assert [one.name for one in threading.enumerate() if one.name == "prerender-data"] == []


def test_off_the_request_that_meets_a_stale_value_fetches_it(off, source, clock, monkeypatch):
    begun = in_a_thread_of_its_own(monkeypatch)
    value = off.prerender.data(ttl=60)(source)
    client = a_page(off, value)
    client.get("/")
    clock.forward(60)
    assert client.get("/").text == "x2"
    with off.app.app_context():
        value.revalidate()
    assert client.get("/").text == "x3"
    assert "prerender-data" not in begun


def test_off_a_stale_value_is_served_where_it_cannot_be_fetched(off, source, clock):
    client = a_page(off, off.prerender.data(ttl=60, stale_ttl=100)(source))
    client.get("/")
    clock.forward(60)
    source.error = ValueError("no")
    assert [client.get("/").text for _ in range(3)] == ["x1"] * 3
    assert len(source.calls) == 2
    # Beyond that the error is the request's own.
    clock.forward(100)
    assert client.get("/").status_code == 500


def test_off_the_others_are_served_the_stale_value_meanwhile(off, source, clock):
    value = off.prerender.data(ttl=60)(source)
    client = a_page(off, value)
    client.get("/")
    clock.forward(60)
    source.entered.clear()
    source.go.clear()
    texts = []
    one = threading.Thread(target=lambda: texts.append(client.get("/").text))
    one.start()
    assert source.entered.wait(SECONDS)
    assert off.app.test_client().get("/").text == "x1"
    source.go.set()
    one.join(SECONDS)
    assert (texts, len(source.calls)) == (["x2"], 2)


def test_a_value_made_of_a_stale_one_is_made_of_the_new_one_where_there_are_no_threads(off, clock):
    inner = Source()
    price = off.prerender.data(ttl=10)(inner)
    basket = off.prerender.data(ttl=60, stale_ttl=0)(lambda: f"basket of {price()}")
    with off.app.app_context():
        assert basket() == "basket of x1"
        clock.forward(60)
        assert basket() == "basket of x2"


def test_a_runner_is_asked_for_pages_and_not_for_values(tmp_path, make_app, source, clock):
    keys = []
    app = make_app(runner=keys.append)
    value = Prerender(clock=clock).data(ttl=60)(source)
    with app.app_context():
        value()
        clock.forward(60)
        assert value() == "x1"
        wait_for_our_threads()
        assert value() == "x2"
    assert keys == []

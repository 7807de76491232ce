"""A value is kept for everybody: nothing of the visitor who came first is in it."""

from __future__ import annotations

import contextvars
import threading
from types import MappingProxyType

import flask_login
import pytest
from cachelib import SimpleCache
from flask import g
from flask import has_request_context
from flask import request
from flask import session

from conftest import wait_for_our_threads
from flask_prerender import DataError
from flask_prerender import Prerender
from flask_prerender.data.values import own_copy
from sources import a_site
from sources import at_once
from sources import Source
from sources import wait_until


@pytest.fixture
def prerender(clock):
    return Prerender(clock=clock)


@pytest.fixture
def site(tmp_path, clock):
    with a_site(tmp_path, clock, SECRET_KEY="x") as site:
        yield site


# What the function reads.


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda: request.headers["X-Name"], id="request"),
        pytest.param(lambda: session.get("name"), id="session"),
    ],
)
def test_a_function_that_reads_the_request_is_told_so_and_nothing_is_kept(site, read):
    value = site.prerender.data(name="who")(read)
    errors = []

    @site.app.route("/")
    def index():
        session["name"] = "alice"
        with pytest.raises(DataError, match=r"who\(\(\)\) reads the request or the session") as no:
            value()
        errors.append(no.value)
        return "ok"

    client = site.app.test_client()
    assert client.get("/", headers={"X-Name": "alice"}).text == "ok"
    assert "outside of request context" in str(errors[0].__cause__)
    with site.app.app_context():
        assert value.stats().values == 0


def test_a_function_that_begins_to_read_the_request_is_told_so_behind_it(site, clock, caplog):
    asks = []

    @site.prerender.data(ttl=60)
    def value():
        asks.append(1)
        return "v" if len(asks) == 1 else request.path

    @site.app.route("/")
    def index():
        return value()

    assert site.get("/") == "v"
    clock.forward(60)
    assert site.get("/") == "v"
    wait_for_our_threads()
    assert "reads the request or the session" in caplog.text
    assert site.get("/") == "v"


def test_another_error_of_the_function_is_its_own(prerender):
    @prerender.data
    def value():
        raise RuntimeError("outside of everything")

    with pytest.raises(RuntimeError, match="of everything"):
        value()


def test_nobody_is_signed_in_where_a_value_is_fetched(site, clock):
    manager = flask_login.LoginManager(site.app)
    alice = flask_login.UserMixin()
    alice.id = "alice"
    manager.user_loader(lambda name: alice)
    seen = []

    @site.prerender.data(ttl=60)
    def value():
        seen.append((bool(flask_login.current_user), has_request_context(), "user" in g))
        return "v"

    @site.app.route("/")
    def index():
        flask_login.login_user(alice)
        g.user = flask_login.current_user.id
        return f"{g.user} {value()} {flask_login.current_user.id}"

    for _ in range(2):
        assert site.get("/") == "alice v alice"
        clock.forward(60)
    wait_for_our_threads()
    assert seen == [(False, False, False)] * 2


def test_a_context_variable_of_the_caller_is_not_seen(prerender, clock):
    visitor = contextvars.ContextVar("visitor", default="nobody")
    value = prerender.data(ttl=60)(lambda: visitor.get())
    token = visitor.set("alice")
    try:
        assert value() == "nobody"
        clock.forward(60)
        assert value() == "nobody"
        wait_for_our_threads()
        assert value() == "nobody"
        assert value.stats().fetched == 2
        assert visitor.get() == "alice"
    finally:
        visitor.reset(token)


# What the function is given.


@pytest.mark.parametrize(
    ("give", "said"),
    [
        pytest.param(lambda: request, "with a LocalProxy", id="request"),
        pytest.param(lambda: request._get_current_object(), "with a Request", id="its object"),
        pytest.param(lambda: session, "with a ", id="session"),
        pytest.param(
            lambda: session._get_current_object(), "with a SecureCookieSession", id="its data"
        ),
        pytest.param(lambda: flask_login.current_user, "with a LocalProxy", id="user"),
    ],
)
def test_a_function_cannot_be_given_what_is_a_visitors(site, give, said):
    value = site.prerender.data(key="all", name="v")(lambda what=None: "v")
    with site.app.test_request_context("/"):
        with pytest.raises(DataError, match=rf"v\('all'\) is to be fetched {said}"):
            value(give())
        with pytest.raises(DataError, match=rf"is to be fetched {said}"):
            value(what=give())
        assert value.stats().values == 0
        assert value("plain") == "v"


def test_a_pipeline_cannot_hand_the_request_to_its_fetch(site):
    errors = []
    pipeline = site.prerender.data.pipeline(
        extract=lambda request: request,
        fetch=lambda asked: asked.headers["X-Name"],
        apply=lambda request, value: value,
        on_error=lambda request, error: errors.append(error),
    )
    site.app.before_request(pipeline)
    site.app.add_url_rule("/", "index", lambda: "the view")
    client = site.app.test_client()
    for name in ("alice", "bob"):
        assert client.get("/", headers={"X-Name": name}).text == "the view"
    assert [type(error) for error in errors] == [DataError] * 2
    assert "is to be fetched with a " in str(errors[0])


# What the callers are given.


@pytest.mark.parametrize("cache", [None, lambda: SimpleCache(threshold=1000)])
def test_what_a_caller_does_to_a_value_nobody_else_sees(prerender, clock, cache):
    @prerender.data(ttl=60, cache=cache and cache())
    def menu():
        return {"items": [{"name": "home"}], "seen": []}

    def change(value):
        value["items"][0]["name"] = "alice's"
        value["items"].append("more")
        value["seen"] += ["alice"]
        value["user"] = "alice"

    for _ in range(3):
        value = menu()
        assert value == {"items": [{"name": "home"}], "seen": []}
        change(value)
    clock.forward(60)
    change(menu())
    wait_for_our_threads()
    assert menu() == {"items": [{"name": "home"}], "seen": []}
    assert menu.stats().fetched == 2


def test_callers_who_shared_one_fetch_do_not_share_its_value(prerender):
    source = Source()
    value = prerender.data(lambda: [source()])
    source.go.clear()

    def change():
        mine = value()
        mine.append("mine")
        return mine

    def let_go():
        wait_until(lambda: value.stats().shared == 9)
        source.go.set()

    threading.Thread(target=let_go).start()
    assert at_once(10, change) == [["x1", "mine"]] * 10
    assert value() == ["x1"]


def test_what_the_function_keeps_and_changes_is_not_the_value(prerender):
    kept = ["first"]
    value = prerender.data(lambda: kept)
    assert value() == ["first"]
    kept.append("second")
    assert value() == ["first"]


def test_containers_at_any_depth_are_copied_and_nothing_else_is():
    class Own(dict):
        pass

    own, view = Own(a=[1]), MappingProxyType({"a": 1})
    value = {"l": [1, {2}], "t": (1, [2]), "b": bytearray(b"x"), "o": own, "v": view, "n": None}
    made = own_copy(value)
    assert made == value
    assert list(made) == list(value)
    assert made["o"] is own
    assert made["v"] is view
    for path in (
        lambda it: it,
        lambda it: it["l"],
        lambda it: it["l"][1],
        lambda it: it["t"],
        lambda it: it["t"][1],
        lambda it: it["b"],
    ):
        assert path(made) is not path(value)
        assert type(path(made)) is type(path(value))
    plain = ("a", 1, ("b", None))
    assert own_copy(plain) is plain


def test_a_value_in_itself_is_copied_as_it_is():
    ring = ["a"]
    ring.append({"ring": ring})
    made = own_copy(ring)
    assert made is not ring
    assert made[1]["ring"] is made
    # As a tree this one would have 2 ** 60 lists.
    for _ in range(60):
        ring = [ring, ring]
    made = own_copy(ring)
    assert made[0] is made[1]

"""A value fetched once for many requests, and applied to each before its view."""

from __future__ import annotations

import threading

import pytest
from flask import abort
from flask import g
from flask.views import MethodView

from conftest import wait_for_our_threads
from flask_prerender import ConfigError
from flask_prerender import Fetched
from flask_prerender import Prerender
from sources import a_coroutine
from sources import a_site
from sources import at_once
from sources import Source
from sources import wait_until


@pytest.fixture
def prerender(clock):
    """An instance that is bound to no app."""
    return Prerender(clock=clock)


@pytest.fixture
def site(tmp_path, clock):
    with a_site(tmp_path, clock) as site:
        yield site


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
    assert len(set(map(id, errors))) == 10
    assert {(type(one), one.args) for one in errors} == {(ValueError, ("no",))}
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

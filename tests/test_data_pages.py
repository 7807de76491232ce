"""What a page, or another value, takes over from the values it is made of."""

from __future__ import annotations

import pytest
from flask import g

from conftest import wait_for_our_threads
from sources import a_site
from sources import Source


@pytest.fixture
def site(tmp_path, clock):
    with a_site(tmp_path, clock) as site:
        yield site


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


def test_a_page_expires_with_the_first_of_its_values(site, clock):
    source = Source()
    price = site.prerender.data(ttl=60, stale_ttl=40)(source)
    name = site.prerender.data(ttl=60, stale_ttl=3600)(lambda: "n")

    @site.app.route("/")
    @site.app.prerender(fallback="render")
    def index():
        return f"{price()} {name()}"

    with site.app.app_context():
        price()
    clock.forward(10)
    assert site.get("/") == "x1 n"
    assert (site.page("/").revalidate, site.page("/").expire) == (50.0, 90.0)
    clock.forward(89)
    assert site.get("/") == "x1 n"
    wait_for_our_threads()
    # What is too old to be served as a value is not served in a page.
    clock.forward(100)
    assert site.get("/") == "x3 n"


def test_a_value_that_is_never_stale_makes_a_page_that_never_is(site, clock):
    source = Source()
    price = site.prerender.data(ttl=60, stale_ttl=0)(source)

    @site.app.route("/")
    @site.app.prerender(fallback="render")
    def index():
        return price()

    assert site.get("/") == "x1"
    clock.forward(60)
    assert site.get("/") == "x2"


def test_a_value_that_is_always_expired_makes_a_page_of_a_moment(site):
    source = Source()
    now = site.prerender.data(ttl=0, stale_ttl=0)(source)

    @site.app.route("/")
    @site.app.prerender(fallback="render")
    def index():
        return now()

    assert site.get("/") == site.get("/") == "x1"
    assert (site.page("/").revalidate, site.page("/").expire) == (2.0, 2.0)


def test_a_value_expires_with_the_first_of_those_it_is_made_of(site, clock):
    source = Source()
    price = site.prerender.data(ttl=10, stale_ttl=20)(source)
    basket = site.prerender.data(ttl=60, stale_ttl=3600)(lambda: f"basket of {price()}")
    short = site.prerender.data(ttl=5, stale_ttl=5)(lambda: f"a {price()}")
    with site.app.app_context():
        assert (basket(), short()) == ("basket of x1", "a x1")
        clock.forward(29)
        assert basket() == "basket of x1"
        wait_for_our_threads()
        price.purge()
        basket.purge()
        assert basket().startswith("basket of x")
        number = len(source.calls)
        clock.forward(30)
        assert basket() == f"basket of x{number + 1}"


@pytest.mark.parametrize("pipeline", [True, False])
def test_a_page_made_without_a_value_that_failed_is_made_again_soon(site, clock, pipeline):
    source = Source()
    source.error = ValueError("no")
    if pipeline:
        price = site.prerender.data.pipeline(
            fetch=lambda extracted: source(),
            apply=lambda request, value: setattr(g, "price", value),
        )
    else:
        price = site.prerender.data(on_error=lambda error: "-")(source)

    @site.app.route("/")
    @site.app.prerender(fallback="render", revalidate="days")
    def index():
        if pipeline:
            price()
            return g.get("price", "-")
        return price()

    assert site.get("/") == "-"
    # As long as a value rests whose fetch has failed.
    assert 27.0 <= site.page("/").revalidate <= 33.0
    assert f"data:{price.name}" in site.page("/").tags
    source.error = None
    with site.app.app_context():
        price.purge()
    assert site.get("/") == "x2"


def test_a_value_made_without_one_that_failed_is_made_again_soon(site, clock):
    source = Source()
    source.error = ValueError("no")
    price = site.prerender.data(ttl=3, on_error=lambda error: "-")(source)
    basket = site.prerender.data(ttl=None, stale_ttl=0)(lambda: f"basket of {price()}")
    with site.app.app_context():
        assert basket() == "basket of -"
        source.error = None
        clock.forward(4)
        assert basket() == "basket of x2"

"""Claims on keys, kept while their holder works."""

from __future__ import annotations

import threading

import pytest

from conftest import wait_for_our_threads
from flask_prerender import claims as room
from flask_prerender.claims import Claims
from flask_prerender.coordination.base import Streak
from flask_prerender.errors import StoreError
from living import site_of
from living import wait_until


@pytest.fixture
def quick(monkeypatch):
    """Let claims be renewed many times a second."""
    monkeypatch.setattr(room, "_RENEW_SECONDS", 0.01)


def test_a_claim_is_held_for_the_block_and_then_free(make_app, clock):
    one, two = site_of(make_app()).claims, site_of(make_app()).claims
    with one.hold("/") as claim:
        assert claim.since == clock.now
        with two.hold("/") as other:
            assert other is None
        with two.hold("/other") as other:
            assert other.token > claim.token
    with two.hold("/") as again:
        assert again.token > claim.token


def test_a_claim_is_free_when_the_work_raises(make_app):
    claims = site_of(make_app()).claims
    with pytest.raises(LookupError), claims.hold("/"):
        raise LookupError
    with claims.hold("/") as claim:
        assert claim is not None


def test_work_that_takes_long_keeps_its_claim(make_app, clock, quick):
    one, two = site_of(make_app()), site_of(make_app())
    with one.claims.hold("/") as claim:
        for _ in range(5):
            clock.forward(5)
            now = clock.now
            wait_until(lambda now=now: claim.lease.ends >= now + 15)
            with two.claims.hold("/") as other:
                assert other is None


def test_the_claim_of_a_render_that_hangs_ends(make_app, clock, quick):
    one, two = site_of(make_app({"PRERENDER_TIMEOUT": 20})), site_of(make_app())
    with one.claims.hold("/") as claim:
        clock.forward(19)
        wait_until(lambda: claim.lease.ends == clock.now + 15)
        clock.forward(10)
        with one.claims.hold("/later") as witness:
            for _ in range(2):  # two rounds, in whatever order claims are renewed
                clock.forward(1)
                wait_until(lambda: witness.lease.ends == clock.now + 15)
        clock.forward(3)
        with two.claims.hold("/") as other:
            assert other is not None
            assert other.token > claim.token


def test_what_failed_rests_and_is_claimed_anyway_by_who_insists(make_app, clock):
    claims = site_of(make_app()).claims
    with claims.hold("/") as claim:
        claim.streak = Streak(1, clock.now + 30, "error", "no", clock.now)
    with claims.hold("/") as claim:
        assert claim is None
    with claims.hold("/", anyway=True) as claim:
        assert claim.lease.failures == 1
        with claims.hold("/", anyway=True) as other:
            assert other is None


def test_no_thread_stays_when_nothing_is_held(make_app):
    claims = site_of(make_app()).claims
    with claims.hold("/a"), claims.hold("/b"):
        names = [thread.name for thread in threading.enumerate()]
        assert names.count("prerender-claims") == 1
    wait_for_our_threads()
    with claims.hold("/a"):
        assert "prerender-claims" in [thread.name for thread in threading.enumerate()]


def test_a_claim_that_cannot_be_renewed_or_released_is_no_error(
    make_app, clock, quick, caplog, monkeypatch
):
    site = site_of(make_app())

    def fail(*args):
        raise StoreError("the disk is full")

    monkeypatch.setattr(site.coordination, "renew", fail)
    monkeypatch.setattr(site.coordination, "release", fail)
    with site.claims.hold("/"):
        wait_until(lambda: "a claim could not be renewed: the disk is full" in caplog.text)
    with site.claims.hold("/") as claim:
        assert claim is None
    clock.forward(15)
    with site.claims.hold("/") as claim:
        assert claim is not None


def test_a_claim_that_cannot_be_written_is_told(make_app, monkeypatch):
    site = site_of(make_app())

    def fail(*args, **more):
        raise StoreError("the disk is full")

    monkeypatch.setattr(site.coordination, "claim", fail)
    with pytest.raises(StoreError, match="full"), site.claims.hold("/"):
        raise AssertionError


def test_without_threads_a_claim_holds_all_the_same(make_app, monkeypatch):
    claims = Claims(site_of(make_app()))

    def start(self):
        raise RuntimeError("can't start new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", start)
    with claims.hold("/") as claim:
        assert claim is not None

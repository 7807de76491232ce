"""Pages in a directory that this process cannot write to."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flask_prerender import StoreError
from flask_prerender.revalidate import take_back
from living import settle
from living import site_of
from living import View

pytestmark = pytest.mark.skipif(
    os.name == "nt" or os.geteuid() != 0, reason="only root may mount a directory read-only"
)


@contextmanager
def read_only(root: Path) -> Iterator[None]:
    done = subprocess.run(["mount", "--bind", root, root], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting is not permitted: {done.stderr.decode().strip()}")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", root], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", root], check=True)


@pytest.fixture
def built(make_app, tmp_path):
    """A directory with one page, "render 1", that can only be read."""
    app = make_app()
    View(app)
    assert app.test_cli_runner().invoke(args=["prerender"]).exit_code == 0
    site_of(app).close()
    with read_only(tmp_path / "instance" / "prerendered"):
        yield


@pytest.fixture
def start(make_app):
    """Start another process's app, as far as one can be in this one."""

    def start(config=None):
        app = make_app(config)
        view = View(app)
        view.renders = 10
        return app, view

    return start


def test_a_stale_page_is_made_new_in_memory(built, start, wsgi_get, clock, caplog):
    app, view = start()
    assert wsgi_get(app, "/page").body == b"render 1"
    clock.forward(60)
    stale = wsgi_get(app, "/page", headers={"Accept-Encoding": "gzip"})
    assert (stale.status, stale.get("Cache-Status")) == (200, "flask-prerender; hit; ttl=0")
    settle(app)
    new = wsgi_get(app, "/page")
    assert (new.body, new.get("Cache-Status")) == (b"render 11", "flask-prerender; hit; ttl=60")
    assert new.get("ETag") != stale.get("ETag")
    clock.forward(60)
    wsgi_get(app, "/page")
    settle(app)
    assert wsgi_get(app, "/page").body == b"render 12"
    assert (view.renders, view.visits) == (12, 0)
    (said,) = [record.getMessage() for record in caplog.records]
    assert "cannot be written" in said
    assert "memory only" in said
    other, _ = start()
    assert wsgi_get(other, "/page").body == b"render 1"
    site_of(app).close()
    site_of(other).close()


def test_a_page_that_did_not_change_is_fresh_again(built, start, wsgi_get, clock):
    app, view = start()
    before = wsgi_get(app, "/page")
    view.does = lambda: "render 1"
    clock.forward(60)
    wsgi_get(app, "/page")
    settle(app)
    after = wsgi_get(app, "/page")
    assert after.get("Cache-Status") == "flask-prerender; hit; ttl=60"
    assert (after.body, after.get("ETag")) == (before.body, before.get("ETag"))
    assert after.get("Last-Modified") == before.get("Last-Modified")
    site_of(app).close()


def test_first_visits_are_kept_in_memory(built, start, wsgi_get):
    app, _ = start()
    first = View(app, "/other/<name>", endpoint="other")
    made = wsgi_get(app, "/other/a")
    assert (made.body, made.get("Cache-Status")) == (
        b"render 1",
        "flask-prerender; fwd=uri-miss; stored",
    )
    assert wsgi_get(app, "/other/a").get("Cache-Status") == "flask-prerender; hit; ttl=60"
    assert (first.renders, first.visits) == (1, 0)
    site_of(app).close()


def test_a_page_that_fails_rests_longer_each_time(built, start, wsgi_get, clock):
    app, view = start()
    app.logger.disabled = True
    wsgi_get(app, "/page")
    clock.forward(60)
    view.does = lambda: ("broken", 500)
    for _ in range(600):
        clock.forward(1)
        assert wsgi_get(app, "/page").body == b"render 1"
        settle(app)
    assert 3 <= view.renders - 10 <= 6
    view.does = None
    clock.forward(331)
    wsgi_get(app, "/page")
    settle(app)
    assert wsgi_get(app, "/page").body == f"render {view.renders}".encode()
    app.logger.disabled = False
    site_of(app).close()


def test_without_memory_the_old_page_stays(built, start, wsgi_get, clock, caplog):
    app, view = start({"PRERENDER_MEMORY_BYTES": 0})
    clock.forward(60)
    for _ in range(3):
        assert wsgi_get(app, "/page").body == b"render 1"
        settle(app)
    assert view.renders == 11
    assert "PRERENDER_MEMORY_BYTES (0) has no room" in caplog.text
    site_of(app).close()


def test_nothing_can_be_taken_back_and_whoever_tries_is_told(built, start, wsgi_get):
    app, _ = start()
    with pytest.raises(StoreError, match=r"cannot write .*prerendered"):
        take_back(site_of(app), hard=True, paths=["/page"])
    assert wsgi_get(app, "/page").body == b"render 1"
    site_of(app).close()


def test_a_build_says_that_it_cannot_write(built, start):
    app, view = start()
    done = app.test_cli_runner().invoke(args=["prerender"])
    assert done.exit_code != 0
    assert "cannot write" in done.output
    assert view.renders == 10
    site_of(app).close()

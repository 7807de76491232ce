"""The notes of the example site: on the stored page at once, for everybody, in every worker."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode

import pytest
from flask import Flask
from sqlalchemy import insert
from sqlalchemy import select

from conftest import Answer
from conftest import Clock
from conftest import LiveServer
from conftest import wait_for_our_threads
from example_app import create_app
from example_app.extensions import db
from example_app.extensions import prerender
from example_app.library import HOUR
from example_app.notes import Note
from flask_prerender import StoreError

LOADS = "/library/json/loads/"
DUMPS = "/library/json/dumps/"
NOTE = {"title": "Mind the default", "author": "Ada", "text": "First line."}

#: The site, with the number of the process around its answers: outside of what is stored.
SITE = """
import os
from example_app import create_app

site = create_app({config!r})

def app(environ, start_response):
    def begin(status, headers, exc_info=None):
        return start_response(status, [*headers, ("X-Worker", str(os.getpid()))], exc_info)
    return site(environ, begin)
"""


def settings(folder: Path) -> dict[str, object]:
    return {
        "SQLALCHEMY_DATABASE_URI": f"sqlite:///{folder}/notes.sqlite3",
        "PRERENDER_PATH": str(folder / "prerendered"),
        "PRERENDER_JITTER": 0.0,
    }


@pytest.fixture
def make_site(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Flask]]:
    """Make the site, as another process of it does."""
    monkeypatch.setattr(prerender, "_clock", clock)
    made: list[Flask] = []

    def make() -> Flask:
        made.append(create_app(settings(tmp_path)))
        return made[-1]

    yield make
    for app in made:
        app.extensions["prerender"].regenerator.close()
    wait_for_our_threads()
    for app in made:
        app.extensions["prerender"].close()
        with app.app_context():
            db.engine.dispose()


@pytest.fixture
def app(make_site: Callable[[], Flask]) -> Flask:
    return make_site()


def stored(app: Flask, url: str) -> str:
    """Return a page that the store answered, made for this request or before."""
    answer = app.test_client().get(url)
    assert (answer.status_code, answer.headers.get("X-Prerendered")) == (200, "true"), url
    return answer.text


def is_hit(app: Flask, url: str) -> bool:
    status = app.test_client().get(url).headers["Cache-Status"]
    return status.startswith("flask-prerender; hit")


def why(app: Flask, url: str) -> dict[str, str]:
    """Return what ``flask prerender why`` prints, by the name of each line."""
    result = app.test_cli_runner().invoke(args=["prerender", "why", url])
    assert result.exit_code == 0, result.output
    lines = (line.strip().partition("  ") for line in result.output.splitlines())
    return {name: value.strip() for name, _, value in lines}


# At once.


def ask(server: LiveServer, url: str, form: dict[str, str] | None = None) -> Answer:
    connection = HTTPConnection(server.host, server.port, timeout=30)
    try:
        if form is None:
            connection.request("GET", url)
        else:
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            connection.request("POST", url, urlencode(form), kind)
        response = connection.getresponse()
        return Answer(response.status, response.getheaders(), response.read())
    finally:
        connection.close()


def ask_every_worker(server: LiveServer, url: str, count: int = 2) -> list[Answer]:
    """Ask until each worker has answered, several times at once so that none takes them all."""
    answers: list[Answer] = []
    deadline = time.monotonic() + 30
    with ThreadPoolExecutor(4) as pool:
        while len({answer.get("X-Worker") for answer in answers}) < count:
            assert time.monotonic() < deadline, "one worker takes all"
            answers += pool.map(lambda _: ask(server, url), range(4))
    return answers


def test_a_note_is_on_the_stored_page_at_every_workers_next_request(
    tmp_path: Path, live_server: Callable[..., LiveServer]
) -> None:
    server = live_server(SITE.format(config=settings(tmp_path)), workers=2)
    ask(server, DUMPS)
    for number in (1, 2, 3):
        # Each worker has the page in memory, as it was.
        for answer in ask_every_worker(server, LOADS):
            assert answer.get("X-Prerendered") == "true"
            assert f'id="note-{number}"'.encode() not in answer.body

        posted = ask(server, "/notes/library/json/loads", NOTE)

        assert posted.status == 303
        assert posted.get("Location") == f"{LOADS}#note-{number}"
        for answer in [ask(server, LOADS), *ask_every_worker(server, LOADS)]:
            assert answer.get("X-Prerendered") == "true"
            assert f'id="note-{number}"'.encode() in answer.body
    assert (ask(server, DUMPS).get("Cache-Status") or "").startswith("flask-prerender; hit")


def test_a_note_takes_back_its_own_page_and_no_other(app: Flask) -> None:
    stored(app, LOADS)
    stored(app, DUMPS)
    stored(app, "/library/json/")

    app.test_client().post("/notes/library/json/loads", data=NOTE)

    assert is_hit(app, DUMPS)
    assert is_hit(app, "/library/json/")
    assert "Mind the default" in stored(app, LOADS)
    assert is_hit(app, LOADS)


def test_a_note_that_is_changed_moved_or_deleted_takes_its_pages_back(app: Flask) -> None:
    app.test_client().post("/notes/library/json/loads", data=NOTE)
    assert "Mind the default" in stored(app, LOADS)
    assert "Mind the default" not in stored(app, DUMPS)
    with app.app_context():
        note = db.session.scalars(select(Note)).one()
        note.title = "Mind the gap"
        db.session.commit()
        assert "Mind the gap" in stored(app, LOADS)

        note.page = "library/json/dumps"
        db.session.commit()
        assert "Mind the gap" not in stored(app, LOADS)
        assert "Mind the gap" in stored(app, DUMPS)

        db.session.delete(note)
        db.session.commit()
        assert "Mind the gap" not in stored(app, DUMPS)


def test_what_was_rolled_back_takes_no_page_back(app: Flask) -> None:
    app.test_client().post("/notes/library/json/dumps", data=NOTE)
    stored(app, LOADS)
    before = app.extensions["prerender"].coordination.revision()
    with app.app_context():
        db.session.add(Note(page="library/json/loads", **NOTE))
        db.session.flush()
        db.session.rollback()
        db.session.scalars(select(Note)).all()
        db.session.commit()

    assert app.extensions["prerender"].coordination.revision() == before
    assert is_hit(app, LOADS)


def test_a_note_is_kept_when_the_page_cannot_be_taken_back(
    app: Flask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(prerender, "purge", fail)

    answer = app.test_client().post("/notes/library/json/loads", data=NOTE)

    assert answer.status_code == 303
    assert "The notes on library/json/loads show only later" in caplog.text
    assert "Mind the default" in app.test_client().get("/notes/").text


# By time.


def test_the_page_of_a_module_is_made_new_by_time(app: Flask, clock: Clock) -> None:
    app.test_client().get("/notes/")  # makes the table
    assert "Nobody has written" in stored(app, "/library/json/")
    with app.app_context(), db.engine.begin() as connection:
        # Not through the session: nobody notices.
        connection.execute(insert(Note).values(page="library/json", **NOTE))
    clock.forward(HOUR - 1)
    assert "Nobody has written" in stored(app, "/library/json/")

    clock.forward(2)
    assert "Nobody has written" in stored(app, "/library/json/")
    deadline = time.monotonic() + 20
    while "Mind the default" not in stored(app, "/library/json/"):
        assert time.monotonic() < deadline, "the page was not made new"
        time.sleep(0.01)


# Why.


def test_why_tells_how_a_page_came_to_be_taken_back(app: Flask) -> None:
    stored(app, LOADS)
    app.test_client().post("/notes/library/json/loads", data=NOTE)
    revision = app.extensions["prerender"].coordination.revision()

    told = why(app, LOADS)

    assert told["taken back"] == f"purged by notes:library/json/loads at revision {revision}"
    assert told["answer"] == "a new render is waited for; the app if that fails"
    assert "notes:library/json/loads" in told["tags"].split(", ")
    stored(app, LOADS)
    told = why(app, LOADS)
    assert "taken back" not in told
    assert told["answer"] == "the stored page, fresh"


def test_why_tells_how_long_the_page_of_a_module_lives(app: Flask, clock: Clock) -> None:
    stored(app, "/library/json/")
    clock.forward(600)

    told = why(app, "/library/json/")

    assert told["route"] == "/library/<module>/ (library.module)"
    assert (told["state"], told["age"], told["fresh for"]) == ("fresh", "600.0", "3000.0")
    assert told["answer"] == "the stored page, fresh"
    assert told["a render now"].endswith("bytes, would be stored")
    clock.forward(HOUR)
    told = why(app, "/library/json/")
    assert (told["state"], told["fresh for"]) == ("stale", "0.0")
    assert told["answer"] == "the stored page, stale, and one render in the background"


def test_why_tells_that_the_latest_notes_are_not_stored(app: Flask) -> None:
    assert why(app, "/notes/")["answer"] == "the app: no marked route has it"

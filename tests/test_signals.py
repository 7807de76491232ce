"""What others may listen to."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask import Response

from conftest import Clock
from conftest import wait_for_our_threads
from flask_prerender import attach_default_logger
from flask_prerender import generate
from flask_prerender import mark
from flask_prerender import Report
from flask_prerender import signals
from flask_prerender.signals import SIGNALS

MakeApp = Callable[..., Flask]
Heard = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def listen() -> Any:
    """Hear every signal of an app, with its facts, in order."""

    connected: list[tuple[Any, Any]] = []

    def start(app: Flask) -> Heard:
        heard: Heard = []

        def receiver_of(name: str) -> Callable[..., None]:
            def receive(sender: Flask, **facts: Any) -> None:
                assert sender is app
                heard.append((name, facts))

            return receive

        for name, signal in SIGNALS.items():
            receiver = receiver_of(name)
            signal.connect(receiver, sender=app)
            connected.append((signal, receiver))
        return heard

    yield start
    for signal, receiver in connected:
        signal.disconnect(receiver)


def facts_of(heard: Heard, name: str) -> list[dict[str, Any]]:
    return [facts for found, facts in heard if found == name]


def test_there_are_these_signals() -> None:
    assert list(SIGNALS) == [
        "generate-finished", "generate-started", "page-evicted", "page-published", "page-refused",
        "page-removed", "page-served", "page-unstorable", "pages-prewarmed", "pages-revoked",
        "regenerate-failed", "regenerate-finished", "regenerate-started", "render-failed",
        "render-finished", "render-started",
    ]  # fmt: skip
    assert all(getattr(signals, name.replace("-", "_")) is one for name, one in SIGNALS.items())


def test_a_build_tells_its_start_and_its_end(make_app: MakeApp, listen: Any) -> None:
    app = make_app()
    app.add_url_rule("/", "home", mark(lambda: "home"))
    app.add_url_rule("/about", "about", mark(lambda: "about"))
    heard = listen(app)
    report = generate(app)
    assert heard[0] == ("generate-started", {"total": 2})
    assert heard[-1] == ("generate-finished", {"report": report, "duration": report.duration})
    assert isinstance(report, Report)


def test_a_render_tells_its_start_and_its_end(make_app: MakeApp, listen: Any) -> None:
    app = make_app()
    app.add_url_rule("/", "home", mark(lambda: "home"))
    heard = listen(app)
    generate(app)
    assert facts_of(heard, "render-started") == [{"key": "/"}]
    (finished,) = facts_of(heard, "render-finished")
    duration = finished.pop("duration")
    assert finished == {"key": "/", "status": 200, "size": 4}
    assert 0 < duration < 60  # seconds
    order = [name for name, _ in heard]
    assert order == [
        "generate-started", "render-started", "render-finished", "page-published",
        "generate-finished",
    ]  # fmt: skip


def test_a_failed_render_tells_what_the_view_raised(make_app: MakeApp, listen: Any) -> None:
    app, error = make_app(), ValueError("no")

    def view() -> str:
        raise error

    app.add_url_rule("/", "home", mark(view))
    app.add_url_rule("/500", "down", mark(lambda: ("down", 500)))
    heard = listen(app)
    generate(app, concurrency=1)
    failed = facts_of(heard, "render-failed")
    assert [(facts["key"], facts["error"]) for facts in failed] == [("/", error), ("/500", None)]
    assert all(facts["duration"] > 0 for facts in failed)
    assert facts_of(heard, "render-finished") == []
    refused = facts_of(heard, "page-refused")
    assert refused[0] == {"key": "/", "reason": "error", "detail": "ValueError: no"}


def test_a_published_page_says_whether_it_changed(make_app: MakeApp, listen: Any) -> None:
    app = make_app()
    app.add_url_rule("/", "home", mark(lambda: "home"))
    heard = listen(app)
    generate(app)
    generate(app)
    first, second = facts_of(heard, "page-published")
    assert (first["key"], first["changed"], second["changed"]) == ("/", True, False)
    assert first["page"].identity.size == 4
    assert first["duration"] > 0


def test_a_refused_page_says_why(make_app: MakeApp, listen: Any) -> None:
    app = make_app()
    app.add_url_rule("/", "home", mark(lambda: Response("x", headers={"Set-Cookie": "a=b"})))
    heard = listen(app)
    generate(app)
    assert facts_of(heard, "page-refused") == [
        {"key": "/", "reason": "set-cookie", "detail": "sets a"}
    ]
    assert facts_of(heard, "page-published") == []


def test_a_removed_page_says_why(make_app: MakeApp, listen: Any) -> None:
    before = make_app()
    before.add_url_rule("/old", "old", mark(lambda: "old"))
    before.add_url_rule("/private", "private", mark(lambda: "everybody's"))
    generate(before)
    app = make_app()
    app.add_url_rule(
        "/private",
        "private",
        mark(lambda: Response("mine", headers={"Cache-Control": "private"})),
    )
    heard = listen(app)
    generate(app)
    assert facts_of(heard, "page-removed") == [
        {"key": "/private", "reason": "private"},
        {"key": "/old", "reason": "not in this build"},
    ]


def test_a_served_page_says_from_where(make_app: MakeApp, listen: Any, clock: Clock) -> None:
    app = make_app()
    app.add_url_rule("/", "home", mark(revalidate=60)(lambda: "home " * 1000))
    generate(app)
    heard, client = listen(app), app.test_client()
    client.get("/")
    client.get("/", headers={"Accept-Encoding": "gzip"})
    etag = client.get("/").headers["ETag"]
    client.get("/", headers={"If-None-Match": etag})
    clock.forward(61)
    client.get("/")
    served = facts_of(heard, "page-served")
    assert [
        (each["source"], each["state"], each["status"], each["encoding"]) for each in served
    ] == [
        ("store", "fresh", 200, "identity"),
        ("memory", "fresh", 200, "gzip"),
        ("memory", "fresh", 200, "identity"),
        ("memory", "fresh", 304, "identity"),
        ("memory", "stale", 200, "identity"),
    ]
    assert {each["key"] for each in served} == {"/"}


def test_what_the_app_answers_itself_is_not_served(make_app: MakeApp, listen: Any) -> None:
    app = make_app()
    app.add_url_rule("/", "home", mark(lambda: "home"))
    app.add_url_rule("/plain", "plain", lambda: "plain")
    generate(app)
    heard, client = listen(app), app.test_client()
    client.get("/plain")
    client.get("/?x=1")
    assert heard == []


def test_prewarming_says_how_many_and_how_long(make_app: MakeApp, listen: Any) -> None:
    app = make_app({"PRERENDER_PREWARM": "all"})
    for name in ("a", "b", "c"):
        app.add_url_rule(f"/{name}", name, mark(lambda: "x"))
    generate(app)
    heard = listen(app)
    app.test_client().get("/a")
    wait_for_our_threads()
    (prewarmed,) = facts_of(heard, "pages-prewarmed")
    assert prewarmed["count"] == 3
    assert 0 < prewarmed["duration"] < 60


def test_another_app_is_not_heard(make_app: MakeApp, listen: Any) -> None:
    mine, other = make_app(), make_app()
    other.add_url_rule("/", "home", mark(lambda: "home"))
    heard = listen(mine)
    generate(other)
    assert heard == []


#: What a build and a hit do not send; tested where it is sent.
OF_LATER_LIFE = {
    "page-evicted", "page-unstorable", "pages-revoked", "regenerate-failed", "regenerate-finished",
    "regenerate-started",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(SIGNALS) - OF_LATER_LIFE))
def test_a_receiver_that_raises_is_logged_and_changes_nothing(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    app = make_app({"PRERENDER_PREWARM": "all"})
    heard = []

    def bad(sender: Flask, **facts: Any) -> None:
        heard.append("bad")
        raise LookupError("a receiver's own trouble")

    def good(sender: Flask, **facts: Any) -> None:
        heard.append("good")

    # Whatever order receivers are called in, one of the good ones comes after a bad one.
    receivers = [bad, good, lambda sender, **facts: bad(sender), lambda sender, **f: good(sender)]
    before = make_app()
    before.add_url_rule("/old", "old", mark(lambda: "old"))
    generate(before)
    app.add_url_rule("/", "home", mark(lambda: "home"))
    app.add_url_rule("/cookie", "cookie", mark(lambda: Response("x", headers={"Set-Cookie": "a"})))
    app.add_url_rule("/broken", "broken", mark(lambda: 1 / 0))
    for receiver in receivers:
        SIGNALS[name].connect(receiver, sender=app)
    try:
        report = generate(app)
        answer = app.test_client().get("/")
        wait_for_our_threads()
    finally:
        for receiver in receivers:
            SIGNALS[name].disconnect(receiver)
    assert report.counts == {"published": 1, "refused": 1, "failed": 1}
    assert report.removed == 1
    assert (answer.status_code, answer.text) == (200, "home")
    assert answer.headers["X-Prerendered"] == "true"
    assert heard.count("bad") == heard.count("good") >= 2
    assert f"A receiver of the signal {name!r} raised" in caplog.text
    assert "a receiver's own trouble" in caplog.text


# The default logger.


def test_the_default_logger_writes_what_happens(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app()
    attach_default_logger(app)
    app.add_url_rule("/", "home", mark(lambda: "home"))
    app.add_url_rule("/cookie", "cookie", mark(lambda: Response("x", headers={"Set-Cookie": "a"})))
    app.add_url_rule("/broken", "broken", mark(lambda: 1 / 0))
    with caplog.at_level(logging.INFO, "flask_prerender"):
        generate(app, concurrency=1)
        app.test_client().get("/")
    lines = {(r.levelno, r.message.split(" ")[0]) for r in caplog.records if r.name != "site"}
    assert lines == {
        (logging.INFO, "generate-started"),
        (logging.INFO, "generate-finished"),
        (logging.INFO, "page-published"),
        (logging.WARNING, "page-refused"),
        (logging.WARNING, "render-failed"),
    }
    assert "page-refused key=/cookie reason=set-cookie detail=sets a" in caplog.messages
    assert "generate-started total=3" in caplog.messages


def test_the_default_logger_keeps_what_is_frequent_for_debugging(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app()
    attach_default_logger(app)
    app.add_url_rule("/", "home", mark(lambda: "home"))
    with caplog.at_level(logging.DEBUG, "flask_prerender"):
        generate(app)
        app.test_client().get("/")
    debug = {r.message.split(" ")[0] for r in caplog.records if r.levelno == logging.DEBUG}
    assert debug == {"render-started", "render-finished", "page-served"}


def test_a_line_of_the_default_logger_is_short(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app()
    attach_default_logger(app)

    def view() -> str:
        raise ValueError("x" * 10_000)

    app.add_url_rule("/", "home", mark(view))
    app.add_url_rule("/a", "a", mark(lambda: "a"))
    with caplog.at_level(logging.DEBUG, "flask_prerender"):
        generate(app)
    lines = [line for line in caplog.messages if not line.startswith("Exception on")]
    assert any("x" * 150 in line for line in lines)
    assert all(len(line) < 300 for line in lines)
    finished = next(line for line in lines if line.startswith("generate-finished"))
    assert "report=2 planned, 1 failed, 1 published, 0 removed duration=0." in finished


def test_the_default_logger_is_attached_to_one_app_once(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    app, other = make_app(), make_app()
    attach_default_logger(app)
    attach_default_logger(app)
    for each in (app, other):
        each.add_url_rule("/", "home", mark(lambda: "home"))
    with caplog.at_level(logging.INFO, "flask_prerender"):
        generate(other)
        assert caplog.messages == []
        generate(app)
    assert caplog.messages.count("generate-started total=1") == 1

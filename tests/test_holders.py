"""Holders of a claim that are killed, stopped, restarted, or fail: others make the page."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import abort
from flask import Flask
from flask import g

from conftest import Answer
from conftest import Clock
from conftest import LiveServer
from herds import all_from_the_store
from herds import CLIENTS
from herds import Herd
from herds import HERDS
from herds import Kind
from herds import Load
from herds import serving
from stage import LEASE
from stage import REVALIDATE
from stage import SECONDS
from stage import Stage
from stage import wait_until

PATH = "/page/one"


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    stage = Stage(tmp_path)
    stage.begin()
    return stage


def few(kind: str, *args: str) -> Kind:
    return HERDS[kind]._replace(workers=2, args=(*HERDS[kind].args, *args))


def begin_render(stage: Stage, server: LiveServer, version: str) -> int:
    """Let the page be stale and its render begin, and return the process that holds it."""
    before = len(stage.renders(PATH))
    stage.write("version", version)
    stage.hold()
    stage.forward(REVALIDATE)
    server.ask(PATH)
    return stage.wait_for_renders(PATH, before + 1)


def ask_until_rendered(stage: Stage, server: LiveServer, count: int) -> int:
    """Ask for the page until so many renders have begun, and return the last one's process."""

    def rendered() -> bool:
        answer = ask_those_awake(server)
        assert answer is None or answer.get("X-Prerendered") == "true"
        return len(stage.renders(PATH)) >= count

    wait_until(rendered)
    return stage.renders(PATH)[-1]


def ask_those_awake(server: LiveServer) -> Answer | None:
    """Ask for the page. The kernel may have told a stopped process of the connection, which nobody
    takes then until there is another one: ``None``."""
    try:
        return server.ask(PATH, seconds=3.0)
    except TimeoutError:
        return None


def wait_until_made(stage: Stage, server: LiveServer, version: str) -> None:
    def made() -> bool:
        answer = ask_those_awake(server)
        return answer is not None and answer.body.decode() == f"{PATH} {version}"

    wait_until(made)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# Killed.


def kill_holders(kind: str, stage: Stage, rounds: int) -> None:
    with serving(stage, few(kind)) as server:
        server.ask(PATH)
        version = "first"
        for number in range(rounds):
            count = len(stage.renders(PATH))
            holder = begin_render(stage, server, str(number))
            os.kill(holder, signal.SIGKILL)
            wait_until(lambda: not is_alive(holder))  # noqa: B023
            # Nobody knows yet that it died, and nobody waits for it.
            all_from_the_store(Herd(server, PATH).gather(), f"{PATH} {version}")
            assert len(stage.renders(PATH)) == count + 1
            stage.forward(LEASE)
            assert ask_until_rendered(stage, server, count + 2) != holder
            stage.let_go()
            version = str(number)
            wait_until_made(stage, server, version)
            all_from_the_store(Herd(server, PATH).gather(), f"{PATH} {version}")
            assert len(stage.renders(PATH)) == count + 2


@pytest.mark.parametrize("kind", ["gthread", "gevent", "uwsgi"])
def test_the_page_of_a_killed_process_is_made_by_another_when_its_claim_ends(
    kind: str, stage: Stage
) -> None:
    kill_holders(kind, stage, 1)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_pages_of_a_hundred_killed_processes_are_made_by_others(stage: Stage) -> None:
    kill_holders("gthread", stage, 100)


# Stopped, and late.


def stop_holders(kind: str, stage: Stage, rounds: int) -> None:
    with serving(stage, few(kind)) as server:
        server.ask(PATH)
        for number in range(rounds):
            count = len(stage.renders(PATH))
            holder = begin_render(stage, server, f"late {number}")
            os.kill(holder, signal.SIGSTOP)
            try:
                stage.write("version", number)
                stage.forward(LEASE)
                assert ask_until_rendered(stage, server, count + 2) != holder
                stage.let_go()
                wait_until_made(stage, server, str(number))
            finally:
                os.kill(holder, signal.SIGCONT)
            wait_until(lambda: stage.noted("refused")[number:])  # noqa: B023
            assert stage.noted("refused")[number] == (holder, f"{PATH} fenced")
            all_from_the_store(Herd(server, PATH).gather(), f"{PATH} {number}")
            assert len(stage.renders(PATH)) == count + 2


@pytest.mark.parametrize("kind", ["gthread", "uwsgi"])
def test_what_a_stopped_process_makes_too_late_is_not_stored(kind: str, stage: Stage) -> None:
    stop_holders(kind, stage, 2)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_what_a_hundred_stopped_processes_make_too_late_is_not_stored(stage: Stage) -> None:
    stop_holders("gthread", stage, 100)


# Restarted.


def restart_holders(
    stage: Stage, kind: Kind, rounds: int, restart: Callable[[LiveServer, int], None]
) -> None:
    with serving(stage, kind) as server:
        server.ask(PATH)
        with Load(server, PATH) as load:
            for number in range(rounds):
                holder = begin_render(stage, server, str(number))
                begun, made = len(stage.renders(PATH)), len(stage.noted("made"))
                restart(server, holder)
                load.wait_for(lambda: not is_alive(holder))  # noqa: B023
                # Much less than a lease: its claim has not run out, it was given back.
                stage.forward(1.0)
                load.wait_for(lambda: len(stage.renders(PATH)) > begun)  # noqa: B023
                stage.let_go()
                load.wait_for(lambda: load.answers[str(number)])  # noqa: B023
                load.wait_for(lambda: len(stage.noted("made")) > made)  # noqa: B023
                assert len(stage.noted("made")) == made + 1
                assert holder not in stage.renders(PATH)[begun:]
        assert load.wrong == []


def test_the_page_of_a_process_that_is_told_to_end_is_made_by_another_at_once(
    stage: Stage,
) -> None:
    restart_holders(stage, few("gthread"), 1, lambda _, holder: os.kill(holder, signal.SIGTERM))


@pytest.mark.parametrize(
    "kind", ["gthread", pytest.param("gevent", marks=pytest.mark.long), "uwsgi"]
)
def test_no_visitor_notices_that_a_holder_is_reloaded(kind: str, stage: Stage) -> None:
    restart_holders(
        stage, few(kind), 1, lambda server, _: server.process.send_signal(signal.SIGHUP)
    )


def test_no_visitor_notices_that_a_holder_has_had_its_number_of_requests(stage: Stage) -> None:
    kind = few("gthread", "--max-requests", "300", "--max-requests-jitter", "100")
    restart_holders(stage, kind, 1, lambda server, holder: None)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_pages_of_a_hundred_processes_that_are_told_to_end_are_made_by_others(
    stage: Stage,
) -> None:
    restart_holders(stage, few("gthread"), 100, lambda _, holder: os.kill(holder, signal.SIGTERM))


# Failing.


def test_an_origin_that_fails_ten_minutes_costs_four_processes_twelve_renders_and_no_visitor(
    make_app: Callable[..., Flask], wsgi_get: Callable[..., Answer], clock: Clock
) -> None:
    apps = [make_app() for _ in range(4)]
    renders: list[float] = []
    well = [True]

    def view() -> str:
        renders.append(clock.now)
        if not well[0]:
            abort(500)
        return f"made {len(renders)}"

    for app in apps:
        app.add_url_rule("/", "index", app.prerender(revalidate=1)(view))  # type: ignore[attr-defined]

    def ask_all() -> set[bytes]:
        answers = [wsgi_get(app, "/") for app in apps for _ in range(3)]
        assert {(one.status, one.get("X-Prerendered")) for one in answers} == {(200, "true")}
        return {one.body for one in answers}

    assert wsgi_get(apps[0], "/").status == 200
    well[0] = False
    begun = clock.now
    for _ in range(600):
        clock.forward(1.0)
        assert ask_all() == {b"made 1"}
        settle(apps)
    assert 5 < len(renders) - 1 <= 12
    well[0] = True
    last = renders[-1]
    while ask_all() == {b"made 1"}:
        settle(apps)
        clock.forward(1.0)
        assert clock.now - last < 300 * 1.1 + 3
    settle(apps)
    assert ask_all() == {f"made {len(renders)}".encode()}
    assert begun + 600 <= renders[-1]


@pytest.mark.parametrize("seconds", [-3600.0, 3600.0, 10 * 365.25 * 86400.0])
def test_a_clock_that_is_set_makes_each_page_new_once(
    seconds: float,
    make_app: Callable[..., Flask],
    wsgi_get: Callable[..., Answer],
    clock: Clock,
) -> None:
    apps = [make_app() for _ in range(2)]
    renders = []

    def view() -> str:
        renders.append(clock.now)
        return f"made {len(renders)}"

    for app in apps:
        app.add_url_rule("/", "index", app.prerender(revalidate=REVALIDATE)(view))  # type: ignore[attr-defined]
    assert wsgi_get(apps[0], "/").body == b"made 1"
    clock.forward(seconds)
    assert wsgi_get(apps[0], "/").body == b"made 1"
    settle(apps)
    for app in (*apps, *apps):
        answer = wsgi_get(app, "/")
        assert answer.body == b"made 2"
        assert float(answer.get("Age") or 0) >= 0
    settle(apps)
    assert len(renders) == 2
    # And it is not frozen at a moment that the clock had before.
    clock.forward(REVALIDATE)
    wsgi_get(apps[1], "/")
    settle(apps)
    assert wsgi_get(apps[0], "/").body == b"made 3"


def settle(apps: list[Flask]) -> None:
    """Wait until no page is being made."""
    deadline = time.monotonic() + SECONDS
    regenerators = [app.extensions["prerender"].regenerator for app in apps]
    while any(
        one.backlog.queue or any(worker.key for worker in one.backlog.workers)
        for one in regenerators
    ):
        assert time.monotonic() < deadline
        time.sleep(0.0005)


# What a render and its visitors have in common.


def test_visitors_who_wait_hold_nothing_that_a_render_needs(
    make_app: Callable[..., Flask], wsgi_get: Callable[..., Answer]
) -> None:
    app = make_app({"PRERENDER_WAIT": SECONDS, "PRERENDER_MAX_RENDERS": 4})
    pool = threading.BoundedSemaphore(4)
    waited = []

    @app.before_request
    def connect() -> None:
        g.connected = pool.acquire(timeout=SECONDS)
        waited.append(g.connected)

    @app.teardown_request
    def disconnect(error: BaseException | None) -> None:
        if g.pop("connected", False):
            pool.release()

    renders = []

    @app.route("/<int:number>")
    @app.prerender  # type: ignore[attr-defined]
    def page(number: int) -> str:
        renders.append(number)
        return f"page {number}"

    line = threading.Barrier(CLIENTS)
    answers: list[tuple[int, Answer]] = []

    def visit(number: int) -> None:
        line.wait(SECONDS)
        answers.append((number, wsgi_get(app, f"/{number}")))

    threads = [threading.Thread(target=visit, args=(n % 4,)) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * SECONDS)
    assert len(answers) == CLIENTS
    assert all(one.body == f"page {number}".encode() for number, one in answers)
    assert sorted(renders) == [0, 1, 2, 3]
    assert waited == [True] * 4


def test_pages_that_ask_for_each_other_are_made_without_an_end(
    make_app: Callable[..., Flask], wsgi_get: Callable[..., Answer]
) -> None:
    app = make_app()
    calls = []

    def fetch(path: str) -> str:
        calls.append(path)
        return app.test_client().get(path).text if len(calls) < 10 else "no end"

    @app.route("/a")
    @app.prerender  # type: ignore[attr-defined]
    def a() -> str:
        return f"a({fetch('/b') if len(calls) < 2 else ''})"

    @app.route("/b")
    @app.prerender  # type: ignore[attr-defined]
    def b() -> str:
        return f"b({fetch('/a')})"

    answer = wsgi_get(app, "/a")
    assert (answer.status, answer.body) == (200, b"a(b(a()))")
    assert calls == ["/b", "/a"]

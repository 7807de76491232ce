"""Herds of clients at real servers: one render for all processes, whatever the server."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from conftest import LiveServer
from herds import all_from_the_store
from herds import CLIENTS
from herds import Herd
from herds import HERDS
from herds import Kind
from herds import OTHERS
from herds import serving
from stage import LEASE
from stage import REVALIDATE
from stage import Stage
from stage import wait_until


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    stage = Stage(tmp_path)
    stage.begin()
    return stage


def herds_on_a_stale_page(stage: Stage, server: LiveServer, rounds: int) -> None:
    path = "/page/stale"
    assert server.ask(path).body == b"/page/stale first"
    version = "first"
    for number in range(rounds):
        stage.write("version", number)
        stage.hold()
        stage.forward(REVALIDATE)
        # The render has begun and cannot end: whoever is answered did not wait for it.
        all_from_the_store(Herd(server, path).gather(), f"{path} {version}")
        stage.wait_for_renders(path, number + 2)
        stage.let_go()
        version = str(number)
        wait_until(lambda: server.ask(path).body.decode() == f"{path} {version}")  # noqa: B023
        all_from_the_store(Herd(server, path).gather(), f"{path} {version}")
        assert len(stage.renders(path)) == number + 2


def herds_on_an_absent_page(stage: Stage, server: LiveServer, rounds: int) -> None:
    for number in range(rounds):
        path = f"/page/absent-{number}"
        stage.hold()
        herd = Herd(server, path).wait_until_asked()
        stage.wait_for_renders(path, 1)
        assert herd.answers == {}
        stage.let_go()
        all_from_the_store(herd.gather(), f"{path} {stage.read('version')}")
        assert len(stage.renders(path)) == 1


def herds_on_a_private_page(stage: Stage, server: LiveServer, workers: int) -> None:
    path = "/private/page"
    version = stage.read("version")

    def come() -> Herd:
        return Herd(server, path, lambda number: {"X-Who": f"visitor {number}"})

    def all_got_their_own(herd: Herd) -> set[str | None]:
        answers = herd.gather()
        wanted = [f"{path} {version} of visitor {number}" for number in range(CLIENTS)]
        assert [answer.body.decode() for answer in answers] == wanted
        assert {(answer.status, answer.get("X-Prerendered")) for answer in answers} == {(200, None)}
        return {answer.get("X-Pid") for answer in answers}

    stage.hold()
    herd = come().wait_until_asked()
    stage.wait_for_renders(path, 1)
    stage.let_go()
    seen = all_got_their_own(herd)
    wait_until(lambda: seen.update(all_got_their_own(come())) or len(seen) == workers)
    renders = stage.renders(path)
    assert len(renders) == len(set(renders)), "a process tried again what it knew"
    # No render can end now: whoever is answered did not wait for one.
    stage.hold()
    all_got_their_own(come())
    stage.let_go()
    assert stage.renders(path) == renders


def herds_at(kind: str, stage: Stage, rounds: int) -> None:
    with serving(stage, HERDS[kind]) as server:
        herds_on_a_stale_page(stage, server, rounds)
        herds_on_an_absent_page(stage, server, rounds)
        herds_on_a_private_page(stage, server, HERDS[kind].workers)
    # Nothing was under way that had not been counted.
    assert len(stage.renders("/page/stale")) == rounds + 1


@pytest.mark.parametrize("kind", HERDS)
def test_a_herd_costs_one_render_and_nobody_gets_what_is_anothers(kind: str, stage: Stage) -> None:
    herds_at(kind, stage, 3)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", HERDS)
def test_twenty_herds_cost_twenty_renders(kind: str, stage: Stage) -> None:
    herds_at(kind, stage, 20)


@pytest.mark.parametrize("mode", ["thread", "process"])
def test_two_hundred_visitors_of_two_processes_cost_one_render_even_if_it_is_killed(
    mode: str, stage: Stage
) -> None:
    path = "/page/stale"
    kind = Kind("gunicorn", ("--worker-class", "gthread", "--threads", "100"), 2)
    more = {f"HERD_CONFIG_PRERENDER_{key}": value for key, value in [("REGENERATE", mode),
            ("APP", "stage:create_app()")]}  # fmt: skip
    with serving(stage, kind, **more) as server:
        server.ask(path)
        stage.write("version", "new")
        stage.hold()
        stage.forward(REVALIDATE)
        all_from_the_store(Herd(server, path, clients=200).gather(), f"{path} first")
        maker = stage.wait_for_renders(path, 2)
        os.kill(maker, signal.SIGKILL)
        stage.forward(LEASE)
        wait_until(lambda: server.ask(path) and len(stage.renders(path)) == 3)
        all_from_the_store(Herd(server, path, clients=200).gather(), f"{path} first")
        stage.let_go()
        wait_until(lambda: server.ask(path).body.decode() == f"{path} new")
        # Every process has it at its next request.
        all_from_the_store(Herd(server, path, clients=200).gather(), f"{path} new")
        assert len(stage.renders(path)) == 3
        assert maker not in stage.renders(path)[2:]


@pytest.mark.parametrize("kind", ["gthread", "gevent"])
@pytest.mark.parametrize("state", ["stale", "absent"])
def test_who_asks_after_a_purge_never_gets_what_was_under_way(
    kind: str, state: str, stage: Stage
) -> None:
    path = "/page/taken"
    with serving(stage, HERDS[kind]) as server:
        for number in range(5):
            stage.write("version", f"old-{number}")
            if state == "stale" and number == 0:
                server.ask(path)
            elif state == "stale":
                stage.forward(REVALIDATE)
            else:
                server.ask("/purge/taken", method="POST")
            begun = len(stage.renders(path))
            stage.hold()
            if state == "stale" and number == 0:
                stage.forward(REVALIDATE)
            first = threading.Thread(target=server.ask, args=(path,))
            first.start()
            stage.wait_for_renders(path, begun + 1)
            stage.write("version", f"new-{number}")
            assert server.ask("/purge/taken", method="POST").status == 200
            herd = Herd(server, path).wait_until_asked()
            stage.let_go()
            assert {one.body.decode() for one in herd.gather()} == {f"{path} new-{number}"}
            first.join()
            all_from_the_store([server.ask(path)], f"{path} new-{number}")


@pytest.mark.parametrize("kind", OTHERS)
def test_a_stale_page_is_made_new_without_another_request_whatever_the_server(
    kind: str, stage: Stage
) -> None:
    path = "/page/stale"
    # What the master did at import is no reason for its children not to work.
    with serving(stage, OTHERS[kind], HERD_AT_IMPORT=path) as server:
        for number in range(1, 4):
            stage.write("version", number)
            stage.hold()
            stage.forward(REVALIDATE)
            assert server.ask(path).get("X-Prerendered") == "true"
            # The request has ended, and with it, in some servers, the turn of whoever holds Python.
            stage.wait_for_renders(path, number + 1)
            stage.let_go()
            wait_until(lambda: len(stage.noted("made")) == number + 1)  # noqa: B023
            wait_until(lambda: server.ask(path).body.decode() == f"{path} {number}")  # noqa: B023
        assert len(stage.renders(path)) == 4


def test_greenlets_go_on_while_one_of_them_waits_for_a_database_that_is_locked(
    stage: Stage,
) -> None:
    path = "/page/stale"
    kind = HERDS["gevent"]._replace(workers=1)
    with serving(stage, kind) as server:
        server.ask(path)
        stage.write("version", "new")
        stage.forward(REVALIDATE)
        with locked(stage.folder / "instance/prerendered/store/coordination.sqlite3"):
            for _ in range(20):
                all_from_the_store([server.ask(path)], f"{path} first")
        # Whoever waited without letting others go on has given up by now.
        wait_until(lambda: server.ask(path).body.decode() == f"{path} new")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a database as a writer does that has not come to its end."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    yield
    connection.execute("ROLLBACK")
    connection.close()

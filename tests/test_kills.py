"""Writers killed at random moments, and at every step, under readers that check what they get."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from witness import add_pages
from witness import build
from witness import check
from witness import check_store
from witness import check_tree
from witness import environment
from witness import leftovers
from witness import PATHS
from witness import Readers
from witness import start_build
from witness import write_version

Start = Callable[..., Any]


@pytest.fixture
def restart(make_app: Callable[..., Flask], tmp_path: Path) -> Callable[[], Flask]:
    """Start the site anew, with views that fail: whatever it answers was stored before."""

    def start() -> Flask:
        app = make_app()
        add_pages(app, tmp_path, broken=True)
        return app

    return start


def kill_at_random(process: subprocess.Popen[bytes], span: float) -> None:
    """Kill a build at some moment after its first render began."""
    wait_until_begun(process)
    try:
        process.wait(random.uniform(0.0, span))
    except subprocess.TimeoutExpired:
        process.kill()
    process.communicate()


def wait_until_begun(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    said = process.stdout.readline()
    assert said == b"begun\n", said + process.stdout.read()


def duration_of_a_build(folder: Path, version: object) -> float:
    write_version(folder, version)
    with start_build(folder, WITNESS_ANNOUNCE="1") as process:
        wait_until_begun(process)
        begun = time.monotonic()
        said, _ = process.communicate()
    assert process.returncode == 0, said.decode()
    return time.monotonic() - begun


def kill_builds(
    kills: int, folder: Path, server: Any, restart: Callable[[], Flask], get: Start, *options: str
) -> None:
    root = folder / "instance" / "prerendered"
    span = duration_of_a_build(folder, "first")
    paths = map(random.choice, itertools.repeat(PATHS))
    killed = between = 0
    with Readers(server.port, lambda: next(paths)) as readers:
        for number in range(kills):
            write_version(folder, number)
            process = start_build(folder, *options, WITNESS_ANNOUNCE="1")
            kill_at_random(process, span)
            killed += process.returncode == -signal.SIGKILL
            versions = check_store(restart(), get)
            assert set(versions) == set(PATHS)
            between += len(set(versions.values())) > 1
            check_tree(root / "public")
            assert readers.wrong == []
        readers.wait_for(50)
    assert readers.wrong == []
    assert killed >= kills // 2
    assert between > 0 or kills < 50, "no build died between its first page and its last"
    # No answer was the app's: a page that is stored is never missing, whatever was killed.
    assert readers.answers["app"] == 0
    assert min(readers.answers[coding] for coding in ("identity", "gzip", "br")) > 0


def die_while_building(
    kills: int,
    folder: Path,
    live_server: Start,
    restart: Callable[[], Flask],
    get: Start,
    *options: str,
) -> None:
    build(folder, "zero")
    server = live_server(
        "witness:create_app()", workers=1, args=["--threads", "4"], env=environment(folder)
    )
    kill_builds(kills, folder, server, restart, get, *options)
    server.stop()
    assert leftovers(folder / "instance" / "prerendered") == []
    build(folder, "last")
    assert set(check_store(restart(), get).values()) == {"last"}


def test_readers_never_notice_that_builds_are_killed(
    tmp_path: Path, live_server: Start, restart: Callable[[], Flask], wsgi_get: Start
) -> None:
    die_while_building(4, tmp_path, live_server, restart, wsgi_get)


def kill_servers(kills: int, folder: Path, victim: Any, witness: Any) -> Readers:
    """Kill workers that are storing first visits and pages that expire, one after another."""
    visits = itertools.count()
    asked = ["/visit/0"]

    def new_visits() -> str:
        number = next(visits)
        if number % 3 == 0:
            return f"/live/{number % 5}"
        asked.append(f"/visit/{number}")
        return asked[-1]

    def known_pages() -> str:
        return random.choice([*PATHS, *asked[-20:], random.choice(asked), "/live/1", "/live/3"])

    with (
        Readers(victim.port, new_visits, dying=True) as visitors,
        Readers(witness.port, known_pages) as readers,
    ):
        killed: set[int] = set()
        while len(killed) < kills and readers.wrong == [] == visitors.wrong:
            write_version(folder, len(killed))
            visitors.wait_for(5)
            time.sleep(random.uniform(0.0, 0.05))
            alive = list(visitors.pids - killed)
            if alive:
                os.kill(alive[0], signal.SIGKILL)
                killed.add(alive[0])
        visitors.wait_for(20)
        readers.wait_for(20)
    assert readers.wrong == [] == visitors.wrong
    assert visitors.answers["lost"] > 0, "nobody was interrupted"
    assert readers.answers["stored"] > readers.answers["app"]
    return visitors


def die_while_serving(
    kills: int, folder: Path, live_server: Start, restart: Callable[[], Flask], get: Start
) -> None:
    build(folder, "zero")
    args = ["--threads", "4", "--preload", "--log-level", "critical"]
    env = environment(folder)
    victim = live_server("witness:create_app()", workers=2, args=args, env=env)
    witness = live_server("witness:create_app()", workers=1, args=args, env=env)
    visitors = kill_servers(kills, folder, victim, witness)
    victim.stop()
    witness.stop()
    versions = check_store(restart(), get)
    assert set(PATHS) <= set(versions)
    assert len(versions) > len(PATHS) + visitors.answers["stored"] // 2
    root = folder / "instance" / "prerendered"
    check_tree(root / "public")
    assert leftovers(root) == []


def test_readers_never_notice_that_a_serving_process_is_killed(
    tmp_path: Path, live_server: Start, restart: Callable[[], Flask], wsgi_get: Start
) -> None:
    die_while_serving(6, tmp_path, live_server, restart, wsgi_get)


STEPS = ("open", "write", "replace", "link", "mkdir", "unlink", "close")


def die_at(step: int) -> Callable[[], int]:
    """Make this process kill itself before its system call of that number; return the count."""
    count = 0

    def counting(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return counted

    class Connection(sqlite3.Connection):
        execute = counting(sqlite3.Connection.execute)

    connect = sqlite3.connect
    sqlite3.connect = lambda *args, **kwargs: connect(*args, **kwargs, factory=Connection)  # type: ignore[assignment]
    for name in STEPS:
        setattr(os, name, counting(getattr(os, name)))
    return lambda: count


def in_a_child(work: Callable[[], object]) -> int:
    """Run `work` in a forked child, and return how the child ended: as `os.waitpid` says it."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return os.waitpid(pid, 0)[1]


def publish_and_die(make_app: Start, get: Start, folder: Path, step: int) -> Callable[[], None]:
    def work() -> None:
        app = make_app()
        add_pages(app, folder)
        die_at(step)
        check("/visit/1", get(app, "/visit/1"))
        check("/visit/2", get(app, "/visit/2"))
        app.test_cli_runner().invoke(args=["prerender", "--path", "/page/1", "--path", "/visit/1"])

    return work


def linked_alike() -> Callable[[str, str], object]:
    """Return what copies files of one folder: those that were one file are one again."""
    copies: dict[tuple[int, int], str] = {}

    def copy(source: str, target: str) -> None:
        about = Path(source).stat()
        first = copies.setdefault((about.st_dev, about.st_ino), target)
        if first == target:
            shutil.copy2(source, target)
        else:
            Path(target).hardlink_to(first)

    return copy


def die_at_every_step(
    folder: Path, make_app: Start, restart: Callable[[], Flask], get: Start, stride: int
) -> int:
    """Kill writers at every step, or at some of them; return how many steps there were."""
    root, before = folder / "instance" / "prerendered", folder / "before"
    write_version(folder, "old")
    first = make_app()
    add_pages(first, folder)
    run = first.test_cli_runner().invoke
    done = run(args=["prerender", "--path", "/page/1", "--path", "/page/2"])
    assert done.exit_code == 0, done.output
    write_version(folder, "new")
    root.rename(before)
    for step in itertools.count(random.randint(1, stride), stride):
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(before, root, copy_function=linked_alike())
        ended = in_a_child(publish_and_die(make_app, get, folder, step))
        versions = check_store(restart(), get)
        check_tree(root / "public")
        assert leftovers(root) == []
        assert {versions[path] for path in versions if "visit" in path} <= {"new"}
        assert versions["/page/2"] == "old"
        if ended == 0:
            break
        assert ended == signal.SIGKILL
        assert versions["/page/1"] in ("old", "new")
    assert versions == {"/page/1": "new", "/page/2": "old", "/visit/1": "new", "/visit/2": "new"}
    return step


def test_a_page_is_whole_at_whichever_step_its_writer_dies(
    tmp_path: Path, make_app: Start, restart: Callable[[], Flask], wsgi_get: Start
) -> None:
    assert die_at_every_step(tmp_path, make_app, restart, wsgi_get, stride=5) > 100


@pytest.mark.long
def test_a_page_is_whole_at_every_step_its_writer_dies_at(
    tmp_path: Path, make_app: Start, restart: Callable[[], Flask], wsgi_get: Start
) -> None:
    assert die_at_every_step(tmp_path, make_app, restart, wsgi_get, stride=1) > 100


@pytest.mark.long
@pytest.mark.timeout(600)
def test_two_hundred_killed_builds(
    tmp_path: Path, live_server: Start, restart: Callable[[], Flask], wsgi_get: Start
) -> None:
    die_while_building(200, tmp_path, live_server, restart, wsgi_get)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_thirty_killed_builds_in_processes(
    tmp_path: Path, live_server: Start, restart: Callable[[], Flask], wsgi_get: Start
) -> None:
    die_while_building(30, tmp_path, live_server, restart, wsgi_get, "--processes", "2")


@pytest.mark.long
@pytest.mark.timeout(600)
def test_two_hundred_killed_workers(
    tmp_path: Path, live_server: Start, restart: Callable[[], Flask], wsgi_get: Start
) -> None:
    die_while_serving(200, tmp_path, live_server, restart, wsgi_get)

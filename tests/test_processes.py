"""Builds in threads, in forked and in new processes: they say, store and fail the same."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
from flask import Flask
from flask.cli import ScriptInfo

from flask_prerender import ConfigError
from flask_prerender import generate
from flask_prerender import launch
from flask_prerender import Prerender
from flask_prerender import Report
from flask_prerender import signals
from flask_prerender.batch import Batch
from flask_prerender.generate import Build
from witness import check_store
from witness import check_tree
from witness import environment
from witness import PATHS
from witness import start_build
from witness import write_version

SITE = '''
import os, signal, threading, time
from dataclasses import replace
from flask import Flask, Response, session
from flask_prerender import Prerender

class Twisted(Exception):
    """One that cannot be made again from its own arguments."""
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")

app = Flask("the_site", root_path=os.environ["SITE_ROOT"])
app.config.update(
    SECRET_KEY="x", PRERENDER_PATH=os.environ["SITE_PATH"], PRERENDER_JITTER=0.0,
    PRERENDER_TIMEOUT=float(os.environ.get("SITE_TIMEOUT", 10)), PRERENDER_ENABLED=False,
    PRERENDER_BASE_URL="https://example.com", PRERENDER_COMPRESS_MIN_BYTES=100,
)
prerender = Prerender(app, clock=lambda: 1_800_000_000.0)

def once(name):
    """Whether this happens for the first time in any process."""
    try:
        os.close(os.open(f"{os.environ['SITE_ROOT']}/{name}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True

@prerender.data(tags=["prices"], ttl=None)
def price(number):
    return number * 2

@app.route("/page/<int:number>")
@prerender.mark(
    params=lambda: ({"number": n} for n in range(40)), tags=lambda number: [f"n{number}"]
)
def page(number):
    prerender.add_tags("added")
    prerender.revalidate_after(100 + number)
    if number == 7:
        raise Twisted("this", "that")
    if number == 11:
        return Response(f"{number}", headers={"X-Own": "yes"}, mimetype="text/plain")
    if number == 13:
        return session.get("name", "nobody")
    if number == 17:
        return "gone", 404
    if number == 19:
        return ""
    return f"<p>{price(number)} {'words ' * number}</p>"
'''

EXTRA = {
    "killed": "if number == 5: os.kill(os.getpid(), 9)\n    if number == 20: os._exit(3)",
    "hangs": "if number == 5: threading.Event().wait(60)",
    "leaves": "if number == 5: raise SystemExit(4)",
}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Flask]]:
    """Import the site's module anew, with a directory and a name of its own."""
    made: list[str] = []
    monkeypatch.syspath_prepend(str(tmp_path))
    # Those that run tests in processes are elsewhere than in a lock of ours.
    monkeypatch.setattr(launch, "_other_threads", list)

    def make(text: str = SITE, place: str = "", **env: str) -> Flask:
        name = f"the_site_{len(made)}"
        (tmp_path / f"{name}.py").write_text(text.replace('Flask("the_site"', f'Flask("{name}"'))
        root = tmp_path / (place or name)
        root.mkdir(exist_ok=True)
        for key, value in {"SITE_ROOT": root, "SITE_PATH": root / "out", **env}.items():
            monkeypatch.setenv(key, str(value))
        importlib.invalidate_caches()
        made.append(name)
        app: Flask = importlib.import_module(name).app
        return app

    yield make
    for name in made:
        module = sys.modules.pop(name)
        module.app.extensions["prerender"].close()


def build(app: Flask, mode: str, **options: Any) -> Report:
    if mode == "threads":
        one = Build(app.extensions["prerender"], concurrency=1, **options)
    else:
        method: Any = mode
        one = Build(app.extensions["prerender"], processes=2, method=method, **options)
    for _ in one.run():
        pass
    return one.report


def heard_by(app: Flask) -> list[tuple[str, dict[str, Any]]]:
    heard: list[tuple[str, dict[str, Any]]] = []

    def listener(name: str) -> Callable[..., None]:
        return lambda sender, **facts: heard.append((name, facts))

    for name, one in signals.SIGNALS.items():
        one.connect(listener(name), sender=app, weak=False)
    return heard


def facts_of(report: Report) -> dict[str, Any]:
    """Return the report without what is never the same twice."""
    found = report.to_dict()
    del found["duration"], found["slowest"]
    for one in found["turned_down"]:
        del one["duration"]
    text = json.dumps(found).replace("the_site_0", "the_site").replace("the_site_1", "the_site")
    return json.loads(text)  # type: ignore[no-any-return]


def by_key(heard: list[tuple[str, dict[str, Any]]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for name, facts in heard:
        told = {n: v for n, v in facts.items() if n not in ("duration", "report", "page", "key")}
        told = {n: type(v).__name__ if isinstance(v, Exception) else v for n, v in told.items()}
        found.setdefault(facts.get("key", ""), []).append((name, told))
    return found


def files_of(app: Flask) -> dict[str, bytes]:
    root = app.extensions["prerender"].output
    kept = [path for path in root.rglob("*") if path.is_file() and "store" not in path.parts]
    skipped = ("last-build.json", "owner.json")
    return {
        str(path.relative_to(root)): _alike(path.read_bytes())
        for path in kept
        if path.name not in skipped
    }


def _alike(body: bytes) -> bytes:
    """The functions of the sites differ by the name of their module, and so do their tags."""
    return body.replace(b"the_site_0", b"the_site").replace(b"the_site_1", b"the_site")


def pages_of(app: Flask) -> list[Any]:
    stored = app.extensions["prerender"].store.pages()
    return [
        replace(page, token=0, revision=0, tags=tuple(_alike(" ".join(page.tags).encode()).split()))
        for page in stored
    ]


@pytest.mark.parametrize("mode", ["threads", "fork", "spawn"])
class TestEachMode:
    """What holds for a build however it renders."""

    def test_says_and_stores_the_same_as_one_thread(
        self, site: Callable[..., Flask], mode: str
    ) -> None:
        one, other = site(), site()
        wanted, found = heard_by(one), heard_by(other)
        expected = build(one, "threads")
        report = build(other, mode)
        assert expected.counts == {"published": 36, "failed": 1, "refused": 3}
        assert facts_of(report) == facts_of(expected)
        assert report.changed == [f"/page/{n}" for n in range(40) if n not in (7, 13, 17, 19)]
        assert [o.key for o in report.turned_down] == [f"/page/{n}" for n in (7, 13, 17, 19)]
        assert by_key(found).keys() == by_key(wanted).keys()
        twisted = "RenderError" if mode != "threads" else "Twisted"
        for key, sent in by_key(wanted).items():
            names = [name for name, _ in sent]
            assert [name for name, _ in by_key(found)[key]] == names
            if key != "/page/7":
                assert by_key(found)[key] == sent
        (failed,) = [f for n, f in found if n == "render-failed"]
        assert type(failed["error"]).__name__ == twisted
        assert "this and that" in str(failed["error"])
        assert files_of(other) == files_of(one)
        assert pages_of(other) == pages_of(one)
        assert len(files_of(one)) > 36 * 2
        (page,) = [one for one in pages_of(other) if one.key == "/page/3"]
        assert set(page.tags) >= {b"n3", b"added", b"prices"}
        assert page.revalidate == 103

    def test_a_second_build_writes_nothing(self, site: Callable[..., Flask], mode: str) -> None:
        app = site()
        build(app, mode)
        root = app.extensions["prerender"].output
        before = {path: path.stat().st_mtime_ns for path in (root / "public").rglob("*")}
        blobs = {path: path.stat().st_ino for path in (root / "store" / "blobs").rglob("*")}
        assert build(app, mode).counts == {"unchanged": 36, "failed": 1, "refused": 3}
        assert {p: p.stat().st_mtime_ns for p in (root / "public").rglob("*")} == before
        assert {p: p.stat().st_ino for p in (root / "store" / "blobs").rglob("*")} == blobs
        (page, *_) = pages_of(app)
        assert page.build == 2

    def test_the_first_failure_ends_a_build_that_is_to_fail_fast(
        self, site: Callable[..., Flask], mode: str
    ) -> None:
        report = build(site(), mode, fail_fast=True)
        assert [one.key for one in report.turned_down] == ["/page/7"]
        assert report.counts == {"published": 7, "failed": 1}
        assert report.was_stopped
        assert not report.is_good

    def test_what_hangs_fails_and_the_rest_is_stored(
        self, site: Callable[..., Flask], mode: str
    ) -> None:
        if mode == "threads":
            pytest.skip("see test_generate.py; its thread would stay")
        app = site(
            SITE.replace("if number == 7", EXTRA["hangs"] + "\n    if number == 7"),
            SITE_TIMEOUT="0.5",
        )
        report = build(app, mode)
        assert report.reasons["timeout"] == 1
        assert report.turned_down[0].key == "/page/5"
        assert "took longer than PRERENDER_TIMEOUT (0.5 s)" in report.turned_down[0].detail
        assert report.turned_down[0].duration > 0.5
        assert report.counts == {"published": 35, "failed": 2, "refused": 3}

    def test_a_view_that_exits_fails(self, site: Callable[..., Flask], mode: str) -> None:
        app = site(SITE.replace("if number == 7", EXTRA["leaves"] + "\n    if number == 7"))
        report = build(app, mode)
        assert report.turned_down[0].detail == "SystemExit: 4"
        assert report.counts == {"published": 35, "failed": 2, "refused": 3}

    def test_a_page_purged_while_it_is_rendered_is_not_served(
        self, site: Callable[..., Flask], mode: str
    ) -> None:
        purge = 'if number == 3: prerender.purge("/page/3")'
        app = site(SITE.replace("if number == 7", purge + "\n    if number == 7"))
        assert build(app, mode).counts["published"] == 36
        state = app.extensions["prerender"]
        state.revocations.follow()
        taken = {page.key for page in state.store.pages() if state.revocations.of(page) == "hard"}
        assert taken == {"/page/3"}

    def test_a_page_that_was_made_meanwhile_is_not_replaced_by_an_older_render(
        self, site: Callable[..., Flask], mode: str
    ) -> None:
        meanwhile = """
    site = app.extensions["prerender"]
    store, coordination = site.store, site.coordination
    if number == 3 and store.get("/page/3") and once("meanwhile"):
        made = replace(store.get("/page/3"), token=coordination.next_token())
        store.put(made, {})
        return "an older render"
"""
        app = site(SITE.replace("\n    if number == 7", meanwhile + "    if number == 7"))
        build(app, mode)
        report = build(app, mode)
        assert report.counts["unchanged"] == 36
        store = app.extensions["prerender"].store
        page = store.get("/page/3")
        assert b"<p>6 " in store.read(page, page.identity)
        assert page.build == 2


@pytest.mark.parametrize("mode", ["fork", "spawn"])
def test_a_process_that_dies_costs_its_page_alone(site: Callable[..., Flask], mode: str) -> None:
    app = site(SITE.replace("if number == 7", EXTRA["killed"] + "\n    if number == 7"))
    heard = heard_by(app)
    report = build(app, mode)
    assert report.counts == {"published": 34, "failed": 3, "refused": 3}
    told = {one.key: one for one in report.turned_down}
    assert list(told) == [f"/page/{n}" for n in (5, 7, 13, 17, 19, 20)]
    assert told["/page/5"].detail == "the process that rendered it was killed by signal 9 (SIGKILL)"
    assert told["/page/20"].detail == "the process that rendered it ended with the exit code 3"
    assert (told["/page/5"].result, told["/page/5"].reason) == ("failed", "error")
    refused = [facts["key"] for name, facts in heard if name == "page-refused"]
    assert set(refused) == set(told)
    assert len(refused) == len(told)


@pytest.mark.parametrize("mode", ["fork", "spawn"])
def test_processes_that_can_never_work_end_the_build(
    site: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    app = site()
    if mode == "spawn":
        monkeypatch.delenv("SITE_PATH")  # the import fails there
    else:
        monkeypatch.setattr("flask_prerender.child._serve", lambda *args: os._exit(5))
    report = build(app, mode)
    assert report.was_stopped
    wanted = "KeyError: 'SITE_PATH'" if mode == "spawn" else "ended with the exit code 5 before"
    assert wanted in report.error


def test_nobody_hangs_who_waits_for_a_slow_disk(
    site: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, slow = Batch.store, [1.5]

    def store_slowly(self: Batch, waiting: Any) -> Any:
        time.sleep(slow.pop() if slow else 0)
        return store(self, waiting)

    monkeypatch.setattr(Batch, "store", store_slowly)
    monkeypatch.setattr("flask_prerender.processes.GRACE_SECONDS", 0.0)
    report = build(site(SITE_TIMEOUT="1"), "fork")
    assert report.counts == {"published": 36, "failed": 1, "refused": 3}


def test_threads_and_processes_exclude_each_other(site: Callable[..., Flask]) -> None:
    with pytest.raises(ConfigError, match=r"in threads .* or in processes"):
        generate(site(), concurrency=2, processes=2)


def test_a_build_from_python_renders_in_processes(site: Callable[..., Flask]) -> None:
    pids = SITE.replace('f"{number}", headers', "str(os.getpid()), headers")
    app = site(pids)
    assert generate(app, processes=1).counts["published"] == 36
    store = app.extensions["prerender"].store
    page = store.get("/page/11")
    assert int(store.read(page, page.identity)) != os.getpid()


# Where a new process finds the app.


def test_an_app_that_cannot_be_imported_is_an_error_before_anything_is_rendered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FLASK_APP", raising=False)
    app = Flask("nowhere", root_path=str(tmp_path), instance_path=str(tmp_path / "instance"))
    Prerender(app)
    with pytest.raises(ConfigError, match=r"'nowhere' .* no variable of its module .* FLASK_APP"):
        generate(app, processes=2)
    result = app.test_cli_runner().invoke(args=["prerender", "--processes", "2"])
    assert result.exit_code == 2
    assert "no variable of its module" in result.output


def test_what_a_fork_would_cut_off_is_named(
    site: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = site()
    busy = threading.Thread(name="a-busy-one")
    monkeypatch.setattr(launch, "_other_threads", lambda: [busy])
    with pytest.raises(ConfigError, match=r"cut off .*a-busy-one"):
        generate(app, processes=2, fork=True)
    result = app.test_cli_runner().invoke(args=["prerender", "--processes", "2", "--fork"])
    assert result.exit_code == 2
    assert "a-busy-one" in result.output
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ConfigError, match="no safe forks"):
        generate(app, processes=2, fork=True)


def test_nothing_is_forked_where_nothing_was_said_of_processes(site: Callable[..., Flask]) -> None:
    with pytest.raises(ConfigError, match="--processes N"):
        generate(site(), fork=True)


def test_new_processes_share_no_connection_of_this_one(site: Callable[..., Flask]) -> None:
    """What the enumerators opened here is not what the views of other processes use."""
    opened = """
from functools import cache

@cache
def connection():
    return os.getpid()

def numbers():
    connection()
    return [{"number": 1}]

@app.route("/page/<int:number>")
@prerender.mark(params=numbers)
def page(number):
    return f"{connection() == os.getpid()}"
"""
    head = SITE[: SITE.index("@prerender.data")]
    app = site(head + opened)
    assert generate(app, processes=1).is_good
    store = app.extensions["prerender"].store
    page = store.get("/page/1")
    assert store.read(page, page.identity) == b"True"


def make_nothing() -> Flask:
    return Flask("made")


def test_the_app_is_found_as_flask_finds_it(
    site: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = site()
    assert launch.app_path(app) == ("object", f"{app.import_name}:app", app.name)
    assert launch.load(launch.app_path(app)) is app
    command = click.Command("x")
    for info, wanted in (
        (ScriptInfo("thing:make()"), ("flask", "thing:make()")),
        (ScriptInfo(), ("flask", "")),
        (ScriptInfo(create_app=make_nothing), ("factory", f"{__name__}:make_nothing")),
        (ScriptInfo(create_app=lambda: app), ("object", f"{app.import_name}:app")),
    ):
        with click.Context(command, obj=info):
            assert launch.app_path(app) == (*wanted, app.name)
    assert launch.load(launch.AppPath("flask", f"{app.import_name}:app", app.name)) is app
    made = launch.AppPath("factory", f"{__name__}:make_nothing", "made")
    assert launch.load(made).name == "made"
    monkeypatch.setenv("FLASK_APP", "elsewhere:app")
    assert launch.app_path(make_nothing()) == ("flask", "elsewhere:app", "made")


def test_another_app_than_the_one_that_is_built_is_an_error(site: Callable[..., Flask]) -> None:
    app = site()
    with pytest.raises(ConfigError, match=r"is one of the app 'mine', and .* imports 'the_site_0'"):
        launch.load(launch.AppPath("object", f"{app.import_name}:app", "mine"))


# What ends from outside.


def start(folder: Path, **more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "flask", "--app", "witness", "prerender", "--quiet"]
    return subprocess.Popen(
        [*command, "--processes", "2"],
        cwd=folder,
        env={**os.environ, **environment(folder, WITNESS_ANNOUNCE="1", **more)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def wait_until_gone(group: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        assert time.monotonic() < deadline, "a process of the build is still there"
        time.sleep(0.01)


@pytest.mark.parametrize("ending", ["ctrl-c", "kill"])
def test_all_processes_end_with_their_build(tmp_path: Path, ending: str) -> None:
    write_version(tmp_path, "one")
    process = start(tmp_path, WITNESS_SLOW="0.2")
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    if ending == "ctrl-c":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.kill()
    process.communicate(timeout=20)
    assert process.returncode != 0
    wait_until_gone(process.pid)


def test_ctrl_c_in_the_middle_of_a_fork_ends_the_build(site: Callable[..., Flask]) -> None:
    pressing = [os.getpid()]

    def press() -> None:
        if pressing and os.getpid() == pressing[0]:
            pressing.clear()
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    app = site()
    os.register_at_fork(before=press)
    with pytest.raises(KeyboardInterrupt):
        build(app, "fork")
    assert pressing == []


def test_a_build_on_the_command_line_stores_whole_pages(
    tmp_path: Path, make_app: Callable[..., Flask], wsgi_get: Callable[..., Any]
) -> None:
    from witness import add_pages

    write_version(tmp_path, "one")
    process = start_build(tmp_path, "--processes", "2")
    said, _ = process.communicate(timeout=50)
    assert process.returncode == 0, said.decode()
    app = make_app()
    add_pages(app, tmp_path, broken=True)
    assert check_store(app, wsgi_get) == dict.fromkeys(PATHS, "one")
    check_tree(tmp_path / "instance" / "prerendered" / "public")


def test_a_process_that_does_not_begin_is_told(
    site: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_prerender.processes._START_SECONDS", 0.1)
    monkeypatch.setattr("flask_prerender.child._serve", lambda *args: time.sleep(30))
    report = build(site(), "fork")
    assert "did not come to work" in report.error

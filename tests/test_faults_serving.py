"""A failing disk, a failing index, a store that goes away: no visitor of a sound view notices."""

from __future__ import annotations

import errno
import io
import itertools
import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask import request
from flask.testing import FlaskCliRunner

from conftest import wait_for_our_threads
from flask_prerender import Prerender
from witness import add_pages
from witness import build
from witness import check
from witness import check_store
from witness import check_tree
from witness import leftovers
from witness import PATHS
from witness import write_version

Get = Callable[..., Any]
ERRORS = ("ENOSPC", "EROFS", "EACCES", "EIO", "EMFILE")
CALLS = ("open", "write", "replace", "link", "mkdir", "unlink", "scandir", "lstat")
SQL_ERRORS = (
    sqlite3.OperationalError("database is locked"),
    sqlite3.OperationalError("disk I/O error"),
    sqlite3.OperationalError("database or disk is full"),
    sqlite3.DatabaseError("database disk image is malformed"),
)


class Trouble:
    """Makes system calls and SQL statements below one directory fail, while it lasts."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self._root = str(root)
        self._calls: frozenset[str] = frozenset()
        self._error: Exception | None = None
        self._descriptors: set[int] = set()
        self.count = 0
        for name in ("open", "replace", "link", "mkdir", "unlink", "scandir", "lstat"):
            patch.setattr(os, name, self._failing(name, getattr(os, name)))
        patch.setattr(io, "open", self._failing("open", io.open))
        patch.setattr(os, "write", self._failing_write(os.write))
        patch.setattr(sqlite3, "connect", self._connecting(sqlite3.connect))

    @contextmanager
    def lasting(self, calls: str, error: Exception) -> Iterator[None]:
        self._calls, self._error, self.count = frozenset(calls.split()), error, 0
        yield
        self._calls = frozenset()
        assert self.count > 0, f"{calls} was never called"

    def _meets(self, name: str) -> None:
        if name in self._calls:
            self.count += 1
            assert self._error is not None
            raise self._error

    def _is_below(self, args: tuple[Any, ...]) -> bool:
        texts = [os.fspath(arg) for arg in args if isinstance(arg, str | os.PathLike)]
        return any(str(text).startswith(self._root) for text in texts)

    def _failing(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            if not self._is_below(args):
                return call(*args, **kwargs)
            self._meets(name)
            result = call(*args, **kwargs)
            if name == "open" and isinstance(result, int):
                self._descriptors.add(result)
            return result

        return called

    def _failing_write(self, call: Callable[..., int]) -> Callable[..., int]:
        def called(descriptor: int, data: Any) -> int:
            if descriptor in self._descriptors:
                self._meets("write")
            return call(descriptor, data)

        return called

    def _connecting(self, connect: Callable[..., Any]) -> Callable[..., Any]:
        trouble = self

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
                trouble._meets(sql.split()[0])
                return super().execute(sql, *args)

        def connected(address: str, *args: Any, **kwargs: Any) -> Any:
            if self._root not in address:
                return connect(address, *args, **kwargs)
            self._meets("connect")
            return connect(address, *args, factory=Connection, **kwargs)

        return connected


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "instance" / "prerendered"


@pytest.fixture
def trouble(root: Path, monkeypatch: pytest.MonkeyPatch) -> Trouble:
    return Trouble(root, monkeypatch)


@pytest.fixture
def site(make_app: Callable[..., Flask], tmp_path: Path) -> Flask:
    """A site that was built once, with the content "old"."""
    write_version(tmp_path, "old")
    app = make_app()
    add_pages(app, tmp_path)
    assert run_build(app).exit_code == 0
    return app


@pytest.fixture
def restart(make_app: Callable[..., Flask], tmp_path: Path) -> Callable[[], Flask]:
    def start() -> Flask:
        app = make_app()
        add_pages(app, tmp_path, broken=True)
        return app

    return start


@pytest.fixture
def visit(wsgi_get: Get) -> Callable[..., Any]:
    """Fetch a page; fail unless its view's own answer or a whole stored page came."""

    def get(app: Flask, path: str, encoding: str = "gzip") -> Any:
        answer = wsgi_get(app, path, headers={"Accept-Encoding": encoding})
        check(path, answer)
        return answer

    return get


def run_build(app: Flask, *options: str) -> Any:
    runner: FlaskCliRunner = app.test_cli_runner()
    return runner.invoke(args=["prerender", "--quiet", *options])


def forget(app: Flask) -> None:
    app.extensions["prerender"].memory.clear()


def is_stored(answer: Any) -> bool:
    return answer.get("X-Prerendered") == "true"


numbers = itertools.count(1000)


@pytest.fixture
def go_through(
    site: Flask, visit: Get, trouble: Trouble, caplog: pytest.LogCaptureFixture
) -> Callable[[str, Exception], int]:
    """Let visitors and a build meet an error, and return the lines that visitors caused."""

    def go(calls: str, error: Exception) -> int:
        visit(site, PATHS[0])
        wait_for_our_threads()
        with trouble.lasting(calls, error):
            assert is_stored(visit(site, PATHS[0])), "what is in memory needs no disk"
            forget(site)
            caplog.clear()
            for path in PATHS[:5]:
                visit(site, path)
            for number in range(5):
                visit(site, f"/visit/{next(numbers) if number else number}")
            lines = [record.getMessage() for record in caplog.records]
            assert len(lines) <= 1, lines
            result = run_build(site, "--path", "/page/[0-3]")
            assert result.exit_code in (0, 1), result.output
            assert isinstance(result.exception, SystemExit | None), repr(result.exception)
            for path in PATHS[:5]:
                visit(site, path)
        return len(lines)

    return go


def is_well_again(app: Flask, visit: Get, clock: Any) -> None:
    """After the store's rest, without a restart, first visits are stored."""
    clock.forward(31)
    path = f"/visit/{next(numbers)}"
    assert is_stored(visit(app, path)), path
    assert is_stored(visit(app, path))
    assert {visit(app, path).get("X-Version") for path in PATHS} <= {"old", "new"}
    clock.forward(60)


@pytest.mark.parametrize("name", ERRORS)
def test_a_failing_disk_is_never_seen_by_a_visitor(
    name: str, site: Flask, visit: Get, go_through: Any, restart: Any, clock: Any, tmp_path: Path
) -> None:
    error = OSError(getattr(errno, name), os.strerror(getattr(errno, name)))
    write_version(tmp_path, "new")
    for call in (*CALLS, " ".join(CALLS)):
        lines = go_through(call, error)
        assert lines == 1 or call in ("link", "unlink", "scandir"), f"nothing is said of {call}"
        is_well_again(site, visit, clock)
    assert set(PATHS) <= set(check_store(restart(), visit_raw(visit)))
    root = tmp_path / "instance" / "prerendered"
    assert run_build(site).exit_code == 0
    check_tree(root / "public")
    assert leftovers(root) == []


def visit_raw(visit: Get) -> Get:
    return lambda app, path, headers: visit(app, path, headers["Accept-Encoding"])


@pytest.mark.parametrize("statements", ["connect", "BEGIN", "COMMIT", "INSERT", "SELECT PRAGMA"])
def test_a_failing_index_is_never_seen_by_a_visitor(
    statements: str,
    site: Flask,
    visit: Get,
    go_through: Any,
    restart: Any,
    clock: Any,
    tmp_path: Path,
) -> None:
    write_version(tmp_path, "new")
    for error in SQL_ERRORS:
        # The connections of what came before are older than the trouble.
        site.extensions["prerender"].close()
        if statements != "connect":
            visit(site, PATHS[1])
        assert go_through(statements, error) == 1
        is_well_again(site, visit, clock)
    assert set(PATHS) <= set(check_store(restart(), visit_raw(visit)))


# A store that changes under a running server.


def whole_answers(site: Flask, visit: Get, version: str) -> None:
    for path in PATHS:
        for encoding in ("identity", "gzip", "br"):
            assert visit(site, path, encoding).get("X-Version") == version


def damage(root: Path, how: str) -> None:
    index = root / "store" / "index.sqlite3"
    if how == "garbage":
        index.write_bytes(os.urandom(20_000))
    elif how == "truncated":
        os.truncate(index, index.stat().st_size // 2)
    elif how == "emptied":
        os.truncate(index, 0)
    elif how == "replaced by garbage":
        new = root / "new"
        new.write_bytes(b"<html>no database</html>" * 500)
        new.replace(index)
    elif how == "deleted":
        index.unlink()
    elif how == "deleted with its log":
        for path in index.parent.glob("index.sqlite3*"):
            path.unlink()
    elif how == "blobs deleted":
        shutil.rmtree(root / "store" / "blobs")
    elif how == "tree deleted":
        shutil.rmtree(root / "public")
    elif how == "revision deleted":
        (root / "store" / "revision").unlink()
    elif how == "coordination garbage":
        (root / "store" / "coordination.sqlite3").write_bytes(os.urandom(9000))
    elif how == "all deleted":
        shutil.rmtree(root)


DAMAGES = (
    "garbage",
    "truncated",
    "emptied",
    "replaced by garbage",
    "deleted",
    "deleted with its log",
    "blobs deleted",
    "tree deleted",
    "revision deleted",
    "coordination garbage",
    "all deleted",
)


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_store_is_mended_by_the_next_build(
    how: str, site: Flask, visit: Get, make_app: Any, root: Path, clock: Any, tmp_path: Path
) -> None:
    whole_answers(site, visit, "old")
    damage(root, how)
    whole_answers(site, visit, "old")
    forget(site)
    whole_answers(site, visit, "old")
    visit(site, "/visit/1")
    write_version(tmp_path, "new")
    builder = make_app()
    add_pages(builder, tmp_path)
    result = run_build(builder)
    assert result.exit_code == 0, result.output
    builder.extensions["prerender"].close()
    wait_for_version(site, visit, "new")
    whole_answers(site, visit, "new")
    assert all(is_stored(visit(site, path)) for path in PATHS)
    clock.forward(31)
    visit(site, "/visit/2")
    assert is_stored(visit(site, "/visit/2"))
    check_tree(root / "public")


def wait_for_version(site: Flask, visit: Get, version: str) -> None:
    """A server may take a second to see that files which it has open are others now."""
    deadline = time.monotonic() + 3
    while visit(site, PATHS[0]).get("X-Version") != version:
        assert time.monotonic() < deadline, "the server goes on with pages that were deleted"
        time.sleep(0.01)


def test_a_server_follows_a_build_into_a_directory_that_was_deleted(
    site: Flask, visit: Get, root: Path, tmp_path: Path
) -> None:
    for version in ("second", "third"):
        whole_answers(site, visit, (tmp_path / "version").read_text())
        shutil.rmtree(root)
        build(tmp_path, version)
        wait_for_version(site, visit, version)
        whole_answers(site, visit, version)


def test_links_planted_in_the_store_lead_nowhere(
    site: Flask, visit: Get, root: Path, clock: Any, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for place in ("public/visit", "store/blobs", "store/tmp"):
        shutil.rmtree(root / place, ignore_errors=True)
        (root / place).symlink_to(outside, target_is_directory=True)
    (root / "public" / "page" / "0" / "index.html").unlink()
    (root / "public" / "page" / "0" / "index.html").symlink_to(outside / "page")
    forget(site)
    write_version(tmp_path, "new")
    whole_answers(site, visit, "new")
    visit(site, "/visit/1")
    run_build(site)
    assert list(outside.iterdir()) == []
    clock.forward(31)
    visit(site, "/visit/2")
    assert list(outside.iterdir()) == []


def test_builds_with_failing_pages_under_load_keep_the_last_good_ones(
    make_app: Any, visit: Get, tmp_path: Path
) -> None:
    write_version(tmp_path, "0")
    builder, server = make_app(), make_app()
    failing: set[str] = set()

    @builder.before_request
    def fail() -> None:
        if request.path in failing:
            raise RuntimeError("the database is away")

    for app in (builder, server):
        add_pages(app, tmp_path)
    assert run_build(builder).exit_code == 0
    done, wrong = threading.Event(), []

    def read() -> None:
        try:
            for path in itertools.cycle(PATHS):
                assert is_stored(visit(server, path)), path
                if done.is_set():
                    return
        except Exception as error:
            wrong.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    expected = dict.fromkeys(PATHS, "0")
    for number in range(1, 6):
        write_version(tmp_path, number)
        failing |= set(PATHS[number::10])
        expected |= dict.fromkeys(set(PATHS) - failing, str(number))
        result = run_build(builder, "--json")
        assert result.exit_code == 1
        report = json.loads(result.stdout)
        assert {page["key"] for page in report["turned_down"]} == failing
        assert {path: visit(server, path).get("X-Version") for path in PATHS} == expected
        failing.clear()
    done.set()
    reader.join()
    assert wrong == []


# Real file systems.


@contextmanager
def mounted(place: Path, *options: str) -> Iterator[Path]:
    """Mount something for a while; skip where that is not allowed."""
    place.mkdir(parents=True, exist_ok=True)
    command = ["mount", *options, str(place)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip(f"mounting is not permitted: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_thousand_visitors_of_a_full_disk_get_their_pages(
    make_app: Any, visit: Get, clock: Any, root: Path, tmp_path: Path, caplog: Any
) -> None:
    write_version(tmp_path, "old")
    with mounted(root, "-t", "tmpfs", "-o", "size=1m,nr_inodes=300", "tmpfs"):
        app = make_app({"PRERENDER_MEMORY_BYTES": 0})
        add_pages(app, tmp_path)
        filler = root / "filler"
        filler.write_bytes(bytes(200_000))
        stored = sum(is_stored(visit(app, f"/visit/{number % 500}")) for number in range(1000))
        assert 10 < stored < 800
        lines = [r.getMessage() for r in caplog.records if r.name.startswith("flask_prerender")]
        assert len(lines) == 1, lines
        assert run_build(app).exit_code == 1
        assert list(root.rglob("*.part")) == []
        filler.unlink()
        clock.forward(31)
        assert is_stored(visit(app, "/visit/499"))
        assert is_stored(visit(app, "/visit/0"))
        check_tree(root / "public")
        app.extensions["prerender"].close()


def test_a_page_larger_than_the_disk_is_answered_every_time(
    make_app: Any, wsgi_get: Get, root: Path
) -> None:
    page = os.urandom(2_000_000)
    with mounted(root, "-t", "tmpfs", "-o", "size=1m", "tmpfs"):
        app = make_app()

        @app.route("/")
        @app.prerender  # type: ignore[attr-defined]
        def index() -> bytes:
            return page

        for _ in range(100):
            answer = wsgi_get(app, "/")
            assert (answer.status, answer.body) == (200, page)
        assert not [path for path in root.rglob("*") if path.stat().st_size > 500_000]
        app.extensions["prerender"].close()


def test_a_read_only_disk_is_served_and_new_pages_are_the_apps(
    site: Flask, make_app: Any, visit: Get, root: Path, tmp_path: Path, caplog: Any
) -> None:
    site.extensions["prerender"].close()
    with mounted(root, "--bind", str(root)):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(root)], check=True)
        write_version(tmp_path, "new")
        app = make_app()
        add_pages(app, tmp_path)
        whole_answers(app, visit, "old")
        for number in range(20):
            assert visit(app, f"/visit/{number}").get("X-Version") == "new"
        assert len(caplog.records) == 1
        app.extensions["prerender"].close()


def in_another_user(work: Callable[[], None]) -> None:
    """Run `work` in a forked child that has no rights; fail as it fails."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            work()
            os._exit(0)
        except BaseException as error:
            os.write(2, f"{error!r}\n".encode())
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root may become another")
def test_pages_built_by_root_are_served_by_a_user_who_may_not_write(visit: Get) -> None:
    # Not below tmp_path, which is for its owner alone.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        write_version(folder, "old")
        build(folder, "old")
        write_version(folder, "new")

        def serve() -> None:
            app = Flask("site", root_path=name, instance_path=f"{name}/instance")
            Prerender(app)
            add_pages(app, folder)
            whole_answers(app, visit, "old")
            for number in range(20):
                assert visit(app, f"/visit/{number}").get("X-Version") == "new"

        in_another_user(serve)
        assert leftovers(folder / "instance" / "prerendered") == []

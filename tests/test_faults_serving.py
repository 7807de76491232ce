"""A failing disk, a failing index, a store that goes away: no visitor of a sound view notices."""

from __future__ import annotations

import errno
import io
import itertools
import json
import logging
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
from flask.testing import FlaskCliRunner

from witness import add_pages
from witness import build
from witness import check
from witness import check_store
from witness import check_tree
from witness import environment
from witness import leftovers
from witness import PATHS
from witness import start_build
from witness import text_of
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
) -> Callable[[str, Exception], None]:
    """Let visitors and a build meet an error."""

    def go(calls: str, error: Exception) -> None:
        visit(site, PATHS[0])
        with trouble.lasting(calls, error):
            assert is_stored(visit(site, PATHS[0])), "what is in memory needs no disk"
            forget(site)
            caplog.clear()
            for path in PATHS[:5]:
                visit(site, path)
            for number in range(5):
                visit(site, f"/visit/{next(numbers) if number else number}")
            lines = [record.getMessage() for record in caplog.records]
            assert len(lines) == 1
            result = run_build(site, "--path", "/page/[0-3]")
            assert result.exit_code in (0, 1), result.output
            assert isinstance(result.exception, SystemExit | None), repr(result.exception)
            for path in PATHS[:5]:
                visit(site, path)

    return go


def is_well_again(app: Flask, visit: Get, clock: Any) -> None:
    """After the store's rest, without a restart, first visits are stored."""
    clock.forward(31)
    path = f"/visit/{next(numbers)}"
    assert is_stored(visit(app, path)), path
    assert is_stored(visit(app, path))
    write = {"old", "new"}
    assert {visit(app, path).get("X-Version") for path in PATHS} <= write
    clock.forward(60)


@pytest.mark.parametrize("name", ERRORS)
def test_a_failing_disk_is_never_seen_by_a_visitor(
    name: str, site: Flask, visit: Get, go_through: Any, restart: Any, clock: Any, tmp_path: Path
) -> None:
    error = OSError(getattr(errno, name), os.strerror(getattr(errno, name)))
    write_version(tmp_path, "new")
    for call in (*CALLS, " ".join(CALLS)):
        go_through(call, error)
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
        go_through(statements, error)
        is_well_again(site, visit, clock)
    assert set(PATHS) <= set(check_store(restart(), visit_raw(visit)))

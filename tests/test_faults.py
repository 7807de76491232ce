"""What is stored stays whole, whatever fails and whenever it is killed."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import skip_or_fail
from flask_prerender.coordination.local import LocalCoordination
from flask_prerender.errors import StoreError
from flask_prerender.page import Page
from flask_prerender.stores.files import FileStore
from store_contract import make_page
from store_contract import read_all

fork = multiprocessing.get_context("fork")

#: What a put does to the disk, apart from SQLite.
CALLS = ("open", "write", "replace", "link", "mkdir", "unlink", "rmdir")
ERRORS = ("ENOSPC", "EROFS", "EACCES", "EIO")
NOBODY = 65534


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "prerendered"


@pytest.fixture
def store(root: Path) -> Iterator[FileStore]:
    store = FileStore(root)
    yield store
    store.close()


def make_version(number: int, size: int = 0) -> tuple[Page, dict[str, bytes]]:
    """Return a version of one page: whatever of it is read says which one it is."""
    body = b"version %d" % number + b"." * size
    return make_page(body=body, gzip=b"gz " + body, tags=(str(number),))


def parts_of(root: Path) -> list[Path]:
    return list(root.rglob("*.part"))


def assert_whole(store: FileStore, *expected: tuple[Page, dict[str, bytes]]) -> Page:
    """Assert that a page and all its bodies are those of one of the versions expected."""
    page = store.get("/about")
    assert page in [other for other, _ in expected]
    assert page is not None
    assert read_all(store, page) in [bodies for other, bodies in expected if other == page]
    return page


def assert_unmixed(root: Path, *expected: tuple[Page, dict[str, bytes]]) -> None:
    """Assert that what the tree offers comes from one version, and the encoded file not alone."""
    directory = root / "public" / "about"
    found = {
        name: (directory / file).read_bytes()
        for name, file in (("identity", "index.html"), ("gzip", "index.html.gz"))
        if (directory / file).exists()
    }
    versions = [{name: bodies[name] for name in found} for _, bodies in expected]
    assert found == {} or (found in versions and "identity" in found)


class Calls:
    """Counts what a put does to the disk, and does something else at one of the calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        self.count = 0
        self.at = -1
        self.deed: Callable[[str], None] = lambda path: None
        for name in CALLS:
            monkeypatch.setattr(os, name, self._wrapped(getattr(os, name), name, str(root)))

    def _wrapped(self, call: Callable[..., object], name: str, root: str) -> Callable[..., object]:
        def wrapped(*args: object, **options: object) -> object:
            reads = name == "open" and not int(str(args[1])) & os.O_CREAT
            ours = name == "write" or str(args[0]).startswith(root)
            if ours and not reads:
                self.count += 1
                if self.count - 1 == self.at:
                    self.deed(str(args[0]))
            return call(*args, **options)

        return wrapped

    def fail(self, at: int, error: str) -> None:
        def deed(path: str) -> None:
            number = getattr(errno, error)
            raise OSError(number, os.strerror(number), path)

        self.count, self.at, self.deed = 0, at, deed

    def kill(self, at: int) -> None:
        self.count, self.at, self.deed = 0, at, lambda path: os.kill(os.getpid(), signal.SIGKILL)


# Failures of the disk.


@pytest.mark.parametrize("error", ERRORS)
def test_whatever_call_fails_a_page_is_the_old_one_or_the_new_one(
    root: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    calls = Calls(monkeypatch, root)
    outcomes = {"failed": 0, "stored": 0}
    at = 0
    while True:
        calls.at = -1
        shutil.rmtree(root, ignore_errors=True)
        store = FileStore(root)
        old, new = make_version(1), make_version(2)
        store.put(*old)
        calls.fail(at, error)
        try:
            store.put(*new)
        except StoreError as failure:
            assert error in str(failure) or os.strerror(getattr(errno, error)) in str(failure)
            assert assert_whole(store, old) == old[0]
            outcomes["failed"] += 1
        else:
            assert assert_whole(store, new) == new[0]
            outcomes["stored"] += 1
        reached, calls.at = calls.count, -1
        assert_unmixed(root, old, new)
        assert parts_of(root) == []
        store.put(*new)
        assert_whole(store, new)
        assert (root / "public" / "about" / "index.html").read_bytes() == new[1]["identity"]
        store.close()
        if reached <= at:
            break
        at += 1
    assert outcomes["failed"] >= 6
    assert outcomes["stored"] >= 4


@pytest.mark.parametrize("error", ERRORS)
def test_a_first_page_that_fails_leaves_nothing_and_no_harm(
    root: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    calls = Calls(monkeypatch, root)
    at, fired, failed = 0, True, 0
    while fired:
        calls.at = -1
        shutil.rmtree(root, ignore_errors=True)
        store = FileStore(root)
        page = make_version(1)
        calls.fail(at, error)
        try:
            store.put(*page)
        except StoreError:
            failed += 1
            assert store.get("/about") is None
            assert not (root / "public").exists() or not any((root / "public").iterdir())
        else:
            assert_whole(store, page)
        fired, calls.at = calls.count > at, -1
        assert parts_of(root) == []
        store.put(*page)
        assert_whole(store, page)
        assert (root / "public" / "about" / "index.html.gz").exists()
        store.close()
        at += 1
    assert failed >= 10


@pytest.mark.parametrize("error", ERRORS)
def test_whatever_call_fails_a_deletion_is_done_or_says_so(
    root: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    calls = Calls(monkeypatch, root)
    at, fired, failed = 0, True, 0
    while fired:
        calls.at = -1
        shutil.rmtree(root, ignore_errors=True)
        store = FileStore(root)
        page = make_version(1)
        store.put(*page)
        calls.fail(at, error)
        try:
            assert store.delete(["/about"]) == 1
        except StoreError:
            failed += 1
            assert_whole(store, page)
        else:
            assert store.get("/about") is None
            assert not (root / "public" / "about" / "index.html").exists()
        fired, calls.at = calls.count > at, -1
        store.delete(["/about"])
        assert len(list(store.pages())) == 0
        store.close()
        at += 1
    assert failed == 2


@pytest.mark.parametrize("error", ERRORS)
def test_a_tree_that_cannot_be_linked_is_one_warning(
    store: FileStore,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: str,
) -> None:
    def fail(*args: object, **options: object) -> None:
        number = getattr(errno, error)
        raise OSError(number, os.strerror(number), "tree")

    store.put(*make_version(1))
    monkeypatch.setattr(os, "link", fail)
    new = make_version(2)
    store.put(*new)
    assert_whole(store, new)
    file = root / "public" / "about" / "index.html"
    if error == "EACCES":  # then a copy is made
        assert caplog.records == []
        assert file.read_bytes() == new[1]["identity"]
    else:
        assert len(caplog.records) == 1
        assert file.read_bytes() == b"version 1"


@pytest.mark.parametrize("moment", ["BEGIN", "UPDATE pages", "INSERT INTO bodies", "COMMIT"])
@pytest.mark.parametrize(
    "reason",
    [
        "database or disk is full",
        "disk I/O error",
        "attempt to write a readonly database",
        "database is locked",
    ],
)
def test_a_failing_index_leaves_the_old_page(
    store: FileStore, root: Path, monkeypatch: pytest.MonkeyPatch, moment: str, reason: str
) -> None:
    class Failing(sqlite3.Connection):
        def execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:
            if sql.startswith(moment):
                raise sqlite3.OperationalError(reason)
            return super().execute(sql, *parameters)  # type: ignore[arg-type]

    old, new = make_version(1), make_version(2)
    store.put(*old)
    store.close()
    connect = sqlite3.connect
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **k, factory=Failing))
        for _ in range(2):
            with pytest.raises(StoreError, match=rf"index\.sqlite3: {reason}"):
                store.put(*new)
            assert_whole(store, old)
            assert_unmixed(root, old)
    store.put(*new)
    assert_whole(store, new)


def test_an_index_that_cannot_be_opened_is_a_store_error(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **options: object) -> sqlite3.Connection:
        raise sqlite3.OperationalError("unable to open database file")

    first = FileStore(root)
    first.put(*make_version(1))
    first.close()
    monkeypatch.setattr(sqlite3, "connect", fail)
    store = FileStore(root)
    uses: list[Callable[[], object]] = [
        lambda: store.get("/about"),
        lambda: list(store.pages()),
        store.last_build,
        store.next_build,
        store.sweep,
        lambda: store.delete(["/about"]),
        lambda: store.put(*make_version(2)),
        LocalCoordination(root).advance,
    ]
    for use in uses:
        with pytest.raises(StoreError, match="unable to open"):
            use()


@pytest.mark.parametrize(("error", "times"), [("EIO", 1), ("EACCES", 1), ("ESTALE", 2)])
def test_a_body_that_cannot_be_read_is_a_store_error(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, error: str, times: int
) -> None:
    page, _ = make_version(1)
    store.put(*make_version(1))
    break_reading(monkeypatch, error, times)
    with pytest.raises(StoreError, match=rf"{page.identity.digest}.*{error}"):
        store.read(page, page.identity)
    assert store.read(page, page.identity) == b"version 1"


def test_a_stale_handle_is_tried_once_more(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, bodies = make_version(1)
    store.put(page, bodies)
    break_reading(monkeypatch, "ESTALE", 1)
    assert store.read(page, page.identity) == b"version 1"


def break_reading(monkeypatch: pytest.MonkeyPatch, error: str, times: int) -> None:
    """Let the next calls of ``os.open`` fail."""
    left = [times]
    original = os.open

    def opened(path: str, *args: object, **options: object) -> int:
        if left[0]:
            left[0] -= 1
            raise OSError(getattr(errno, error), os.strerror(getattr(errno, error)), str(path))
        return original(path, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", opened)


# Real disks.


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        skip_or_fail("mounting a file system needs root on Linux")
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(command, capture_output=True).returncode != 0:
        skip_or_fail("this system does not allow mounting")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_keeps_the_old_page_and_takes_the_new_one_later(small_disk: Path) -> None:
    store = FileStore(small_disk / "root")
    old, huge = make_version(1), make_version(2, size=2_000_000)
    store.put(*old)
    for _ in range(20):
        with pytest.raises(StoreError, match=r"No space left.*ENOSPC"):
            store.put(*huge)
        assert parts_of(small_disk) == []
        assert_whole(store, old)
    new = make_version(3)
    store.put(*new)
    assert_whole(store, new)
    store.close()


def test_an_index_on_a_full_disk_keeps_the_old_page(small_disk: Path) -> None:
    store = FileStore(small_disk / "root")
    pages = [make_page(f"/{number}", b"same", gzip=None) for number in range(2_000)]
    filler = small_disk / "filler"
    store.put(*pages[0])
    free = os.statvfs(small_disk)
    filler.write_bytes(b"x" * (free.f_bavail * free.f_frsize - 40_000))
    stored = 0
    with pytest.raises(StoreError):
        for page, bodies in pages:
            store.put(page, bodies)
            stored += 1
    assert 0 < stored < 2_000
    assert [store.get(page.key) for page, _ in pages[:stored]] == [p for p, _ in pages[:stored]]
    filler.unlink()
    store.put(*pages[stored])
    assert len(list(store.pages())) == stored + 1
    assert parts_of(small_disk) == []
    store.close()


def test_a_read_only_disk_is_served_and_refuses_to_be_written(small_disk: Path) -> None:
    root = small_disk / "root"
    page = make_version(1)
    store, coordination = FileStore(root), LocalCoordination(root)
    store.put(*page)
    assert coordination.advance() == 1
    store.close()
    coordination.close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    store, coordination = FileStore(root), LocalCoordination(root)
    assert_whole(store, page)
    assert [found.key for found in store.pages()] == ["/about"]
    assert coordination.revision() == 1
    uses: list[Callable[[], object]] = [
        lambda: store.put(*make_version(2)),
        lambda: store.delete(["/about"]),
        store.next_build,
        coordination.advance,
    ]
    for use in uses:
        with pytest.raises(StoreError):
            use()
    assert_whole(store, page)
    store.sweep()
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    new = make_version(2)
    store.put(*new)
    assert_whole(store, new)
    assert coordination.advance() == 2
    store.close()
    coordination.close()


# Other users.


def open_the_way(path: Path) -> None:
    for directory in (path, *path.parents):
        if directory.stat().st_uid == os.getuid() and len(directory.parts) > 2:
            directory.chmod(directory.stat().st_mode | 0o055)


def test_a_directory_built_by_root_is_served_by_another_user(root: Path) -> None:
    if not hasattr(os, "seteuid") or os.geteuid() != 0:
        skip_or_fail("becoming another user needs root")

    def serve() -> None:
        os.seteuid(NOBODY)
        store = FileStore(root)
        while (order := theirs.recv()) != "end":
            try:
                if order == "put":
                    store.put(*make_version(9))
                found = store.get("/about")
                theirs.send(found and (found.tags, read_all(store, found)))
            except StoreError as error:
                theirs.send(str(error))

    mask = os.umask(0o022)
    store = FileStore(root)
    store.put(*make_version(1))
    store.close()
    open_the_way(root)
    ours, theirs = multiprocessing.Pipe()
    child = fork.Process(daemon=True, target=serve)
    child.start()

    def ask(order: str) -> object:
        ours.send(order)
        return ours.recv()

    assert ask("get") == (("1",), make_version(1)[1])
    assert "EACCES" in str(ask("put"))
    # The builder works on while the other serves.
    store.put(*make_version(2))
    assert ask("get") == (("2",), make_version(2)[1])
    store.put(*make_version(3))
    store.close()
    assert ask("get") == (("3",), make_version(3)[1])
    store.put(*make_version(4))
    assert ask("get") == (("4",), make_version(4)[1])
    store.close()
    ours.send("end")
    child.join()
    os.umask(mask)
    assert child.exitcode == 0


# Kills.


def run_killed(work: Callable[[], None]) -> int:
    child = fork.Process(daemon=True, target=work)
    child.start()
    child.join()
    assert child.exitcode is not None
    return child.exitcode


def test_killed_at_any_call_a_page_is_the_old_one_or_the_new_one(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls(monkeypatch, root)
    old, new = make_version(1), make_version(2)
    seen = set()

    def work() -> None:
        calls.kill(at)
        FileStore(root).put(*new)

    at, code = 0, -signal.SIGKILL
    while code != 0:
        shutil.rmtree(root, ignore_errors=True)
        store = FileStore(root)
        store.put(*old)
        store.close()
        code = run_killed(work)
        assert code in (0, -signal.SIGKILL)
        seen.add(assert_whole(store, old, new).tags)
        assert_unmixed(root, old, new)
        store.put(*new)
        assert_whole(store, new)
        assert_unmixed(root, new)
        store.close()
        late = FileStore(root, clock=lambda: time.time() + 61)
        late.sweep()
        assert parts_of(root) == []
        assert len(list((root / "store" / "blobs").glob("*/*"))) == 2
        late.close()
        at += 1
    assert at > 12
    assert seen == {("1",), ("2",)}


def kill_writers(root: Path, kills: int) -> None:
    """Kill a process that stores version after version, and read all the while."""

    def work() -> None:
        store = FileStore(root)
        number = 0
        while True:
            number += 1
            store.put(*make_version(number, size=number % 7 * 40_000))

    chance = random.Random(1)
    store = FileStore(root)
    store.put(*make_version(0))
    reads = 0
    for _ in range(kills):
        child = fork.Process(daemon=True, target=work)
        child.start()
        until = time.monotonic() + chance.uniform(0.02, 0.12)
        while time.monotonic() < until:
            reads += read_once(store)
        child.kill()
        child.join()
        reads += read_once(store)
        file = root / "public" / "about" / "index.html"
        body = file.read_bytes()
        number = int(body.split(b".")[0].split()[1])
        assert body == make_version(number, size=number % 7 * 40_000)[1]["identity"]
    assert reads > kills
    last = make_version(5)
    store.put(*last)
    store.close()
    sweeper = FileStore(root, clock=lambda: time.time() + 61)
    sweeper.sweep()
    assert parts_of(root) == []
    assert len(list((root / "store" / "blobs").glob("*/*"))) == 2
    assert_whole(sweeper, last)
    sweeper.close()


def read_once(store: FileStore) -> int:
    """Read the page, and return 1 when it was there whole; a replaced body may be gone."""
    page = store.get("/about")
    assert page is not None
    number = int(page.tags[0])
    expected = make_version(number, size=number % 7 * 40_000 if number else 0)
    assert page == expected[0]
    found = read_all(store, page)
    assert found == expected[1]
    return 1


def test_killed_at_random_moments_nothing_is_torn(root: Path) -> None:
    kill_writers(root, 15)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_killed_two_hundred_times_nothing_is_torn(root: Path) -> None:
    kill_writers(root, 200)


# Two at once.


def write_together(root: Path, puts: int) -> None:
    """Let four processes store one page, and read all the while."""

    def work(start: int) -> None:
        store = FileStore(root)
        for number in range(start, start + puts):
            store.put(*make_version(number, size=number % 7 * 40_000))
        os._exit(0)

    store = FileStore(root)
    store.put(*make_version(0))
    children = [fork.Process(daemon=True, target=work, args=(n * puts + 1,)) for n in range(4)]
    for child in children:
        child.start()
    reads = 0
    file = root / "public" / "about" / "index.html"
    while any(child.is_alive() for child in children):
        reads += read_once(store)
        body = file.read_bytes()
        number = int(body.split(b".")[0].split()[1])
        assert body == make_version(number, size=number % 7 * 40_000)[1]["identity"]
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 4
    assert reads > 10
    page = store.get("/about")
    assert page is not None
    assert file.read_bytes() == store.read(page, page.identity)
    assert file.with_name("index.html.gz").read_bytes() == store.read(page, page.variants[1])
    assert parts_of(root) == []
    store.close()


def test_four_writers_of_one_page_leave_nothing_torn(root: Path) -> None:
    write_together(root, 40)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_four_writers_of_one_page_leave_nothing_torn_for_long(root: Path) -> None:
    write_together(root, 4_000)


def test_writers_of_different_pages_do_not_hinder_each_other(root: Path) -> None:
    def work(start: int) -> None:
        store = FileStore(root)
        for number in range(start, start + 60):
            store.put(*make_page(f"/{number:03}", b"%d" % (number % 50)))
        os._exit(0)

    children = [fork.Process(daemon=True, target=work, args=(start,)) for start in (0, 60, 120)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    store = FileStore(root)
    assert [child.exitcode for child in children] == [0] * 3
    assert [page.key for page in store.pages()] == [f"/{number:03}" for number in range(180)]
    assert len(list((root / "public").rglob("*.html"))) == 180
    store.close()


def test_stores_begun_at_once_by_many_processes_agree(root: Path) -> None:
    def work(number: int) -> None:
        barrier.wait()
        store = FileStore(root)
        store.put(*make_page(f"/{number}"))
        coordination = LocalCoordination(root)
        coordination.advance()
        os._exit(0)

    for _ in range(5):
        shutil.rmtree(root, ignore_errors=True)
        barrier = fork.Barrier(6)
        children = [fork.Process(daemon=True, target=work, args=(number,)) for number in range(6)]
        for child in children:
            child.start()
        for child in children:
            child.join()
        assert [child.exitcode for child in children] == [0] * 6
        store = FileStore(root)
        assert len(list(store.pages())) == 6
        assert LocalCoordination(root).revision() == 6
        store.close()


# Damage.


class Hostile:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def damage(file: Path, others: list[Path], chance: random.Random, planted: bytes) -> None:
    data = bytearray(file.read_bytes())
    deed = chance.choice(("flip", "cut", "append", "swap", "plant", "zero", "remove"))
    spot = chance.randrange(len(data)) if data else 0
    if deed == "flip" and data:
        data[spot] ^= 1 << chance.randrange(8)
    elif deed == "cut":
        del data[spot:]
    elif deed == "append":
        data += chance.randbytes(chance.randrange(1, 50))
    elif deed == "swap":
        data[:] = chance.choice(others).read_bytes()
    elif deed == "plant":
        data[:] = planted
    elif deed == "zero":
        data[spot : spot + 512] = bytes(len(data[spot : spot + 512]))
    file.unlink()
    if deed != "remove":
        file.write_bytes(data)


def copy(source: str, target: str) -> None:
    """Link what is never written again, and copy what SQLite writes."""
    if "sqlite3" in source:
        shutil.copyfile(source, target)
    else:
        os.link(source, target)


def read_damaged(tmp_path: Path, rounds: int) -> None:
    """Damage one stored file at a time: what comes out is right, nothing, or a StoreError."""
    pages = [make_page(f"/{n}", b"body %d" % n * 50, gzip=b"gz %d" % n) for n in range(4)]

    def build(kept_open: bool) -> None:
        store = FileStore(tmp_path / f"whole-{kept_open}")
        for page, bodies in pages:
            store.put(page, bodies)
        if not kept_open:
            store.close()
        os.kill(os.getpid(), signal.SIGKILL)

    for kept_open in (False, True):
        run_killed(lambda kept_open=kept_open: build(kept_open))  # type: ignore[misc]
    assert (tmp_path / "whole-True" / "store" / "index.sqlite3-wal").stat().st_size > 0
    planted = pickle.dumps(Hostile(tmp_path / "executed"))
    chance = random.Random(4)
    outcomes = {"right": 0, "nothing": 0, "error": 0}
    for number in range(rounds):
        root = tmp_path / "damaged"
        shutil.rmtree(root, ignore_errors=True)
        whole = tmp_path / f"whole-{number % 2 == 0}"
        shutil.copytree(whole / "store", root / "store", copy_function=copy)
        files = sorted(path for path in (root / "store").rglob("*") if path.is_file())
        indexes = [path for path in files if "sqlite3" in path.name]
        damage(chance.choice(files if number % 3 else indexes), files, chance, planted)
        look_at_all(FileStore(root), pages, outcomes)
    assert not (tmp_path / "executed").exists()
    assert outcomes["right"] > rounds
    assert outcomes["nothing"] > rounds / 2


def look_at_all(
    store: FileStore, pages: list[tuple[Page, dict[str, bytes]]], outcomes: dict[str, int]
) -> None:
    for page, bodies in pages:
        try:
            found = store.get(page.key)
            assert found in (page, None)
            for name, body in read_all(store, page).items():
                assert body in (bodies[name], None)
                found = found if body is not None else None
            outcomes["right" if found else "nothing"] += 1
        except StoreError:
            outcomes["error"] += 1
    store.close()


def test_damaged_files_give_the_right_bytes_or_none(tmp_path: Path) -> None:
    read_damaged(tmp_path, 500)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_ten_thousand_damaged_files_give_the_right_bytes_or_none(tmp_path: Path) -> None:
    read_damaged(tmp_path, 10_000)


def test_a_damaged_page_is_whole_after_the_next_put(root: Path) -> None:
    page, bodies = make_version(1)
    store = FileStore(root)
    store.put(page, bodies)
    chance = random.Random(2)
    for _ in range(30):
        blobs = sorted((root / "store" / "blobs").glob("*/*"))
        damage(chance.choice(blobs), blobs, chance, b"planted")
        read_all(store, page)
        store.put(replace(page, checked_at=2_000.0), bodies)
        assert read_all(store, page) == bodies
        assert (root / "public" / "about" / "index.html").read_bytes() == bodies["identity"]
    store.close()

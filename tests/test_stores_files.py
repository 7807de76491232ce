from __future__ import annotations

import errno
import gzip
import logging
import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import Clock
from flask_prerender import disk
from flask_prerender.errors import BlobMissingError
from flask_prerender.errors import StoreError
from flask_prerender.page import digest
from flask_prerender.page import Page
from flask_prerender.page import SUFFIXES
from flask_prerender.stores.base import Budget
from flask_prerender.stores.base import Store
from flask_prerender.stores.files import FileStore
from store_contract import MACHINE
from store_contract import make_page
from store_contract import read_all
from store_contract import StoreContract
from store_contract import StoreMachine

fork = multiprocessing.get_context("fork")

#: A process that has ended, and whose number is not given again soon.
DEAD = subprocess.Popen([sys.executable, "-c", ""])
DEAD.wait()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "prerendered"


@pytest.fixture
def store(root: Path) -> Iterator[FileStore]:
    store = FileStore(root)
    yield store
    store.close()


class TestFileStore(StoreContract):
    @pytest.fixture
    def store(self, root: Path) -> Iterator[Store]:
        store = FileStore(root)
        yield store
        store.close()


class TestDurableFileStore(StoreContract):
    @pytest.fixture
    def store(self, root: Path) -> Iterator[Store]:
        store = FileStore(root, durability="full")
        yield store
        store.close()


def tree_of(root: Path) -> dict[str, bytes]:
    public = root / "public"
    return {
        path.relative_to(public).as_posix(): path.read_bytes()
        for path in public.rglob("*")
        if path.is_file()
    }


def named(page: Page, bodies: dict[str, bytes]) -> dict[str, bytes]:
    """Return the files that the tree has for a page."""
    suffixes = {name: f".{suffix}" if suffix else "" for name, suffix in SUFFIXES.items()}
    return {page.file + suffixes[name]: body for name, body in bodies.items()}


class FileStoreMachine(StoreMachine):
    def make_store(self) -> Store:
        self.directory = tempfile.TemporaryDirectory()
        # From an hour ahead, every file is old enough to be swept.
        return FileStore(Path(self.directory.name), clock=lambda: time.time() + 3600)

    def every_page_is_the_one_last_put(self) -> None:
        super().every_page_is_the_one_last_put()
        expected = {}
        for page, bodies in self.model.values():
            expected.update(named(page, bodies))
        assert tree_of(Path(self.directory.name)) == expected

    def teardown(self) -> None:
        super().teardown()
        assert not list(Path(self.directory.name).glob("store/tmp/*"))
        self.directory.cleanup()


TestFileStoreMachine = FileStoreMachine.TestCase
TestFileStoreMachine.settings = MACHINE


def facts_of(root: Path) -> dict[str, tuple[int, int, int]]:
    """Return what changes when a file below `root` is written, replaced or touched."""
    return {
        str(path): (path.stat().st_ino, path.stat().st_mtime_ns, path.stat().st_size)
        for path in root.rglob("*")
        if path.is_file() and "sqlite3" not in path.name
    }


# What is on the disk.


def test_reading_makes_no_file_or_directory(store: FileStore, root: Path) -> None:
    page, _ = make_page()
    assert store.get("/about") is None
    assert store.read(page, page.identity) is None
    assert list(store.pages()) == []
    assert (store.last_build(), store.delete(["/about"])) == (0, 0)
    store.sweep()
    assert not root.exists()


def test_the_tree_has_every_encoding_as_a_link_to_its_body(store: FileStore, root: Path) -> None:
    page, bodies = make_page()
    bodies = {**bodies, "br": b"br", "zstd": b"zstd"}
    page = replace(
        page,
        variants=page.variants + make_page(body=b"br", gzip=None)[0].variants,
    )
    page = replace(
        page,
        variants=(
            *page.variants[:2],
            replace(page.variants[2], encoding="br"),
            replace(make_page(body=b"zstd")[0].identity, encoding="zstd"),
        ),
    )
    store.put(page, bodies)
    assert tree_of(root) == {
        "about/index.html": b"<h1>About</h1>",
        "about/index.html.gz": b"about, squeezed",
        "about/index.html.br": b"br",
        "about/index.html.zst": b"zstd",
    }
    digest = page.identity.digest
    blob = root / "store" / "blobs" / digest[:2] / digest
    assert blob.samefile(root / "public" / "about" / "index.html")


def test_files_can_be_read_by_other_users_as_the_umask_says(store: FileStore, root: Path) -> None:
    mask = os.umask(0o022)
    try:
        store.put(*make_page())
    finally:
        os.umask(mask)
    for path in (root / "public" / "about" / "index.html", root / "store" / "index.sqlite3"):
        assert path.stat().st_mode & 0o777 == 0o644


def test_a_put_of_the_same_page_touches_no_file(store: FileStore, root: Path) -> None:
    page, bodies = make_page()
    store.put(page, bodies)
    before = facts_of(root)
    store.put(replace(page, checked_at=2_000.0, build=2), bodies)
    store.put(replace(page, checked_at=3_000.0, build=3), {})
    assert facts_of(root) == before
    assert len(before) == 4


def test_a_file_of_the_tree_with_the_same_bytes_is_left_alone(store: FileStore, root: Path) -> None:
    page, bodies = make_page(gzip=None)
    store.put(page, bodies)
    file = root / "public" / "about" / "index.html"
    body = file.read_bytes()
    file.unlink()
    file.write_bytes(body)
    before = facts_of(root)
    store.put(page, bodies)
    assert facts_of(root) == before


def test_a_new_version_replaces_its_files_and_drops_encodings_it_lacks(
    store: FileStore, root: Path
) -> None:
    store.put(*make_page())
    page, bodies = make_page(body=b"new", gzip=None)
    store.put(page, bodies)
    assert tree_of(root) == {"about/index.html": b"new"}


def test_a_page_that_moves_takes_its_files_along(store: FileStore, root: Path) -> None:
    store.put(*make_page("/a", file="a/index.html"))
    page, bodies = make_page("/a", file="a.html")
    store.put(page, bodies)
    assert tree_of(root) == named(page, bodies)
    assert not (root / "public" / "a").exists()


def test_a_deleted_page_leaves_no_file_and_no_empty_directory(store: FileStore, root: Path) -> None:
    store.put(*make_page("/a/b/c"))
    other, bodies = make_page("/a")
    store.put(other, bodies)
    store.delete(["/a/b/c"])
    assert tree_of(root) == named(other, bodies)
    assert not (root / "public" / "a" / "b").exists()
    store.delete(["/a"])
    assert list((root / "public").iterdir()) == []


def test_a_removed_file_of_the_tree_comes_back_with_the_next_put(
    store: FileStore, root: Path
) -> None:
    page, bodies = make_page()
    store.put(page, bodies)
    shutil.rmtree(root / "public")
    store.put(page, {})
    assert tree_of(root) == named(page, bodies)


def test_a_page_outside_the_tree_is_refused(store: FileStore, tmp_path: Path) -> None:
    for file in ("../out.html", "/out.html", "a/../../out.html", "a//b", ".", "", "a\\b", "a\0"):
        page, bodies = make_page(file=file)
        with pytest.raises(StoreError, match="below the public tree"):
            store.put(page, bodies)
    assert list(tmp_path.iterdir()) == []


# Files that are not ours.


def test_a_foreign_file_is_never_overwritten_nor_deleted(
    store: FileStore, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    foreign = root / "public" / "about" / "index.html"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"by hand")
    page, bodies = make_page()
    for _ in range(2):
        store.put(page, bodies)
    assert [record.getMessage().count(str(foreign)) for record in caplog.records] == [1]
    assert read_all(store, page) == bodies
    store.put(*make_page(body=b"newer"))
    assert tree_of(root) == {"about/index.html": b"by hand"}
    store.put(*make_page(file="moved.html"))
    store.put(*make_page(file="about/index.html"))
    assert store.delete(["/about"]) == 1
    assert tree_of(root) == {"about/index.html": b"by hand"}


def test_trouble_with_the_tree_is_one_line_a_minute(
    root: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store = FileStore(root, clock=clock)
    (root / "public").mkdir(parents=True)
    for name in ("a", "b", "c"):
        (root / "public" / name).write_bytes(b"by hand")
    for seconds in (0, 30, 29, 1):
        clock.forward(seconds)
        store.put(*make_page("/a"))
    assert len(caplog.records) == 2
    assert "(and 2 more like it)" in caplog.records[1].getMessage()
    store.close()


def test_the_place_of_a_foreign_file_is_taken_when_it_is_gone(store: FileStore, root: Path) -> None:
    foreign = root / "public" / "about" / "index.html"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"by hand")
    page, bodies = make_page()
    store.put(page, bodies)
    foreign.unlink()
    store.put(page, bodies)
    assert tree_of(root) == named(page, bodies)
    store.delete(["/about"])
    assert tree_of(root) == {}


def test_a_foreign_file_beside_ours_stays(store: FileStore, root: Path) -> None:
    store.put(*make_page(gzip=None))
    foreign = root / "public" / "about" / "index.html.gz"
    foreign.write_bytes(gzip.compress(b"by hand"))
    before = foreign.read_bytes()
    page, bodies = make_page(body=b"new")
    store.put(page, bodies)
    assert tree_of(root) == {"about/index.html": b"new", "about/index.html.gz": before}
    store.delete(["/about"])
    assert tree_of(root) == {"about/index.html.gz": before}


def test_a_place_that_we_left_may_be_taken_by_others(store: FileStore, root: Path) -> None:
    store.put(*make_page())
    for body in (b"one", b"two"):
        store.put(*make_page(body=body, gzip=None))
    foreign = root / "public" / "about" / "index.html.gz"
    foreign.write_bytes(b"by hand")
    store.put(*make_page())
    assert foreign.read_bytes() == b"by hand"


def test_a_foreign_directory_in_the_way_stays(
    store: FileStore, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    inside = root / "public" / "about" / "index.html" / "file"
    inside.parent.mkdir(parents=True)
    inside.write_bytes(b"by hand")
    page, bodies = make_page()
    store.put(page, bodies)
    assert len(caplog.records) == 1
    assert read_all(store, page) == bodies
    assert store.delete(["/about"]) == 1
    assert tree_of(root) == {"about/index.html/file": b"by hand"}


@pytest.mark.parametrize("link", ["public/docs", "public"])
def test_a_symbolic_link_below_the_root_is_not_followed(
    store: FileStore, root: Path, tmp_path: Path, link: str, caplog: pytest.LogCaptureFixture
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / link).parent.mkdir(parents=True)
    (root / link).symlink_to(outside)
    for body in (b"one", b"two"):
        page, bodies = make_page("/docs/x", body)
        store.put(page, bodies)
    assert len(caplog.records) == 1
    assert "symbolic link" in caplog.text
    assert read_all(store, page) == bodies
    (outside / "x").mkdir()
    (outside / "docs" / "x").mkdir(parents=True)
    kept = [outside / "x" / "index.html", outside / "docs" / "x" / "index.html"]
    for file in kept:
        file.write_bytes(b"theirs")
    store.put(page, bodies)
    assert store.delete(["/docs/x"]) == 1
    assert sorted(path for path in outside.rglob("*") if path.is_file()) == sorted(kept)
    assert [file.read_bytes() for file in kept] == [b"theirs", b"theirs"]


@pytest.mark.parametrize("link", ["store", "store/blobs", "store/tmp", "store/blobs/XX"])
def test_the_store_does_not_write_through_symbolic_links(
    store: FileStore, root: Path, tmp_path: Path, link: str
) -> None:
    page, bodies = make_page(gzip=None)
    link = link.replace("XX", page.identity.digest[:2])
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / link).parent.mkdir(parents=True)
    (root / link).symlink_to(outside)
    with pytest.raises(StoreError, match="symbolic link"):
        store.put(page, bodies)
    assert list(outside.iterdir()) == []


def test_the_index_may_not_be_a_symbolic_link(store: FileStore, root: Path, tmp_path: Path) -> None:
    index = root / "store" / "index.sqlite3"
    index.parent.mkdir(parents=True)
    index.symlink_to(tmp_path / "outside")
    with pytest.raises(StoreError, match="symbolic link"):
        store.put(*make_page())
    assert not (tmp_path / "outside").exists()


def test_the_root_may_be_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "real")
    store = FileStore(tmp_path / "root")
    page, bodies = make_page()
    store.put(page, bodies)
    assert tree_of(tmp_path / "real") == named(page, bodies)
    store.close()


@pytest.mark.parametrize("name", ["EPERM", "EXDEV", "EMLINK", "ENOTSUP"])
def test_the_tree_has_copies_where_links_are_not_possible(
    store: FileStore, root: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise OSError(getattr(errno, name), "no links here")

    monkeypatch.setattr(os, "link", refuse)
    store.put(*make_page(body=b"old"))
    page, bodies = make_page()
    store.put(page, bodies)
    assert tree_of(root) == named(page, bodies)
    before = facts_of(root)
    assert not [path for path in before if path.endswith(".part")]
    store.put(page, bodies)
    assert facts_of(root) == before


# Damage.


def test_a_damaged_body_is_none_with_one_warning_until_it_is_put_again(
    store: FileStore, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    page, bodies = make_page()
    store.put(page, bodies)
    (root / "public" / "about" / "index.html").write_bytes(b"<h1>AbouT</h1>")
    assert [store.read(page, page.identity) for _ in range(3)] == [None, None, None]
    assert len(caplog.records) == 1
    assert page.identity.digest in caplog.text
    store.put(page, bodies)
    assert read_all(store, page) == bodies
    assert tree_of(root) == named(page, bodies)


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files written a moment ago count as old."""
    monkeypatch.setattr("flask_prerender.stores.blobs._SETTLED_NS", -(10**18))


@pytest.fixture
def digested(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return the list to which every body is added whose digest is checked."""
    seen: list[bytes] = []

    def note(body: bytes) -> str:
        seen.append(body)
        return digest(body)

    monkeypatch.setattr("flask_prerender.stores.blobs.digest_of", note)
    return seen


def blob_of(root: Path, page: Page) -> Path:
    name = page.identity.digest
    return root / "store" / "blobs" / name[:2] / name


@pytest.mark.usefixtures("settled")
def test_the_digest_of_a_file_that_stays_the_same_is_checked_once(
    store: FileStore, digested: list[bytes]
) -> None:
    page, bodies = make_page()
    store.put(page, bodies)
    for _ in range(3):
        assert read_all(store, page) == bodies
    assert sorted(digested) == sorted(bodies.values())


def test_the_digest_of_a_file_that_was_just_written_is_checked_again(
    store: FileStore, root: Path, digested: list[bytes]
) -> None:
    page, bodies = make_page(gzip=None)
    store.put(page, bodies)
    for _ in range(3):
        store.read(page, page.identity)
    assert len(digested) == 3


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize(
    "how", ["flip", "flip and set the time", "replace", "cut", "grow", "remove"]
)
def test_a_body_that_changes_after_it_was_checked_is_noticed(
    store: FileStore, root: Path, how: str
) -> None:
    page, bodies = make_page(gzip=None)
    store.put(page, bodies)
    blob = blob_of(root, page)
    old, before = bodies["identity"], blob.stat()
    assert [store.read(page, page.identity) for _ in range(2)] == [old, old]
    time.sleep(0.02)  # more than a tick of a file system's clock
    if how == "replace":
        other = root / "other"
        other.write_bytes(old.swapcase())
        os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
        other.replace(blob)
    elif how == "remove":
        blob.unlink()
    else:
        parts = {"cut": old[:-1], "grow": old + b"!"}
        blob.write_bytes(parts.get(how, old.swapcase()))
        if how == "flip and set the time":
            os.utime(blob, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert store.read(page, page.identity) is None


@pytest.mark.usefixtures("settled")
def test_a_body_that_was_linked_to_is_checked_again_and_still_good(
    store: FileStore, root: Path, digested: list[bytes]
) -> None:
    page, bodies = make_page(gzip=None)
    store.put(page, bodies)
    assert store.read(page, page.identity) == bodies["identity"]
    time.sleep(0.02)
    os.link(blob_of(root, page), root / "another name")
    for _ in range(3):
        assert store.read(page, page.identity) == bodies["identity"]
    assert len(digested) == 2


@pytest.mark.usefixtures("settled")
def test_what_was_checked_is_bounded(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flask_prerender.stores.blobs._CHECKED", 5)
    for number in range(12):
        page, bodies = make_page(f"/{number}", b"%d" % number, gzip=None)
        store.put(page, bodies)
        assert store.read(page, page.identity) == bodies["identity"]
        assert len(store._blobs._checked) <= 5


def test_a_put_mends_a_damaged_body_that_nobody_read(store: FileStore, root: Path) -> None:
    page, bodies = make_page()
    store.put(page, bodies)
    (root / "public" / "about" / "index.html").write_bytes(b"<h1>AbouT</h1>")
    store.put(page, bodies)
    assert read_all(store, page) == bodies


@pytest.mark.parametrize("kind", ["directory", "fifo", "link"])
def test_what_is_not_a_file_is_no_body(store: FileStore, root: Path, kind: str) -> None:
    page, bodies = make_page(gzip=None)
    store.put(page, bodies)
    name = page.identity.digest
    blob = root / "store" / "blobs" / name[:2] / name
    blob.unlink()
    if kind == "directory":
        blob.mkdir()
    elif kind == "fifo":
        os.mkfifo(blob)
    else:
        blob.symlink_to(root / "public" / "about" / "index.html")
    assert store.read(page, page.identity) is None


def test_a_digest_that_is_a_path_reads_and_removes_nothing(
    store: FileStore, root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    page, bodies = make_page()
    store.put(page, bodies)
    victim = tmp_path / "victim"
    victim.write_bytes(bodies["identity"])
    for name in ("../../victim", str(victim), page.identity.digest + "\n", ""):
        assert store.read(page, replace(page.identity, digest=name)) is None
    assert victim.exists()
    assert caplog.records == []


def test_a_damaged_body_cannot_be_left_out_once_it_was_read(store: FileStore, root: Path) -> None:
    page, bodies = make_page(gzip=None)
    store.put(page, bodies)
    (root / "public" / "about" / "index.html").write_bytes(b"<h1>AbouT</h1>")
    assert store.read(page, page.identity) is None
    with pytest.raises(BlobMissingError):
        store.put(page, {})


def test_a_shortened_body_cannot_be_left_out(store: FileStore, root: Path) -> None:
    page, bodies = make_page(gzip=None)
    store.put(page, bodies)
    (root / "public" / "about" / "index.html").write_bytes(b"<h1>")
    with pytest.raises(BlobMissingError):
        store.put(page, {})


def test_a_damaged_body_that_cannot_be_removed_is_one_warning(
    store: FileStore,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise OSError(errno.EROFS, "read-only")

    page, bodies = make_page(gzip=None)
    store.put(page, bodies)
    (root / "public" / "about" / "index.html").write_bytes(b"<h1>AbouT</h1>")
    monkeypatch.setattr(os, "unlink", refuse)
    assert [store.read(page, page.identity) for _ in range(3)] == [None, None, None]
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "change",
    [
        "record = replace(record, '200', '500')",
        "record = substr(record, 1, 40)",
        "record = x'80ff'",
        "record = 5",
        "seal = 'x'",
        "key = '/other'",
    ],
)
def test_a_damaged_record_is_no_page_with_one_warning(
    store: FileStore, root: Path, caplog: pytest.LogCaptureFixture, change: str
) -> None:
    store.put(*make_page())
    store.close()
    connection = sqlite3.connect(root / "store" / "index.sqlite3")
    connection.execute(f"UPDATE pages SET {change}")
    connection.commit()
    connection.close()
    key = "/other" if change.startswith("key") else "/about"
    assert [store.get(key), store.get(key), list(store.pages())] == [None, None, []]
    assert len(caplog.records) == 1
    page, bodies = make_page(key, file="about/index.html")
    store.put(page, bodies)
    assert store.get(key) == page


def test_an_index_whose_damage_is_no_text_is_renamed_too(store: FileStore, root: Path) -> None:
    store.put(*make_page())
    store.close()
    index = root / "store" / "index.sqlite3"
    damaged = index.read_bytes().replace(b"CREATE TABLE pages (", b"CREATE TABLE pages )")
    damaged = damaged.replace(b"tablepagespages", b"table\xc8agespages")  # its name in the schema
    index.write_bytes(damaged)
    assert store.get("/about") is None
    assert index.with_name("index.sqlite3.bad").read_bytes() == damaged
    page, bodies = make_page()
    store.put(page, bodies)
    assert store.get("/about") == page


def test_a_damaged_index_is_renamed_and_the_pages_are_stored_anew(
    store: FileStore, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.put(*make_page())
    store.put(*make_page("/lost"))
    store.close()
    index = root / "store" / "index.sqlite3"
    index.write_bytes(b"something else entirely, and long enough to be looked at" * 100)
    assert store.get("/about") is None
    assert len(caplog.records) == 1
    assert index.with_name("index.sqlite3.bad").read_bytes().startswith(b"something else")
    late(store, 61).sweep()
    page, bodies = make_page(body=b"new", gzip=b"newer")
    store.put(page, bodies)
    assert store.get("/about") == page
    # The tree's files of a lost index are known as ours by the blobs they are links to.
    assert tree_of(root) == {**named(page, bodies), **named(*make_page("/lost"))}
    store.put(*make_page("/lost", body=b"found", gzip=None))
    assert tree_of(root)["lost/index.html"] == b"found"
    assert len(caplog.records) == 1


def test_a_file_that_rots_into_no_database_is_mended_by_a_put(root: Path) -> None:
    index = root / "store" / "index.sqlite3"
    index.parent.mkdir(parents=True)
    index.write_bytes(b"something else entirely, and long enough to be looked at" * 100)
    store = FileStore(root)
    page, bodies = make_page()
    store.put(page, bodies)
    assert store.get("/about") == page
    store.close()


@pytest.mark.parametrize(("number", "age"), [(99, "a newer"), (1, "an earlier")])
def test_another_format_is_refused_with_the_cure(
    store: FileStore, root: Path, number: int, age: str
) -> None:
    store.put(*make_page())
    store.close()
    connection = sqlite3.connect(root / "store" / "index.sqlite3")
    connection.execute(f"PRAGMA user_version = {number}")
    connection.close()
    for use in (lambda: store.get("/about"), lambda: store.put(*make_page())):
        with pytest.raises(StoreError, match=rf"{age} .*format is {number}.*remove {root}"):
            use()


def test_the_times_of_files_mean_nothing(store: FileStore, root: Path) -> None:
    page, bodies = make_page()
    store.put(page, bodies)
    for path in root.rglob("*"):
        os.utime(path, (0, 0))
    assert store.get("/about") == page
    assert read_all(store, page) == bodies


# Sweeping.


def late(store: FileStore, seconds: float) -> FileStore:
    return FileStore(store.root, clock=lambda: time.time() + seconds)


def blobs_of(root: Path) -> set[str]:
    return {path.name for path in (root / "store" / "blobs").glob("*/*")}


def test_a_sweep_removes_old_bodies_that_no_page_names(store: FileStore, root: Path) -> None:
    store.put(*make_page(body=b"old", gzip=b"older"))
    page, bodies = make_page()
    store.put(page, bodies)
    foreign = root / "store" / "blobs" / "00" / "00-notes.txt"
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("by hand")
    store.sweep()
    assert len(blobs_of(root)) == 5
    sweeper = late(store, 61)
    sweeper.sweep()
    assert blobs_of(root) == {variant.digest for variant in page.variants} | {"00-notes.txt"}
    assert read_all(store, page) == bodies
    sweeper.close()


def test_a_sweep_removes_the_bodies_of_pages_that_were_deleted(
    store: FileStore, root: Path
) -> None:
    for key in ("/a", "/b", "/c"):
        store.put(*make_page(key, key.encode(), gzip=None))
    store.delete(["/a", "/c"])
    page, bodies = make_page("/d", b"/d", gzip=None)
    store.put(page, bodies)
    late(store, 61).sweep()
    assert len(blobs_of(root)) == 2
    assert read_all(store, page) == bodies


def test_a_body_that_gets_its_page_while_a_sweep_looks_is_kept(
    store: FileStore, root: Path
) -> None:
    page, bodies = make_page()
    sweeper = late(store, 61)
    named_before = sweeper._index.named

    def put_meanwhile(prefix: str) -> set[str]:
        found = named_before(prefix)
        if store.get("/about") is None:
            store.put(page, bodies)
            shutil.rmtree(root / "public")
        return found

    store.put(page, bodies)
    store.delete(["/about"])
    sweeper._index.named = put_meanwhile  # type: ignore[method-assign]
    sweeper.sweep()
    assert read_all(store, page) == bodies
    sweeper.close()


def test_a_sweep_sets_the_tree_that_dead_writers_left_behind_their_rows(
    store: FileStore, root: Path
) -> None:
    keys = ["/a", "/b", "/c"]
    for key in keys:
        store.put(*make_page(key, b"old " + key.encode(), gzip=b"older " + key.encode()))
    store._settling.settle = lambda puts, known: None  # type: ignore[method-assign]
    new = {key: make_page(key, b"new " + key.encode(), gzip=None) for key in keys[:2]}
    assert store.put_all(list(new.values())) == [None, None]
    assert tree_of(root)["a/index.html"] == b"old /a"
    sweeper = late(store, 61)
    sweeper.sweep()
    kept = make_page("/c", b"old /c", gzip=b"older /c")
    assert tree_of(root) == {**named(*new["/a"]), **named(*new["/b"]), **named(*kept)}
    assert len(blobs_of(root)) == 4
    sweeper.close()


def test_a_sweep_removes_what_dead_writers_left_and_nothing_of_the_living(
    store: FileStore, root: Path
) -> None:
    tmp = root / "store" / "tmp"
    tmp.mkdir(parents=True)
    mine, theirs, foreign = f"{os.getpid()}-0a.part", f"{DEAD.pid}-0b.part", "notes.part"
    for name in (mine, theirs, foreign):
        (tmp / name).touch()
    store.sweep()
    assert len(list(tmp.iterdir())) == 3
    late(store, 61).sweep()
    assert {path.name for path in tmp.iterdir()} == {mine, foreign}
    late(store, 601).sweep()
    assert {path.name for path in tmp.iterdir()} == {foreign}


def test_thousands_of_orphans_are_swept_beside_living_writers(store: FileStore, root: Path) -> None:
    tmp = root / "store" / "tmp"
    tmp.mkdir(parents=True)
    for number in range(2_000):
        (tmp / f"{DEAD.pid}-{number:016x}.part").touch()
    living = [tmp / f"{os.getpid()}-{number:016x}.part" for number in range(10)]
    for path in living:
        path.touch()
    late(store, 61).sweep()
    assert sorted(tmp.iterdir()) == living


def test_a_body_swept_while_it_is_put_is_written_again(
    store: FileStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, bodies = make_page()
    write = disk.write_whole
    swept = []

    def lose_the_first(directory: str, path: str, body: bytes, **options: bool) -> None:
        write(directory, path, body, **options)
        if not swept:
            swept.append(path)
            Path(path).unlink()

    monkeypatch.setattr("flask_prerender.stores.blobs.write_whole", lose_the_first)
    store.put(page, bodies)
    assert len(swept) == 1
    assert read_all(store, page) == bodies


# Several at once.


@pytest.mark.parametrize("deed", ["replace", "delete", "move", "take over"])
def test_the_tree_follows_the_index_when_somebody_comes_between(
    store: FileStore, root: Path, deed: str
) -> None:
    other = FileStore(root)
    newer, newer_bodies = make_page(body=b"newer", gzip=None)
    moved, moved_bodies = make_page(body=b"moved", file="moved.html")
    deeds: dict[str, list[Callable[[], object]]] = {
        "replace": [lambda: other.put(newer, newer_bodies)],
        "delete": [lambda: other.delete(["/about"])],
        "move": [lambda: other.put(moved, moved_bodies)],
        "take over": [
            lambda: other.put(moved, moved_bodies),
            lambda: other.put(*make_page("/b", b"b", file="about/index.html", gzip=None)),
        ],
    }
    expected = {
        "replace": named(newer, newer_bodies),
        "delete": {},
        "move": named(moved, moved_bodies),
        "take over": {**named(moved, moved_bodies), "about/index.html": b"b"},
    }
    tree_set = store._tree.set

    def come_between(*args: object, **more: object) -> object:
        store._tree.set = tree_set  # type: ignore[method-assign]
        for step in deeds[deed]:
            step()
        return tree_set(*args, **more)  # type: ignore[arg-type]

    store._tree.set = come_between  # type: ignore[assignment, method-assign]
    store.put(*make_page(body=b"older"))
    other.close()
    assert tree_of(root) == expected[deed]


def test_listing_holds_no_transaction_open(store: FileStore, root: Path) -> None:
    for number in range(700):
        store.put(*make_page(f"/{number}", gzip=None))
    listed = store.pages()
    next(listed)
    store.put(*make_page("/later", gzip=None))
    connection = sqlite3.connect(root / "store" / "index.sqlite3")
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    connection.close()
    assert busy == 0
    assert len(list(listed)) == 700


def test_a_removed_directory_is_an_empty_store_that_can_be_filled_again(
    store: FileStore, root: Path
) -> None:
    page, bodies = make_page()
    store.put(page, bodies)
    assert store.get("/about") == page
    shutil.rmtree(root)
    assert store.get("/about") is None
    assert store.read(page, page.identity) is None
    store.put(page, bodies)
    assert store.get("/about") == page
    assert tree_of(root) == named(page, bodies)


def test_a_store_replaced_by_another_is_noticed(store: FileStore, tmp_path: Path) -> None:
    store.put(*make_page())
    assert store.get("/about") is not None
    other = FileStore(tmp_path / "other")
    page, bodies = make_page("/new")
    other.put(page, bodies)
    other.close()
    store.root.rename(tmp_path / "old")
    other.root.rename(store.root)
    assert store.get("/about") is None
    assert store.get("/new") == page
    store.put(*make_page("/newer"))
    assert [found.key for found in FileStore(store.root).pages()] == ["/new", "/newer"]


def test_a_closed_store_is_one_file_without_a_log(store: FileStore, root: Path) -> None:
    store.put(*make_page())
    store.get("/about")
    store.close()
    assert {path.name for path in (root / "store").iterdir()} == {"index.sqlite3", "blobs", "tmp"}


def test_forked_children_use_connections_of_their_own(store: FileStore) -> None:
    def use(number: int) -> None:
        page, bodies = make_page(f"/child/{number}")
        store.put(page, bodies)
        whole = store.get("/about") is not None and read_all(store, page) == bodies
        os._exit(0 if whole else 1)

    store.put(*make_page())
    assert store.get("/about") is not None
    children = [fork.Process(daemon=True, target=use, args=(number,)) for number in range(8)]
    for child in children:
        child.start()
    for number in range(20):
        store.put(*make_page(f"/parent/{number}"))
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 8
    assert len(list(store.pages())) == 29


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_amid_busy_threads_leaves_no_lock_held(store: FileStore) -> None:
    def hammer(number: int) -> None:
        while not done.is_set():
            store.put(*make_page(f"/{number}"))
            store.get("/0")

    def use() -> None:
        store.put(*make_page("/child"))
        os._exit(0 if store.get("/child") else 1)

    done = threading.Event()
    threads = [threading.Thread(target=hammer, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    codes = []
    for _ in range(20):
        child = fork.Process(daemon=True, target=use)
        child.start()
        child.join(20)
        codes.append(child.exitcode)
        child.kill()
    done.set()
    for thread in threads:
        thread.join()
    assert codes == [0] * 20
    check = sqlite3.connect(store.root / "store" / "index.sqlite3")
    assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    check.close()


def test_the_parent_may_end_while_its_child_goes_on(root: Path) -> None:
    def work() -> None:
        while (key := orders.recv()) != "end":
            store.put(*make_page(key))
            orders.send(len(list(store.pages())))

    store = FileStore(root)
    store.put(*make_page())
    store.get("/about")
    ours, orders = multiprocessing.Pipe()
    child = fork.Process(daemon=True, target=work)
    child.start()
    ours.send("/early")
    assert ours.recv() == 2
    store.put(*make_page("/parent"))
    store.close()
    ours.send("/late")
    assert ours.recv() == 4
    fresh = FileStore(root)
    assert [page.key for page in fresh.pages()] == ["/about", "/early", "/late", "/parent"]
    fresh.put(*make_page("/fresh"))
    fresh.close()
    ours.send("/last")
    assert ours.recv() == 6
    ours.send("end")
    child.join()


# Pages stored together.


def test_pages_stored_together_take_one_transaction(store: FileStore, root: Path) -> None:
    store.put(*make_page())
    statements: list[str] = []
    writer = store._index.database._writer
    assert writer is not None
    writer.set_trace_callback(statements.append)
    batch = [make_page(f"/{number}", b"%d" % number, gzip=None) for number in range(20)]
    assert store.put_all(batch) == [None] * 20
    assert len([sql for sql in statements if sql.startswith(("BEGIN", "COMMIT"))]) == 2
    assert len(tree_of(root)) == 2 + 20


def test_a_body_that_cannot_be_written_keeps_no_other_page_from_being_stored(
    store: FileStore, root: Path
) -> None:
    wrong, bodies = make_page("/wrong", b"wrong", gzip=None)
    store.put(*make_page("/before", b"before", gzip=None))
    shard = root / "store" / "blobs" / wrong.identity.digest[:2]
    shard.parent.mkdir(parents=True, exist_ok=True)
    shard.write_text("a file where the directory belongs")
    batch = [make_page("/a", b"a", gzip=None), (wrong, bodies), make_page("/b", b"b", gzip=None)]
    first, second, third = store.put_all(batch)
    assert (first, third) == (None, None)
    assert "ENOTDIR" in str(second)
    assert [page.key for page in store.pages()] == ["/a", "/b", "/before"]


def test_an_index_that_fails_keeps_the_whole_batch_as_it_was(
    store: FileStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(sqlite3.Connection):
        inserts = 0

        def execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:
            if sql.startswith("INSERT INTO bodies"):
                Failing.inserts += 1
                if Failing.inserts == 3:
                    raise sqlite3.OperationalError("database or disk is full")
            return super().execute(sql, *parameters)  # type: ignore[arg-type]

    store.put(*make_page("/1", b"old", gzip=None))
    store.close()
    connect = sqlite3.connect
    batch = [make_page(f"/{number}", b"%d" % number, gzip=None) for number in range(4)]
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **k, factory=Failing))
        errors = store.put_all(batch)
    assert ["disk is full" in str(error) for error in errors] == [True] * 4
    assert [page.key for page in store.pages()] == ["/1"]
    assert tree_of(root) == {"1/index.html": b"old"}
    assert store.put_all(batch) == [None] * 4


# Durability.


def test_full_durability_waits_for_the_bytes_before_they_get_their_name(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    for name in ("write", "fsync", "replace"):
        original = getattr(os, name)

        def note(*args: object, _name: str = name, _original: object = original) -> object:
            steps.append(_name)
            return _original(*args)  # type: ignore[operator]

        monkeypatch.setattr(os, name, note)
    durable = FileStore(root, durability="full")
    durable.put(*make_page(gzip=None))
    durable.close()
    assert steps[:4] == ["write", "fsync", "replace", "fsync"]
    steps.clear()
    normal = FileStore(root)
    normal.put(*make_page(body=b"new", gzip=None))
    normal.close()
    assert "fsync" not in steps


def test_nothing_is_logged_when_nothing_is_wrong(
    store: FileStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "flask_prerender")
    page, bodies = make_page()
    for _ in range(2):
        store.put(page, bodies)
    assert read_all(store, store.get("/about") or page) == bodies
    store.delete(["/about"])
    late(store, 61).sweep()
    assert caplog.records == []


def test_a_page_that_is_made_again_for_ever_does_not_fill_the_disk(root: Path) -> None:
    clock = Clock()
    store = FileStore(root, clock=clock)
    for number in range(50):
        store.put(*make_page(body=b"%d" % number, gzip=b"gz%d" % number))
        clock.forward(30)
        assert len(list((root / "store" / "blobs").rglob("*/*"))) <= 2 * 4
    store.close()


def test_a_body_outlives_its_page_for_those_who_read_it(root: Path) -> None:
    clock = Clock()
    store = FileStore(root, clock=clock)
    old, bodies = make_page("/a", b"a", gzip=None)
    store.put(old, bodies)
    store.delete(["/a"])
    clock.forward(59)
    store.put(*make_page("/b", b"b", gzip=None))
    assert store.read(old, old.identity) == b"a"
    clock.forward(1)
    store.put(*make_page("/c", b"c", gzip=None))
    assert store.read(old, old.identity) is None
    store.close()


def test_a_body_that_has_a_page_again_stays(root: Path) -> None:
    clock = Clock()
    store = FileStore(root, clock=clock)
    page, bodies = make_page("/a", b"a", gzip=None)
    store.put(page, bodies)
    store.put(*make_page("/a", b"other", gzip=None))
    store.put(page, bodies)
    clock.forward(61)
    store.put(*make_page("/b", b"b", gzip=None))
    assert store.read(page, page.identity) == b"a"
    store.close()


def test_an_evicted_page_leaves_no_file_and_no_directory(root: Path) -> None:
    store = FileStore(root)
    store.put(*make_page("/a/b", origin="visit", build=0))
    store.put(*make_page("/kept", b"kept", gzip=None))
    store.evict(Budget("/<name>", 0, 0))
    assert tree_of(root) == {"kept/index.html": b"kept"}
    assert [path.name for path in (root / "public").iterdir()] == ["kept"]
    assert len(list((root / "store" / "blobs").rglob("*/*"))) == 1
    store.close()

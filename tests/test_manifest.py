"""manifest.json: written in one step, read back with care."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_prerender import manifest
from flask_prerender.errors import StoreError
from flask_prerender.page import digest
from flask_prerender.page import Page
from flask_prerender.page import Variant

NOW = 1_800_000_000.0
ABOUT = Page(
    key="/about",
    rule="/about",
    endpoint="about",
    file="about/index.html",
    status=200,
    headers=(("Content-Type", "text/html"),),
    variants=(
        Variant("identity", digest(b"hello"), 5),
        Variant("gzip", digest(b"packed"), 4),
        Variant("br", digest(b"small"), 3),
    ),
    tags=("news", "path:/about"),
    revision=1,
    token=1,
    origin="build",
    build=1,
    generated_at=NOW,
    changed_at=NOW - 60.5,
    checked_at=NOW + 5,
    revalidate=60.0,
    options={"priority": 1, "title": "Über"},
)


def page(key: str, **facts: Any) -> Page:
    return replace(ABOUT, key=key, **facts)


def write(path: Path, *pages: Page, generated_at: float = NOW) -> int:
    return manifest.write(
        path, pages, generated_at=generated_at, style="file", base_url="https://example.com/shop"
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "manifest.json"


def test_what_is_written_is_read_back(path: Path) -> None:
    assert write(path, ABOUT, page("/a?b=c", file="a/index~~b%3dc.html")) == 2
    found = manifest.read(path)
    assert found.generated_at == datetime.fromtimestamp(NOW, UTC)
    assert (found.style, found.base_url) == ("file", "https://example.com/shop")
    assert list(found.pages) == ["/about", "/a?b=c"]
    assert found.pages["/about"] == manifest.Entry(
        route="/about",
        rule="/about",
        endpoint="about",
        file="about/index.html",
        status=200,
        size=5,
        sha256=digest(b"hello"),
        generated_at=datetime.fromtimestamp(NOW, UTC),
        changed_at=datetime.fromtimestamp(NOW - 60.5, UTC),
        variants={"gzip": 4, "br": 3},
        tags=("news", "path:/about"),
        options={"revalidate": 60.0, "expire": None, "priority": 1, "title": "Über"},
    )


def test_the_file_is_json_with_one_page_per_line(path: Path) -> None:
    pages = [page(f"/{number}") for number in range(5)]
    write(path, *pages)
    facts = json.loads(path.read_bytes())
    assert facts["version"] == 1
    assert facts["generated_at"] == "2027-01-15T08:00:00.000Z"
    assert [each["route"] for each in facts["pages"]] == [each.key for each in pages]
    assert "checked_at" not in path.read_text()
    before = path.read_text().splitlines()
    write(path, *pages[:2], page("/2", status=404), *pages[3:])
    after = path.read_text().splitlines()
    assert len(before) == 7
    assert [old == new for old, new in zip(before, after, strict=True)].count(False) == 1


def test_a_manifest_that_says_the_same_stays_as_it_is(path: Path) -> None:
    write(path, page("/a"), page("/b"))
    before = path.stat()
    write(path, page("/a"), page("/b"), generated_at=NOW + 60)
    assert path.stat() == before
    assert list(path.parent.iterdir()) == [path]
    for pages in ([page("/a")], [page("/a"), page("/c")], [page("/a"), page("/b"), page("/c")]):
        write(path, *pages, generated_at=NOW + 60)
        assert manifest.read(path).generated_at == datetime.fromtimestamp(NOW + 60, UTC)
        write(path, page("/a"), page("/b"))
    manifest.write(path, [page("/a"), page("/b")], generated_at=NOW, style="file", base_url="")
    assert manifest.read(path).base_url == ""


def test_no_pages_make_a_manifest_too(path: Path) -> None:
    assert write(path) == 0
    assert manifest.read(path).pages == {}


def test_the_directory_is_made(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "down" / "manifest.json"
    write(path, ABOUT)
    assert manifest.lookup(path, "/about") is not None


def test_pages_are_taken_one_at_a_time_and_written_as_they_come(path: Path) -> None:
    sizes: list[int] = []

    def pages() -> Iterator[Page]:
        for number in range(3000):
            yield page(f"/{number}")
            sizes.append(sum(each.stat().st_size for each in path.parent.iterdir()))

    manifest.write(path, pages(), generated_at=NOW, style="file", base_url="")
    assert sizes[1000] > 100_000
    assert path.stat().st_size > sizes[1000]


def test_a_write_that_fails_leaves_the_old_manifest_and_nothing_else(path: Path) -> None:
    write(path, ABOUT)
    before = path.read_bytes()

    def pages() -> Iterator[Page]:
        yield page("/new")
        assert len(list(path.parent.iterdir())) == 2
        raise StoreError("the store is gone")

    with pytest.raises(StoreError, match="the store is gone"):
        manifest.write(path, pages(), generated_at=NOW, style="file", base_url="")
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_two_writers_do_not_meet_and_the_last_one_wins(path: Path) -> None:
    def slow() -> Iterator[Page]:
        yield page("/slow")
        write(path, page("/quick"))
        assert set(manifest.read(path).pages) == {"/quick"}

    manifest.write(path, slow(), generated_at=NOW, style="file", base_url="")
    assert set(manifest.read(path).pages) == {"/slow"}
    assert list(path.parent.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_a_store_error_naming_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / "file" / "manifest.json"
    with pytest.raises(StoreError, match=r"manifest\.json cannot be written: "):
        write(path, ABOUT)


def test_a_missing_manifest_names_the_file_and_what_makes_one(path: Path) -> None:
    with pytest.raises(StoreError, match=r"manifest\.json.*run flask prerender"):
        manifest.read(path)


@pytest.mark.parametrize(
    "text",
    [
        "", "no json", "[]", "3", "null", "{}", '{"version": 1, "pages": {}}', "[" * 100_000,
        '{"version": 2, "generated_at": "2027-01-15T08:00:00Z", "style": "", "base_url": "",'
        ' "pages": []}',
        '{"version": 1, "pages": []}',
        '{"version": 1, "generated_at": "soon", "style": "", "base_url": "", "pages": []}',
        '{"version": 1, "generated_at": "2027-01-15T08:00:00Z", "style": 1, "base_url": "",'
        ' "pages": []}',
    ],
    ids=range(12),
)  # fmt: skip
def test_a_broken_manifest_is_an_error_to_read_and_a_miss_to_look_up(
    path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text(text)
    with pytest.raises(StoreError, match=r"manifest\.json is not a manifest: .+ Remove it"):
        manifest.read(path)
    assert manifest.lookup(path, "/about") is None
    assert "is not a manifest" in caplog.text


def test_bytes_that_are_no_text_are_a_broken_manifest(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StoreError, match="is not a manifest"):
        manifest.read(path)


def test_a_directory_in_its_place_cannot_be_read(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StoreError, match="cannot be read"):
        manifest.read(path)


def test_looking_up_without_a_manifest_is_a_miss_that_is_logged(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert manifest.lookup(path, "/about") is None
    assert str(path) in caplog.text


@pytest.mark.parametrize(
    ("url", "route"),
    [
        ("/about", "/about"),
        ("/about?utm_source=x", "/about"),
        ("/about#top", "/about"),
        ("/about/", None),
        ("/About", None),
        ("/nothing", None),
        ("/search?q=a&page=2", "/search?page=2&q=a"),
        ("/search?page=2&q=a", "/search?page=2&q=a"),
        ("/search?q=b", None),
        ("/caf%C3%A9", "/caf%C3%A9"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/café", "/caf%C3%A9"),
        ("//other.example/about", "//other.example/about"),
        ("//third.example/about", None),
        ("/../about", None),
        ("", None),
        ("about", None),
    ],
)
def test_a_url_is_looked_up_with_or_without_a_query(
    path: Path, url: str, route: str | None
) -> None:
    keys = ["/about", "/search?page=2&q=a", "/caf%C3%A9", "//other.example/about"]
    write(path, *map(page, keys))
    found = manifest.lookup(path, url)
    assert (found and found.route) == route


def damage(path: Path, number: int, **facts: Any) -> None:
    text = json.loads(path.read_text())
    text["pages"][number].update(facts)
    path.write_text(json.dumps(text))


@pytest.mark.parametrize(
    "facts",
    [
        {"route": 3}, {"file": ""}, {"file": "/etc/passwd"}, {"file": "../x"}, {"file": "a/../b"},
        {"file": "a\\b"}, {"status": "200"}, {"status": True}, {"size": None}, {"sha256": 1},
        {"generated_at": "yesterday"}, {"changed_at": 5}, {"variants": []}, {"tags": "news"},
        {"variants": {"gzip": "4"}}, {"options": 1}, {"rule": []}, {"endpoint": {}},
    ],
    ids=str,
)  # fmt: skip
def test_a_malformed_entry_is_skipped_with_a_warning(
    path: Path, facts: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    write(path, ABOUT, page("/b"), page("/c"))
    damage(path, 1, **facts)
    assert list(manifest.read(path).pages) == ["/about", "/c"]
    (record,) = caplog.records
    assert "Entry 2 of" in record.getMessage()
    assert next(iter(facts)) in record.getMessage() or "isoformat" in record.getMessage()


@pytest.mark.parametrize("entry", [None, 3, "page", [], {}, {"route": "/x"}])
def test_an_entry_that_is_no_page_at_all_is_skipped(path: Path, entry: object) -> None:
    write(path, ABOUT)
    text = json.loads(path.read_text())
    path.write_text(json.dumps({**text, "pages": [entry, *text["pages"]]}))
    assert list(manifest.read(path).pages) == ["/about"]


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(key=WORDS, tags=st.lists(WORDS, max_size=3), base_url=WORDS)
def test_any_text_comes_back(
    tmp_path_factory: pytest.TempPathFactory, key: str, tags: list[str], base_url: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any-text.json"
    pages = [page(key, tags=tuple(tags)), page("/last")]
    manifest.write(path, pages, generated_at=NOW, style="file", base_url=base_url)
    found = manifest.read(path)
    assert found.base_url == base_url
    assert found.pages[key].tags == tuple(tags) or key == "/last"
    path.unlink()

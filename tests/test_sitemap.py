"""sitemap.xml: what it lists, how it is split, and whose files it leaves alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_prerender import sitemap
from flask_prerender.errors import StoreError
from flask_prerender.page import digest
from flask_prerender.page import make_key
from flask_prerender.page import Page
from flask_prerender.page import Variant

NOW = 1_800_000_000.0
SPACE = "{http://www.sitemaps.org/schemas/sitemap/0.9}"
HTML = (("Content-Type", "text/html; charset=utf-8"),)
HOME = Page(
    key="/",
    rule="/",
    endpoint="home",
    file="index.html",
    status=200,
    headers=HTML,
    variants=(Variant("identity", digest(b"hello"), 5),),
    tags=(),
    revision=1,
    token=1,
    origin="build",
    build=1,
    generated_at=NOW,
    changed_at=NOW,
    checked_at=NOW + 5,
)


def page(key: str, **facts: Any) -> Page:
    return replace(HOME, key=key, **facts)


def pages(count: int) -> Iterator[Page]:
    return (page(f"/{number:06}") for number in range(count))


def write(directory: Path, *listed: Page, base_url: str = "https://example.com") -> list[str]:
    return sitemap.write(directory, listed, base_url=base_url)


def locations(path: Path) -> list[str]:
    root = ElementTree.fromstring(path.read_bytes())
    return [found.text or "" for found in root.iter(f"{SPACE}loc")]


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_sitemap_is_well_formed_and_lists_absolute_urls(tmp_path: Path) -> None:
    assert write(tmp_path, HOME, page("/about"), page("/docs/")) == ["sitemap.xml"]
    root = ElementTree.fromstring((tmp_path / "sitemap.xml").read_bytes())
    assert root.tag == f"{SPACE}urlset"
    assert {child.tag for child in root} == {f"{SPACE}url"}
    assert locations(tmp_path / "sitemap.xml") == [
        "https://example.com/",
        "https://example.com/about",
        "https://example.com/docs/",
    ]
    assert names(tmp_path) == ["sitemap.xml"]


def test_a_base_url_keeps_its_mount_path_and_its_port(tmp_path: Path) -> None:
    write(tmp_path, HOME, page("/about"), base_url="http://shop.example:8080/mounted")
    assert locations(tmp_path / "sitemap.xml") == [
        "http://shop.example:8080/mounted/",
        "http://shop.example:8080/mounted/about",
    ]


def test_a_page_of_another_host_is_listed_there(tmp_path: Path) -> None:
    write(tmp_path, page("//de.example.com/about?a=b"), page("//x:81/"), base_url="https://e.com/m")
    assert locations(tmp_path / "sitemap.xml") == [
        "https://de.example.com/m/about?a=b",
        "https://x:81/m/",
    ]


@pytest.mark.parametrize(
    "facts",
    [
        {"status": 404},
        {"status": 301},
        {"headers": (("Content-Type", "application/json"),)},
        {"headers": ()},
        {"options": {"sitemap": False}},
    ],
    ids=str,
)
def test_only_html_with_status_200_that_wants_to_be_there_is_listed(
    tmp_path: Path, facts: dict[str, Any]
) -> None:
    write(tmp_path, page("/yes"), page("/no", **facts))
    assert locations(tmp_path / "sitemap.xml") == ["https://example.com/yes"]


def test_xhtml_is_listed_and_so_is_a_page_that_says_yes(tmp_path: Path) -> None:
    xhtml = (("content-type", "application/xhtml+xml"),)
    write(tmp_path, page("/x", headers=xhtml), page("/y", options={"sitemap": True}))
    assert len(locations(tmp_path / "sitemap.xml")) == 2


def fields(path: Path) -> list[tuple[str, str | None]]:
    root = ElementTree.fromstring(path.read_bytes())
    return [(child.tag.removeprefix(SPACE), child.text) for child in root[0]]


def test_lastmod_is_when_the_content_changed(tmp_path: Path) -> None:
    write(tmp_path, page("/", changed_at=NOW - 86400.5))
    assert fields(tmp_path / "sitemap.xml")[1] == ("lastmod", "2027-01-14T07:59:59+00:00")
    write(tmp_path, page("/", changed_at=NOW, last_modified=0.0))
    assert fields(tmp_path / "sitemap.xml")[1] == ("lastmod", "1970-01-01T00:00:00+00:00")


def test_priority_and_changefreq_come_from_the_mark(tmp_path: Path) -> None:
    write(tmp_path, page("/", options={"sitemap": {"priority": 0.8, "changefreq": "weekly"}}))
    assert fields(tmp_path / "sitemap.xml") == [
        ("loc", "https://example.com/"),
        ("lastmod", "2027-01-15T08:00:00+00:00"),
        ("changefreq", "weekly"),
        ("priority", "0.8"),
    ]


@pytest.mark.parametrize(
    "wishes",
    [{"priority": 1.5}, {"priority": "<x>"}, {"changefreq": "<x>"}, {"changefreq": ["daily"]}],
    ids=str,
)
def test_a_hint_that_the_schema_forbids_is_left_out_and_logged(
    tmp_path: Path, wishes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, page("/", options={"sitemap": wishes}))
    assert [name for name, _ in fields(tmp_path / "sitemap.xml")] == ["loc", "lastmod"]
    assert f"{next(iter(wishes))} {next(iter(wishes.values()))!r}" in caplog.text


def test_a_site_without_pages_gets_an_empty_sitemap(tmp_path: Path) -> None:
    write(tmp_path, HOME)
    assert write(tmp_path) == ["sitemap.xml"]
    assert locations(tmp_path / "sitemap.xml") == []


def test_the_directory_is_made(tmp_path: Path) -> None:
    write(tmp_path / "deep" / "public", HOME)
    assert names(tmp_path / "deep" / "public") == ["sitemap.xml"]


@pytest.mark.parametrize(("count", "parts"), [(10, 1), (11, 2), (20, 2), (21, 3)])
def test_more_urls_than_the_limit_are_split_under_an_index(
    tmp_path: Path, count: int, parts: int
) -> None:
    found = sitemap.write(tmp_path, pages(count), base_url="https://e.com/m", limit=10)
    assert sorted(found) == names(tmp_path)
    if parts == 1:
        assert found == ["sitemap.xml"]
        return
    split = [f"sitemap-{number}.xml" for number in range(1, parts + 1)]
    assert found == [*split, "sitemap.xml"]
    index = ElementTree.fromstring((tmp_path / "sitemap.xml").read_bytes())
    assert index.tag == f"{SPACE}sitemapindex"
    assert {child.tag for child in index} == {f"{SPACE}sitemap"}
    assert locations(tmp_path / "sitemap.xml") == [f"https://e.com/m/{name}" for name in split]
    listed = [locations(tmp_path / name) for name in split]
    assert [len(each) for each in listed[:-1]] == [10] * (parts - 1)
    urls = [url for each in listed for url in each]
    assert urls == [f"https://e.com/m/{number:06}" for number in range(count)]


def test_more_bytes_than_a_file_may_have_are_split_too(tmp_path: Path) -> None:
    found = sitemap.write(tmp_path, pages(100), base_url="https://e.com", max_bytes=2000)
    assert len(found) > 4
    assert all((tmp_path / name).stat().st_size <= 2000 for name in found[:-1])
    listed = [url for name in found[:-1] for url in locations(tmp_path / name)]
    assert listed == [f"https://e.com/{number:06}" for number in range(100)]


def test_a_url_longer_than_a_file_may_be_has_a_file_of_its_own(tmp_path: Path) -> None:
    found = sitemap.write(tmp_path, pages(3), base_url="https://e.com", max_bytes=10)
    assert [len(locations(tmp_path / name)) for name in found] == [1, 1, 1, 3]


def test_a_part_is_filled_to_the_last_byte(tmp_path: Path) -> None:
    sitemap.write(tmp_path, pages(50), base_url="https://e.com")
    size = (tmp_path / "sitemap.xml").stat().st_size
    exact = sitemap.write(tmp_path, pages(50), base_url="https://e.com", max_bytes=size)
    assert exact == ["sitemap.xml"]
    short = sitemap.write(tmp_path, pages(50), base_url="https://e.com", max_bytes=size - 1)
    assert len(short) == 3


def test_a_site_that_shrinks_loses_the_parts_it_had_and_no_file_of_others(tmp_path: Path) -> None:
    sitemap.write(tmp_path, pages(40), base_url="https://e.com", limit=10)
    foreign = {"sitemap-9.xml": "<urlset/>", "sitemap-images.xml": sitemap.MARKER, "a.xml": ""}
    for name, text in foreign.items():
        (tmp_path / name).write_text(text)
    sitemap.write(tmp_path, pages(15), base_url="https://e.com", limit=10)
    ours = ["sitemap-1.xml", "sitemap-2.xml", "sitemap.xml"]
    assert names(tmp_path) == sorted([*ours, *foreign])
    sitemap.write(tmp_path, pages(5), base_url="https://e.com", limit=10)
    assert names(tmp_path) == sorted(["sitemap.xml", *foreign])
    assert {name: (tmp_path / name).read_text() for name in foreign} == foreign


@pytest.mark.parametrize("name", ["sitemap.xml", "sitemap-2.xml"])
def test_a_sitemap_that_is_not_ours_is_left_as_it_is(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / name).write_text("<urlset>made by a view</urlset>")
    assert sitemap.write(tmp_path, pages(15), base_url="https://e.com", limit=10) == []
    assert names(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "<urlset>made by a view</urlset>"
    assert f"{name} is not ours" in caplog.text


def test_a_write_that_fails_leaves_the_old_sitemap_and_nothing_else(tmp_path: Path) -> None:
    sitemap.write(tmp_path, pages(15), base_url="https://e.com", limit=10)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def failing() -> Iterator[Page]:
        yield from pages(25)
        assert len(names(tmp_path)) > len(before)
        raise StoreError("the store is gone")

    with pytest.raises(StoreError, match="the store is gone"):
        sitemap.write(tmp_path, failing(), base_url="https://new.com", limit=10)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_place_that_cannot_be_written_is_a_store_error_naming_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"sitemap\.xml cannot be written: "):
        write(tmp_path / "file", HOME)


def test_pages_are_taken_one_at_a_time_and_written_as_they_come(tmp_path: Path) -> None:
    sizes: list[int] = []

    def counted() -> Iterator[Page]:
        for each in pages(3000):
            yield each
            sizes.append(sum(path.stat().st_size for path in tmp_path.iterdir()))

    sitemap.write(tmp_path, counted(), base_url="https://e.com")
    assert sizes[1500] > 50_000
    assert (tmp_path / "sitemap.xml").stat().st_size > sizes[1500]


@given(
    raw=st.text(min_size=1, max_size=30),
    query=st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9)), max_size=2),
    mount=st.sampled_from(["", "/a&b", "/it's", '/<"x">']),
)
def test_any_page_makes_a_well_formed_sitemap_with_its_url(
    tmp_path_factory: pytest.TempPathFactory, raw: str, query: list[tuple[str, str]], mount: str
) -> None:
    path = "/" + raw.encode("utf-8", "replace").decode("latin-1")
    key = make_key(path, query)
    directory = tmp_path_factory.getbasetemp() / "any-page"
    write(directory, page(key or "/"), base_url=f"https://e.com{mount}")
    assert locations(directory / "sitemap.xml") == [f"https://e.com{mount}{key or '/'}"]


@pytest.mark.parametrize(
    "key", ["/a", "/b/", "//c.example/", "/d?q=1", "/e&f", "/it's", "/g%26", "/h#v"]
)
def test_pages_with_wishes_and_pages_without_are_written_alike(tmp_path: Path, key: str) -> None:
    base = "https://example.com/it's & that"
    write(tmp_path / "plain", page(key), base_url=base)
    write(tmp_path / "wishing", page(key, options={"sitemap": {}}), base_url=base)
    plain, wishing = (
        (tmp_path / name / "sitemap.xml").read_text() for name in ("plain", "wishing")
    )
    assert plain == wishing
    assert ("<url>" in plain) == ("#" not in key)

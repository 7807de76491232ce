"""What a page is: its freshness, its key, and a file name that is safe everywhere."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import asdict
from dataclasses import replace
from itertools import product
from typing import Any
from typing import get_args
from typing import NamedTuple
from urllib.parse import parse_qsl
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import HealthCheck
from hypothesis import settings
from hypothesis import strategies as st

from flask_prerender import paths
from flask_prerender.page import digest
from flask_prerender.page import http_date
from flask_prerender.page import make_key
from flask_prerender.page import Page
from flask_prerender.page import path_key
from flask_prerender.page import split_key
from flask_prerender.page import Style
from flask_prerender.page import SUFFIXES
from flask_prerender.page import Variant
from flask_prerender.page import wsgi_path
from flask_prerender.paths import file_for

NOW = 1_800_000_000.0
TEN_YEARS = 10 * 365 * 86400.0
STYLES: tuple[Style, ...] = get_args(Style)
EXTENSIONS = paths._EXTENSIONS
MIMETYPES = [*EXTENSIONS, "application/x-unknown", ""]
#: One is of a user's own compressor.
VARIANT_SUFFIXES = [*filter(None, SUFFIXES.values()), "lzma"]
ABOUT = Page(
    key="/about",
    rule="/about",
    endpoint="about",
    file="about/index.html",
    status=200,
    headers=(("Content-Type", "text/html; charset=utf-8"), ("Link", "</a>")),
    variants=(Variant("identity", digest(b"hello"), 5), Variant("gzip", digest(b"x"), 3)),
    tags=("news",),
    revision=7,
    token=3,
    origin="build",
    build=2,
    generated_at=NOW - 20,
    changed_at=NOW - 30,
    checked_at=NOW,
)

few_and_many = pytest.mark.parametrize(
    "count",
    [1, pytest.param(25, marks=[pytest.mark.long, pytest.mark.timeout(1200)])],
    ids=["few", "many"],
)


def holds(check: Callable[[Any], None], strategy: st.SearchStrategy[Any], examples: int) -> None:
    law = settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))(
        given(strategy)(check)
    )
    law()


# Freshness.


@pytest.mark.parametrize(
    ("revalidate", "expire", "age", "state"),
    [
        (None, None, 0, "fresh"),
        (None, None, 9 * TEN_YEARS, "fresh"),
        (None, None, -5, "fresh"),
        (60, None, 0, "fresh"),
        (60, None, 59.9, "fresh"),
        (60, None, 60, "stale"),
        (60, None, TEN_YEARS, "stale"),
        (0, None, 0, "stale"),
        (60, 300, 299.9, "stale"),
        (60, 300, 300, "expired"),
        (60, 300, 9999, "expired"),
        (None, 300, 299.9, "fresh"),
        (None, 300, 300, "expired"),
        (60, 300, -0.1, "stale"),
        (None, 300, -0.1, "stale"),
        (60, 300, TEN_YEARS, "expired"),
        (60, 300, TEN_YEARS + 1, "stale"),
        (None, 300, TEN_YEARS + 1, "stale"),
        (2 * TEN_YEARS, None, TEN_YEARS + 1, "stale"),
        (2 * TEN_YEARS, None, TEN_YEARS, "fresh"),
    ],
)
def test_a_page_is_fresh_then_stale_then_expired_and_stale_when_the_clock_was_set(
    revalidate: float | None, expire: float | None, age: float, state: str
) -> None:
    page = replace(ABOUT, revalidate=revalidate, expire=expire)
    assert page.state(NOW + age) == state
    assert page.age(NOW + age) == pytest.approx(age)


def test_a_page_knows_its_type_its_sizes_and_its_identity() -> None:
    assert ABOUT.mimetype == "text/html"
    assert replace(ABOUT, headers=(("content-TYPE", " Text/CSS "),)).mimetype == "text/css"
    assert replace(ABOUT, headers=()).mimetype == ""
    assert ABOUT.size == 8
    assert ABOUT.identity.size == 5


def test_a_digest_is_sha_256_and_a_date_is_http() -> None:
    assert digest(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert http_date(784111777) == "Sun, 06 Nov 1994 08:49:37 GMT"


# JSON.

TEXT = st.text(max_size=20)
WHOLE = st.integers(0, 2**60)
MOMENT = st.floats(0, 1e11)
VARIANTS = st.lists(st.builds(Variant, TEXT, TEXT, WHOLE), max_size=3)
PAGES = st.builds(
    Page,
    key=TEXT,
    rule=TEXT,
    endpoint=TEXT,
    file=TEXT,
    status=st.integers(100, 599),
    headers=st.lists(st.tuples(TEXT, TEXT), max_size=3).map(tuple),
    variants=VARIANTS.map(lambda rest: (Variant("identity", "00", 1), *rest)),
    tags=st.lists(TEXT, max_size=3).map(tuple),
    revision=WHOLE,
    token=WHOLE,
    origin=st.sampled_from(["build", "visit"]),
    build=WHOLE,
    generated_at=MOMENT,
    changed_at=MOMENT,
    checked_at=MOMENT,
    revalidate=st.none() | MOMENT,
    expire=st.none() | MOMENT,
    last_modified=st.none() | MOMENT,
    compressors=TEXT,
    options=st.dictionaries(TEXT, st.none() | st.booleans() | WHOLE | TEXT, max_size=3),
)


def comes_back(page: Page) -> None:
    again = Page.from_json(page.to_json())
    assert again == page
    assert [type(value) for value in vars_of(again)] == [type(value) for value in vars_of(page)]


def vars_of(page: Page) -> list[object]:
    return [getattr(page, name) for name in asdict(page)]


@few_and_many
def test_a_page_comes_back_from_json_as_it_was(count: int) -> None:
    holds(comes_back, PAGES, 300 * count)


def changed(**facts: Any) -> str:
    return json.dumps({**asdict(ABOUT), **facts})


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "null", "3", "[]", "{}", '"page"',
        changed(unknown=1),
        changed(headers=3),
        changed(headers=[["a"]]),
        changed(variants=[]),
        changed(variants=[{"encoding": "gzip", "digest": "", "size": 1}]),
        changed(variants=[{"encoding": "identity"}]),
        changed(variants=None),
        changed(tags=None),
        json.dumps({name: value for name, value in asdict(ABOUT).items() if name != "status"}),
    ],
    ids=range(16),
)  # fmt: skip
def test_what_is_no_page_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Page.from_json(text)


# Keys.

#: Pieces that have a meaning somewhere: to us, to a disk, to Windows, to Unicode.
PIECES = [
    "a", "A", "b", "é", "e\u0301", "ß", "ss", "İ", "\u0131", "i", "\u212a", "k", "\ufeff", "😀",
    ".", "..", "...", "~", "~~", "~1", "%", "%41", "%61", "%2e", "%2f", "%69ndex", "%252e", "index",
    "html", ".html", ".HTML", ".htm", ".json", ".xml", ".rss", ".txt", ".bin", ".gz", ".br",
    ".zst", ".lzma", ".html.gz", ".html.lzma", "con", "CON", "nul", "aux.", "prn", "com1", "com0",
    "lpt9", "com¹", "conin$", "clock$", " ", ":", "\\", "\0", "\n", "\x7f", "?", "#", "&", "=",
    "+", ";", "@", "*", '"', "<", "|", "$", "-", "_", "x" * 90, "é" * 40, "x" * 190, "x" * 200,
    "%41" * 60, "x" * 700,
]  # fmt: skip
SEGMENT = st.lists(st.sampled_from(PIECES), min_size=1, max_size=3).map("".join)
TEXT_PATH = st.one_of(
    st.lists(SEGMENT, max_size=4).map("/".join),
    st.lists(st.sampled_from([*PIECES, "/"]), max_size=8).map("".join),
    st.text(max_size=20),
)
RAW_PATH = st.one_of(
    st.builds(
        lambda path, end: "/" + path.encode().decode("latin-1") + end,
        TEXT_PATH,
        st.sampled_from(["", "", "/"]),
    ),
    st.binary(max_size=12).map(lambda path: "/" + path.decode("latin-1")),
    st.binary(max_size=12).map(lambda path: path.decode("latin-1")),
    st.text("/.a%", max_size=9),
)


def is_refused(raw_path: str) -> bool:
    """Say again, in other words, which paths the docs refuse."""
    try:
        path = raw_path.encode("latin-1").decode()
    except UnicodeDecodeError:
        return True
    if not path.startswith("/") or any(ord(char) < 32 or char in "\x7f\\" for char in path):
        return True
    if "//" in path or "/./" in path + "/" or "/../" in path + "/":
        return True
    plain = len(re.findall(rb"[A-Za-z0-9._~/:@!$&'()*+,;=-]", path.encode()))
    return plain + 3 * (len(path.encode()) - plain) > 2000


def path_comes_back(raw_path: str) -> None:
    key = path_key(raw_path)
    assert (key is None) == is_refused(raw_path)
    if key is not None:
        assert wsgi_path(key) == raw_path
        assert re.fullmatch(r"/(?:[A-Za-z0-9._~/:@!$&'()*+,;=-]|%[0-9A-F]{2})*", key)


@few_and_many
def test_a_path_comes_back_from_its_key_so_no_two_paths_share_one(count: int) -> None:
    holds(path_comes_back, RAW_PATH, 1000 * count)


@pytest.mark.parametrize(
    ("raw_path", "key"),
    [
        ("/", "/"),
        ("/about", "/about"),
        ("/about/", "/about/"),
        ("/.well-known/x", "/.well-known/x"),
        ("/a..b/c.", "/a..b/c."),
        ("/a b", "/a%20b"),
        ("/a%20b", "/a%2520b"),
        ("/a?b", "/a%3Fb"),
        ("/caf\xc3\xa9", "/caf%C3%A9"),
        ("", None),
        ("about", None),
        ("//", None),
        ("//a", None),
        ("/a//b", None),
        ("/a//", None),
        ("/.", None),
        ("/..", None),
        ("/../etc/passwd", None),
        ("/docs/../../etc/passwd", None),
        ("/a/./b", None),
        ("/a/..", None),
        ("/a/../", None),
        ("/a\\..\\b", None),
        ("/a\x00", None),
        ("/a\n", None),
        ("/a\x7f", None),
        ("/\xff\xfe", None),
        ("/\xc0\xaf", None),
        ("/\xed\xa0\x80", None),
        ("/\u20ac", None),
    ],
)
def test_a_path_is_kept_in_one_way_or_refused(raw_path: str, key: str | None) -> None:
    assert path_key(raw_path) == key


@pytest.mark.parametrize(("text", "longest"), [("x", 1999), (" ", 666), ("\xf0\x9f\x98\x80", 166)])
def test_a_key_has_at_most_2000_bytes(text: str, longest: int) -> None:
    assert path_key("/" + text * longest) is not None
    assert path_key("/" + text * (longest + 1)) is None


def test_a_key_with_its_query_and_host_has_at_most_2000_bytes() -> None:
    assert make_key("/" + "x" * 1990, [("q", "1234567")]) is None
    assert make_key("/" + "x" * 1990, [("q", "123456")]) is not None
    assert make_key("/" + "x" * 1996, (), "e") == "//e/" + "x" * 1996
    assert make_key("/" + "x" * 1997, (), "e") is None


@pytest.mark.parametrize(
    ("query", "key"),
    [
        ([], "/s"),
        ([("b", "2"), ("a", "1")], "/s?a=1&b=2"),
        ([("a", "2"), ("a", "1")], "/s?a=2&a=1"),
        ([("a", "")], "/s?a="),
        ([("a", "1&b=2")], "/s?a=1%26b%3D2"),
        ([("a", "é +/?#")], "/s?a=%C3%A9%20%2B%2F%3F%23"),
        ([("a", "\ud800")], None),
    ],
)
def test_a_query_is_sorted_by_name_and_quoted(query: list[tuple[str, str]], key: str) -> None:
    assert make_key("/s", query) == key


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("example.com", "//example.com/a"),
        ("example.com:8080", "//example.com:8080/a"),
        ("[::1]:80", "//[::1]:80/a"),
        ("xn--caf-dma.example", "//xn--caf-dma.example/a"),
        ("Example.com", None),
        ("example.com/b", None),
        ("example.com?", None),
        ("exa mple", None),
        ("example.com\n", None),
        ("..", None),
        (".example.com", None),
        ("example.com.", None),
        ("a@b", None),
        ("a:b", None),
        ("café", None),
        ("[::1", None),
    ],
)
def test_a_host_is_a_host_or_the_key_is_refused(host: str, key: str | None) -> None:
    assert make_key("/a", (), host) == key


HOSTS = st.sampled_from(["", "", "a", "b.md", "x.html", "con", "index", "e:80", "[::1]"]) | (
    st.from_regex(r"\A[a-z0-9.:-]{1,5}\Z")
)
VALUE = st.text(max_size=5) | st.sampled_from(["/", "?a=b", "&c=d", "~"])
QUERY = st.lists(st.tuples(st.text(max_size=5), VALUE), max_size=3)


def key_comes_back(parts: tuple[str, list[tuple[str, str]], str]) -> None:
    raw_path, query, host = parts
    key = make_key(raw_path, query, host)
    if path_key(raw_path) is None:
        assert key is None
    if key is None:
        return
    found_host, found_path, found_query = split_key(key)
    assert found_host == host
    assert wsgi_path(found_path) == raw_path
    pairs = parse_qsl(found_query, keep_blank_values=True, errors="strict")
    assert pairs == sorted(query, key=lambda pair: pair[0])
    other_order = sorted(query, key=lambda pair: pair[0], reverse=True)
    assert make_key(raw_path, other_order, host) == key


@few_and_many
def test_path_query_and_host_come_back_from_a_key_so_none_can_be_forged(count: int) -> None:
    holds(key_comes_back, st.tuples(RAW_PATH, QUERY, HOSTS), 1000 * count)


# Files.


@pytest.mark.parametrize(
    ("key", "dir_index", "file"),
    [
        ("/", "index.html", "index.html"),
        ("/about", "about/index.html", "about.html"),
        ("/about/", "about/index.html", "about.html"),
        ("/docs/terms", "docs/terms/index.html", "docs/terms.html"),
        ("/a/b/c/d", "a/b/c/d/index.html", "a/b/c/d.html"),
        ("/about.html", "about.html", "about.html"),
        ("/about.htm", "about.htm", "about.htm"),
        ("/about.html/", "about%2ehtml/index.html", "about%2ehtml.html"),
        ("/index", "index/index.html", "%69ndex.html"),
        ("/index.html", "%69ndex.html", "%69ndex.html"),
        ("/a/index.html", "a/%69ndex.html", "a/%69ndex.html"),
        ("/feed.xml", "feed%2exml/index.html", "feed%2exml.html"),
        ("/feed.xml/old", "feed%2exml/old/index.html", "feed%2exml/old.html"),
        ("/x.html.gz", "x.html%2egz/index.html", "x.html%2egz.html"),
        ("/x.html.lzma/y", "x.html%2elzma/y/index.html", "x.html%2elzma/y.html"),
        ("/v1.2/notes", "v1.2/notes/index.html", "v1.2/notes.html"),
        ("/About", "%41bout/index.html", "%41bout.html"),
        ("/caf%C3%A9", "caf%c3%a9/index.html", "caf%c3%a9.html"),
        ("/a%20b", "a%20b/index.html", "a%20b.html"),
        ("/con", "%63on/index.html", "%63on.html"),
        ("/con.txt", "%63on%2etxt/index.html", "%63on%2etxt.html"),
        ("/.well-known", "%2ewell-known/index.html", "%2ewell-known.html"),
        ("/.html", "%2ehtml/index.html", "%2ehtml.html"),
        ("/x.", "x%2e/index.html", "x%2e.html"),
        ("/~me", "%7eme/index.html", "%7eme.html"),
        ("/?q=1", "index~~q%3d1.html", "index~~q%3d1.html"),
        ("/s?q=1", "s/index~~q%3d1.html", "s~~q%3d1.html"),
        ("//e.com/", "~e.com/index.html", "~e.com/index.html"),
        ("//e.com:80/a", "~e.com%3a80/a/index.html", "~e.com%3a80/a.html"),
    ],
)
def test_a_key_has_one_file_in_each_style(key: str, dir_index: str, file: str) -> None:
    assert file_for(key, "text/html", "dir_index") == dir_index
    assert file_for(key, "text/html", "file") == file


@pytest.mark.parametrize(
    ("key", "mimetype", "dir_index", "file"),
    [
        ("/feed.xml", "application/rss+xml", "feed.xml", "feed.xml"),
        ("/feed", "application/rss+xml", "feed/index.rss", "feed.rss"),
        ("/a.json", "application/json", "a.json", "a.json"),
        ("/robots.txt", "text/plain", "robots.txt", "robots.txt"),
        ("/x.html.txt", "text/plain", "x.html.txt", "x.html.txt"),
        ("/a.gz", "application/gzip", "a%2egz/index.bin", "a%2egz.bin"),
        ("/a", "", "a/index.bin", "a.bin"),
    ],
)
def test_a_file_has_the_extension_of_its_type(
    key: str, mimetype: str, dir_index: str, file: str
) -> None:
    assert file_for(key, mimetype, "dir_index") == dir_index
    assert file_for(key, mimetype, "file") == file


class Stored(NamedTuple):
    """One page of a made-up site. Its type is its own."""

    key: str
    mimetype: str
    style: Style

    @property
    def file(self) -> str | None:
        return file_for(self.key, self.mimetype, self.style)

    @property
    def meaning(self) -> tuple[str, list[str], str]:
        """What two pages have in common that may share a file: all but a slash at the end and,
        in "file" style, the extension of the type."""
        host, path, query = split_key(self.key)
        segments = [unquote(segment) for segment in path.strip("/").split("/")]
        first = EXTENSIONS.get(self.mimetype, ("bin",))[0]
        if self.style == "file" and not path.endswith("/"):
            stem = segments[-1].removesuffix(f".{first}")
            segments[-1] = stem if stem.strip(".") else segments[-1]
        return host, segments, query


RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9]|conin\$|conout\$)(?:[. ]|\Z)")


def is_portable(file: str) -> None:
    assert re.fullmatch(r"[a-z0-9%._~/-]+", file)
    assert len(file) <= 1000
    assert re.search(r"%(?![0-9a-f]{2})", re.sub(r"%[0-9a-f]?~[0-9a-f]{32}", "~", file)) is None
    for segment in file.split("/"):
        assert 0 < len(segment) <= 250
        assert not segment.startswith(".")
        assert not segment.endswith((".", " "))
        assert not RESERVED.match(segment)


def never_meet(pages: Iterable[Stored]) -> int:
    """Store pages of one site together: no file is another's file, variant or directory."""
    files: dict[str, Stored] = {}
    for each in pages:
        file = each.file
        if file is None:
            continue
        is_portable(file)
        folded = unicodedata.normalize("NFD", unicodedata.normalize("NFC", file).casefold())
        owner = files.setdefault(folded, each)
        assert owner.meaning == each.meaning, (owner, each, file)
    variants = {f"{file}.{suffix}" for file in files for suffix in VARIANT_SUFFIXES}
    directories = {parent for file in files for parent in parents(file)}
    assert not directories & files.keys()
    assert not directories & variants
    assert not variants & files.keys()
    return len(files)


def parents(file: str) -> Iterator[str]:
    while "/" in file:
        file = file.rpartition("/")[0]
        yield file


KEY = st.tuples(RAW_PATH, QUERY | st.just([]), HOSTS | st.just(""))


def site_is_safe(site: tuple[Style, list[tuple[Any, str]]]) -> None:
    style, parts = site
    keys = ((make_key(*part), mimetype) for part, mimetype in parts)
    never_meet(Stored(key, mimetype, style) for key, mimetype in keys if key is not None)


@few_and_many
def test_files_are_portable_and_never_meet(count: int) -> None:
    pages = st.lists(st.tuples(KEY, st.sampled_from(MIMETYPES)), min_size=1, max_size=8)
    holds(site_is_safe, st.tuples(st.sampled_from(STYLES), pages), 1000 * count)


def mixed(parts: tuple[list[str], Style, str]) -> None:
    pieces, style, mimetype = parts
    paths = {f"/{''.join(pieces[:end])}" for end in range(1, len(pieces) + 1)}
    paths |= {f"{path}{more}" for path in paths for more in ("/", ".html", ".gz", "/b", "/index")}
    keys = [key for path in paths if (key := path_key(path.encode().decode("latin-1")))]
    types = ("text/html", mimetype)
    never_meet(Stored(key, each, style) for key in keys for each in types)


@few_and_many
def test_near_relatives_never_meet(count: int) -> None:
    pieces = st.lists(st.sampled_from([*PIECES, "/"]), min_size=1, max_size=5)
    parts = st.tuples(pieces, st.sampled_from(STYLES), st.sampled_from(MIMETYPES))
    holds(mixed, parts, 700 * count)


SMALL = ["a", "A", ".", "index", ".html", ".txt", ".gz", ".lzma", "%2e", "~", "con", "é", "e\u0301"]


@pytest.mark.parametrize("style", STYLES)
def test_all_short_paths_of_awkward_pieces_never_meet(style: Style) -> None:
    words = [*SMALL, *map("".join, product(SMALL, repeat=2))]
    paths = [*words, *map("".join, product(SMALL, repeat=3)), *map("/".join, product(words, SMALL))]
    paths += [f"{first}/{second}" for first in SMALL for second in words]
    raw = ("/" + path.encode().decode("latin-1") + end for path in paths for end in ("", "/"))
    keys = sorted({key for path in raw if (key := path_key(path))})
    types = ("text/html", "text/plain")
    count = never_meet(Stored(key, each, style) for key in keys for each in types)
    assert count > 8000


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("mimetype", ["text/html", "application/json"])
def test_reserved_names_of_windows_never_come_out(style: Style, mimetype: str) -> None:
    names = ["con", "prn", "aux", "nul", "conin$", "conout$", "clock$"]
    names += [f"{port}{number}" for port in ("com", "lpt") for number in [*"0123456789", *"¹²³"]]
    names += [name.upper() for name in names]
    ends = ["", ".", " ", ". ", ".html", ".json", ".txt.json", ":x", "::$DATA", ".html.", ". ."]
    paths = [f"/{name}{end}{rest}" for name in names for end in ends for rest in ("", "/", "/a")]
    keys = [key for path in paths if (key := path_key(path.encode().decode("latin-1")))]
    assert len(keys) == len(paths)
    queried = [f"{key}?{name}=1" for key in keys for name in ("con", "a")]
    assert never_meet(Stored(key, mimetype, style) for key in keys + queried) > len(paths)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("text", ["x", "X", "é", "😀", "."])
def test_long_slugs_have_files_of_their_own_or_are_refused(style: Style, text: str) -> None:
    stored = []
    for length in [*range(60, 220), *range(220, 8000, 59)]:
        for slug in (text * length + "a", text * length + "b", text * length + "/" + text * length):
            key = path_key("/" + slug.encode().decode("latin-1"))
            assert (key is None) == is_refused("/" + slug.encode().decode("latin-1"))
            if key is not None:
                assert file_for(key, "text/html", style) is not None
                stored.append(Stored(key, "text/html", style))
    assert never_meet(stored) == len(stored)


@pytest.mark.parametrize("style", STYLES)
def test_a_file_name_of_more_than_1000_bytes_is_none(style: Style) -> None:
    lengths = set()
    for count in range(480, 505):
        file = file_for("/a" * count, "text/html", style)
        if file is not None:
            lengths.add(len(file))
    end = len("/index.html") if style == "dir_index" else len(".html")
    assert max(lengths) == 1000 - (1000 - end - 1) % 2
    assert file_for("/a" * 504, "text/html", style) is None


@pytest.mark.parametrize("style", STYLES)
def test_awkward_neighbours_have_a_file_each(style: Style) -> None:
    keys = ["/a", "/a/index.html", "/a.html/b", "/a/b", "/A", "/a.gz", "/a.html.gz", "/a%252ehtml"]
    files = {file_for(key, "text/html", style) for key in keys}
    assert len(files) == len(keys)


def test_the_two_cases_that_share_a_file_are_these() -> None:
    assert file_for("/a", "text/html", "dir_index") == file_for("/a/", "text/html", "dir_index")
    assert file_for("/a", "text/html", "file") == file_for("/a/", "text/html", "file")
    assert file_for("/a", "text/html", "file") == file_for("/a.html", "text/html", "file")
    assert file_for("/a", "text/html", "dir_index") != file_for("/a.html", "text/html", "dir_index")

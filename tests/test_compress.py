"""Compressed variants: what is kept, what is skipped, and what is said about it."""

from __future__ import annotations

import gzip
import importlib.util
import random
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import brotli  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import ROOT
from flask_prerender.checks import LEVELS
from flask_prerender.compress import compress
from flask_prerender.compress import Compressor
from flask_prerender.compress import default_compressors
from flask_prerender.compress import Gzip
from flask_prerender.compress import is_compressible
from flask_prerender.compress import make_compressor
from flask_prerender.compress import signature
from flask_prerender.page import SUFFIXES

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TEXT = b"<p>The same words again and again.</p>\n" * 100
#: Words that come again in no order, so that a higher level finds more.
NOISY = " ".join(random.Random(5).choices([f"word{n}" for n in range(400)], k=3000)).encode()
DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "br": brotli.decompress,
    "zstd": zstd.decompress,
}


class Half:
    """A compressor of a user: it keeps every second byte."""

    encoding = "half"
    suffix = "half"
    version = "half-1"

    def compress(self, body: bytes) -> bytes:
        return body[::2]


def altered(**facts: Any) -> Compressor:
    made: Compressor = type("Altered", (Half,), facts)()
    return made


def test_brotli_zstandard_and_gzip_are_at_hand_with_the_suffixes_that_pages_know() -> None:
    found = default_compressors()
    assert [each.encoding for each in found] == ["br", "zstd", "gzip"]
    assert all(SUFFIXES[each.encoding] == each.suffix for each in found)


@given(body=st.one_of(st.binary(max_size=5000), st.text(max_size=2000).map(str.encode)))
def test_every_compressor_gives_the_body_back(body: bytes) -> None:
    for each in default_compressors():
        assert DECODERS[each.encoding](each.compress(body)) == body


@pytest.mark.parametrize(("codec", "levels"), LEVELS.items())
def test_every_level_is_taken_and_gives_the_body_back(codec: str, levels: tuple[int, int]) -> None:
    sizes = {}
    for level in range(levels[0], levels[1] + 1):
        compressor = make_compressor(codec, level)
        assert compressor is not None
        assert compressor.version == f"{codec}-{level}"
        packed = compressor.compress(NOISY)
        assert DECODERS[codec](packed) == NOISY
        sizes[level] = len(packed)
    assert sizes[levels[1]] < sizes[levels[0]]


def test_the_usual_levels_are_fast_ones() -> None:
    assert signature(default_compressors()) == "br-5,zstd-3,gzip-6"


@pytest.mark.parametrize("size", [0, 1, 65_519, 65_520, 65_521, 5_000_000])
def test_a_body_of_any_size_fits_the_window_of_brotli(size: int) -> None:
    packer = make_compressor("br", 1)
    assert packer is not None
    body = random.Random(size).randbytes(100) * (size // 100 + 1)
    assert brotli.decompress(packer.compress(body[:size])) == body[:size]


def test_every_variant_is_smaller_and_decodes_to_the_body() -> None:
    kept = compress(TEXT, "text/html", default_compressors(), 1024)
    assert set(kept) == {"br", "zstd", "gzip"}
    for encoding, packed in kept.items():
        assert len(packed) < len(TEXT) / 5
        assert DECODERS[encoding](packed) == TEXT


def test_the_same_body_gives_the_same_bytes_and_gzip_names_no_system_and_no_time() -> None:
    packed = Gzip().compress(TEXT)
    assert packed == Gzip().compress(TEXT)
    assert packed[:10] == bytes([0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255])
    assert gzip.decompress(Gzip().compress(b"")) == b""


def test_one_compressor_is_used_by_many_threads() -> None:
    bodies = [random.Random(seed).randbytes(300) * 50 for seed in range(40)]
    for each in default_compressors():
        with ThreadPoolExecutor(8) as pool:
            packed = list(pool.map(each.compress, bodies))
        assert [DECODERS[each.encoding](part) for part in packed] == bodies


def test_no_compressors_keep_nothing() -> None:
    assert compress(TEXT, "text/html", (), 0) == {}


def test_a_body_smaller_than_the_least_is_left_alone() -> None:
    assert compress(TEXT, "text/html", [Half()], len(TEXT) + 1) == {}
    assert set(compress(TEXT, "text/html", [Half()], len(TEXT))) == {"half"}


def test_an_empty_body_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    assert compress(b"", "text/html", [*default_compressors(), Half()], 0) == {}
    assert caplog.records == []


@pytest.mark.parametrize(
    "mimetype",
    [
        "text/html", "text/plain", "text/css", "application/json", "application/ld+json",
        "application/xml", "application/rss+xml", "application/javascript", "text/javascript",
        "image/svg+xml", "application/wasm", "application/manifest+json",
    ],
)  # fmt: skip
def test_text_and_the_like_is_compressed(mimetype: str) -> None:
    assert set(compress(TEXT, mimetype, [Half()], 0)) == {"half"}


@pytest.mark.parametrize(
    "mimetype",
    ["image/png", "image/jpeg", "application/zip", "application/pdf", "video/mp4", "font/woff2",
     "application/octet-stream", "", "text", "text/", "application/jsonx"],
)  # fmt: skip
def test_what_is_packed_already_is_left_alone(mimetype: str) -> None:
    assert not is_compressible(mimetype)
    assert compress(TEXT, mimetype, [Half()], 0) == {}


def test_a_variant_is_kept_from_five_percent_saved() -> None:
    body = b"x" * 1000
    enough = altered(compress=lambda self, body: b"y" * 950)
    too_little = altered(compress=lambda self, body: b"y" * 951)
    assert compress(body, "text/html", [enough], 0) == {"half": b"y" * 950}
    assert compress(body, "text/html", [too_little], 0) == {}


def test_noise_keeps_no_variant() -> None:
    noise = random.Random(1).randbytes(5000)
    assert compress(noise, "text/plain", default_compressors(), 0) == {}


def test_a_compressor_of_a_user_stands_beside_ours() -> None:
    kept = compress(TEXT, "text/html", [*default_compressors(), Half()], 0)
    assert set(kept) == {"br", "zstd", "gzip", "half"}
    assert kept["half"] == TEXT[::2]


def explode(self: object, body: bytes) -> bytes:
    raise RuntimeError("no memory")


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"compress": explode}, "RuntimeError: no memory"),
        ({"compress": lambda self, body: None}, "returned NoneType"),
        ({"compress": lambda self, body: "text"}, "returned str"),
        ({"compress": lambda self, body: b""}, "returned no bytes"),
        ({"compress": None}, "TypeError"),
        ({"encoding": "identity", "suffix": "identity"}, "no compression"),
        ({"encoding": "*", "suffix": "*"}, "encoding is '*'"),
        ({"encoding": "two words", "suffix": "two words"}, "encoding is 'two words'"),
        ({"encoding": "../x", "suffix": "../x"}, "encoding is '../x'"),
        ({"encoding": "half\r\n"}, "encoding is"),
        ({"encoding": "HALF", "suffix": "HALF"}, "lower case"),
        ({"encoding": None}, "encoding is None"),
        ({"encoding": ""}, "encoding is ''"),
        ({"suffix": "../../etc"}, "suffix is '../../etc'"),
        ({"suffix": "other"}, "suffix is 'other'"),
        ({"suffix": None}, "suffix is None"),
        ({"encoding": "gzip"}, "the one of 'gzip' is 'gz'"),
        ({"encoding": "gz", "suffix": "gz"}, "another kind of file"),
        ({"encoding": "html", "suffix": "html"}, "another kind of file"),
        ({"version": ""}, "no version"),
        ({"version": 3}, "no version"),
    ],
)
def test_a_compressor_that_fails_is_logged_and_skipped(
    facts: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    kept = compress(TEXT, "text/html", [altered(**facts), Gzip()], 0)
    assert set(kept) == {"gzip"}
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "Altered" in record.getMessage()
    assert reason in record.getMessage()


def test_an_object_that_is_no_compressor_is_logged_and_skipped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stranger: Any = object()
    assert compress(TEXT, "text/html", [stranger, Half()], 0) == {"half": TEXT[::2]}
    assert "object is skipped" in caplog.text
    assert signature([stranger, Half()]) == "half-1"


def test_the_first_of_two_compressors_of_one_encoding_wins(
    caplog: pytest.LogCaptureFixture,
) -> None:
    second = altered(compress=lambda self, body: b"second")
    assert compress(TEXT, "text/html", [Half(), second], 0) == {"half": TEXT[::2]}
    assert "another compressor made 'half' before it" in caplog.text


def test_a_compressor_that_works_is_not_talked_about(caplog: pytest.LogCaptureFixture) -> None:
    compress(TEXT, "text/html", [*default_compressors(), Half()], 0)
    assert caplog.records == []


def test_the_signature_changes_with_compressors_and_versions() -> None:
    signatures = {
        signature([]),
        signature([Gzip()]),
        signature([Gzip(), Half()]),
        signature([Gzip(), altered(version="half-2")]),
    }
    assert len(signatures) == 4
    assert signature(default_compressors()) == signature(default_compressors())
    assert signature([Gzip(), Half()]) == "gzip-6,half-1"


def test_gzip_alone_is_left_where_nothing_else_is_installed() -> None:
    code = (
        "import sys\n"
        "for name in ('brotli', 'backports', 'backports.zstd', 'compression.zstd'):\n"
        "    sys.modules[name] = None\n"
        "from flask_prerender.compress import default_compressors\n"
        "print([each.encoding for each in default_compressors()])\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "['gzip']"


def test_importing_the_module_imports_no_optional_library() -> None:
    code = (
        "import sys, flask_prerender.compress\nprint({'brotli', 'backports.zstd'} & {*sys.modules})"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert importlib.util.find_spec("brotli")
    assert out.stdout.strip() == "set()"

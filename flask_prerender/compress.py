"""Compressed variants of a page that are worth keeping."""

from __future__ import annotations

import logging
import re
import sys
import zlib
from collections.abc import Iterable
from collections.abc import Sequence
from importlib import import_module
from typing import Any
from typing import NamedTuple
from typing import Protocol

from .page import IDENTITY
from .page import SUFFIXES
from .paths import LEAF_SUFFIXES

log = logging.getLogger("flask_prerender")


class Compressor(Protocol):
    """One way to make a body smaller. One object is used by many threads at once."""

    #: The HTTP content coding in lower case: ``"gzip"``, ``"br"``.
    encoding: str
    #: What a compressed file's name ends in, without the dot. For a coding that
    #: :data:`~flask_prerender.page.SUFFIXES` does not know, the coding itself.
    suffix: str
    #: Short, and another one whenever the bytes would be others: ``"gzip-6"``.
    version: str

    def compress(self, body: bytes) -> bytes:
        """Return `body` compressed."""
        ...


class Gzip:
    """Gzip: in the standard library, and taken by every client. 9 is hardly smaller than 6."""

    encoding = "gzip"
    suffix = "gz"

    #: No name, no time, system unknown: zlib names the system it was compiled for.
    _HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"

    def __init__(self, level: int = 6) -> None:
        self._level, self.version = level, f"gzip-{level}"

    def compress(self, body: bytes) -> bytes:
        return self._HEAD + zlib.compress(body, self._level, wbits=31)[len(self._HEAD) :]


class Brotli:
    """Brotli: smaller than gzip from level 5 on, and at 11 much smaller and forty times slower."""

    encoding = "br"
    suffix = "br"

    def __init__(self, brotli: Any, level: int = 5) -> None:
        self._brotli, self._level, self.version = brotli, level, f"br-{level}"

    def compress(self, body: bytes) -> bytes:
        # A window that the body fills: the usual one of 4 MB costs 15 % at level 5, and at 9,
        # where all of it is made ready, twenty times the work.
        window = min(22, max(16, (len(body) + 16).bit_length()))
        packed: bytes = self._brotli.compress(body, quality=self._level, lgwin=window)
        return packed


class Zstandard:
    """Zstandard: about as small as gzip at a quarter of its cost."""

    encoding = "zstd"
    suffix = "zst"

    def __init__(self, zstd: Any, level: int = 3) -> None:
        self._zstd, self._level, self.version = zstd, level, f"zstd-{level}"

    def compress(self, body: bytes) -> bytes:
        # The module's function makes a new compressor for each call: a shared one crashes
        # the process when two threads use it.
        packed: bytes = self._zstd.compress(body, level=self._level)
        return packed


#: What pages are packed with where nobody says otherwise, in the order of our preference.
USUAL_LEVELS = {"br": 5, "zstd": 3, "gzip": 6}


def default_compressors() -> tuple[Compressor, ...]:
    """Return a compressor for each of Brotli, Zstandard and gzip whose library is installed."""
    made = [make_compressor(codec, level) for codec, level in USUAL_LEVELS.items()]
    return tuple(one for one in made if one is not None)


def make_compressor(codec: str, level: int) -> Compressor | None:
    """Return a compressor of ours, or ``None`` where its library is not installed."""
    if codec == "gzip":
        return Gzip(level)
    if codec == "br":
        brotli = _module("brotli")
        return Brotli(brotli, level) if brotli else None
    zstd = _module(_zstd_name())
    return Zstandard(zstd, level) if zstd else None


def _zstd_name() -> str:
    return "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        return None


_COMPRESSIBLE = re.compile(
    r"text/.+"
    r"|.+\+(?:json|xml|yaml|text)"
    r"|application/(?:x-)?(?:json|ndjson|json-seq|xml|xml-dtd|javascript|ecmascript|yaml|toml|rtf"
    r"|graphql|sql|wasm|tar|postscript|vnd\.ms-fontobject)"
    r"|image/(?:bmp|x-icon|vnd\.microsoft\.icon)"
    r"|font/(?:ttf|otf|collection)"
)


def is_compressible(mimetype: str) -> bool:
    """Return whether bodies of this type are text or the like, and not packed already."""
    return _COMPRESSIBLE.fullmatch(mimetype) is not None


def compress(
    body: bytes, mimetype: str, compressors: Iterable[Compressor], min_bytes: int
) -> dict[str, bytes]:
    """Return the compressed bytes of `body` by encoding, where they save at least 5 %.

    A compressor that fails is logged and left out: a page is whole without its variants.

    :param mimetype: lower case, without parameters.
    """
    if not body or len(body) < min_bytes or not is_compressible(mimetype):
        return {}
    kept: dict[str, bytes] = {}
    for compressor in compressors:
        packed = _pack(compressor, body, kept)
        if packed is not None and len(packed) * 100 <= len(body) * 95:
            kept[compressor.encoding] = packed
    return kept


def decompress(encoding: str, packed: bytes) -> bytes:
    """Return the body that one of our own compressors packed.

    :raises ValueError: it cannot be unpacked here.
    """
    if encoding == "gzip":
        return zlib.decompress(packed, wbits=31)
    module = {"br": "brotli", "zstd": _zstd_name()}.get(encoding)
    library = _module(module) if module else None
    if library is None:
        raise ValueError(f"{encoding!r} cannot be unpacked")
    body: bytes = library.decompress(packed)
    return body


class Packer(NamedTuple):
    """What packs the pages of builds, or those that are made for visitors."""

    compressors: tuple[Compressor, ...]
    #: What a page says it was packed by.
    signature: str
    #: Whoever packed a page may have been one of these, for its variants to stay.
    accepted: frozenset[str]


def packers(usual: Sequence[Compressor], of_builds: Sequence[Compressor]) -> tuple[Packer, Packer]:
    """Return what packs pages for visitors, and what packs those of builds.

    What a build packed small stays while the body does, whoever makes the page again.
    """
    fast, small = signature(usual), signature(of_builds)
    return (
        Packer(tuple(usual), fast, frozenset({fast, small})),
        Packer(tuple(of_builds), small, frozenset({small})),
    )


def usable(compressors: Iterable[Compressor]) -> tuple[Compressor, ...]:
    """Return the compressors that can be used; the others are logged once and left out."""
    kept = []
    for compressor in compressors:
        if reason := fault(compressor):
            log.warning("The compressor %s is skipped: %s.", type(compressor).__name__, reason)
        else:
            kept.append(compressor)
    return tuple(kept)


def signature(compressors: Iterable[Compressor]) -> str:
    """Return the versions of the compressors, so that a page knows what it was made with."""
    return ",".join(each.version for each in compressors if not fault(each))


def fault(compressor: Compressor) -> str:
    """Return why a compressor cannot be used, or ``""``."""
    encoding = getattr(compressor, "encoding", None)
    suffix = getattr(compressor, "suffix", None)
    if not isinstance(encoding, str) or not re.fullmatch(r"[0-9a-z]+", encoding):
        return f"its encoding is {encoding!r}, and lower case letters and digits are wanted"
    if encoding == IDENTITY:
        return "its encoding is 'identity', which is no compression"
    wanted = SUFFIXES.get(encoding, encoding)
    if suffix != wanted:
        return f"its suffix is {suffix!r}, and the one of {encoding!r} is {wanted!r}"
    if encoding not in SUFFIXES and suffix in {*SUFFIXES.values(), *LEAF_SUFFIXES}:
        return f"its suffix {suffix!r} is one of another kind of file"
    if not isinstance(getattr(compressor, "version", None), str) or not compressor.version:
        return "it has no version"
    return ""


def _pack(compressor: Compressor, body: bytes, kept: dict[str, bytes]) -> bytes | None:
    reason = fault(compressor)
    if not reason and compressor.encoding in kept:
        reason = f"another compressor made {compressor.encoding!r} before it"
    if not reason:
        try:
            packed = compressor.compress(body)
        except Exception as error:
            reason = f"it raised {type(error).__name__}: {error}"
        else:
            if isinstance(packed, bytes) and packed:
                return packed
            reason = f"it returned {'no bytes' if packed == b'' else type(packed).__name__}"
    log.warning("The compressor %s is skipped: %s.", type(compressor).__name__, reason)
    return None

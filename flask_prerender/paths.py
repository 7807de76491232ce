"""Where the public tree has a page: a file name that is safe on every operating system.

Pure rules, the same everywhere: nothing here looks at a disk.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from urllib.parse import unquote

from .page import split_key
from .page import Style
from .page import SUFFIXES

# Files. The mapping is the same on every operating system and gives names that are safe on all:
# lower case letters, digits and ``._-`` stand for themselves, everything else is percent-encoded,
# so ``/About`` and ``/about`` never meet on a disk that folds case. ``~`` is never a character of
# a path, only ever our own mark: for a query, a host, or a name too long.

_EXTENSIONS = {
    "text/html": ("html", "htm"),
    "application/xhtml+xml": ("xhtml",),
    "application/json": ("json",),
    "application/ld+json": ("jsonld",),
    "application/feed+json": ("json",),
    "application/manifest+json": ("webmanifest", "json"),
    "application/xml": ("xml",),
    "text/xml": ("xml",),
    "application/rss+xml": ("rss", "xml"),
    "application/atom+xml": ("atom", "xml"),
    "text/plain": ("txt",),
    "text/markdown": ("md",),
    "text/csv": ("csv",),
    "text/css": ("css",),
    "text/javascript": ("js", "mjs"),
    "application/javascript": ("js",),
    "text/calendar": ("ics",),
    "image/svg+xml": ("svg",),
    "image/png": ("png",),
    "image/jpeg": ("jpg", "jpeg"),
    "application/pdf": ("pdf",),
}
#: What the name of a page's file may end in, before the suffix of a variant.
LEAF_SUFFIXES = frozenset({"bin"}.union(*_EXTENSIONS.values()))
#: Suffixes of our own variants: a page called ``/a.gz`` must not look like the variant of ``/a``.
_VARIANT_SUFFIXES = frozenset(suffix for suffix in SUFFIXES.values() if suffix)
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\.|\Z)")
_UNSAFE = re.compile(rb"[^a-z0-9._-]")
_PLAIN = re.compile(r"[a-z0-9_-]{1,100}")
_SEGMENT_BYTES = 200
_FILE_BYTES = 1000


@lru_cache(256)  # a page is asked about when it is judged, and again when it is made
def file_for(key: str, mimetype: str, style: Style) -> str | None:
    """Return where the public tree has a page, relative, or ``None`` when the name is too long.

    ``dir_index`` writes ``/about`` to ``about/index.html``, ``file`` writes it to ``about.html``.
    A last segment that already has the extension of its type keeps its name: ``/feed.xml`` is
    ``feed.xml``. Two keys share a file only if they differ in a trailing slash alone, or, in the
    style ``file``, in the extension (``/a`` and ``/a.html``); the store refuses such a collision.
    """
    host, path, query = split_key(key)
    segments = [unquote(segment) for segment in path.strip("/").split("/")] if path != "/" else []
    extensions = _extensions(mimetype)
    mark = f"~~{_encode(query)}" if query else ""
    parts = [_shorten(f"~{_encode(host)}", "")] if host else []
    stem, _, suffix = segments[-1].rpartition(".") if segments else ("", "", "")
    if stem.strip(".") and suffix in extensions and not path.endswith("/"):
        segments.pop()
        leaf = _leaf(stem)
    elif style == "file" and segments:
        last = segments.pop()
        leaf = _directory(last) if segments or last != "index" else _leaf(last)
        suffix = extensions[0]
    else:
        leaf, suffix = "index", extensions[0]
    parts += [_directory(segment) for segment in segments]
    parts.append(_shorten(leaf + mark, f".{suffix}"))
    file = "/".join(parts)
    return file if len(file) <= _FILE_BYTES else None


def _extensions(mimetype: str) -> tuple[str, ...]:
    """Return the extensions of a type, the usual one first."""
    if mimetype in _EXTENSIONS:
        return _EXTENSIONS[mimetype]
    # RFC 6838, section 4.2.8: a type is written in the syntax that its suffix names.
    syntax = mimetype.rpartition("+")[2]
    return (syntax,) if syntax in ("json", "xml") else ("bin",)


def _encode(text: str) -> str:
    return _UNSAFE.sub(lambda found: b"%%%02x" % found[0][0], text.encode()).decode("ascii")


def _segment(text: str) -> str:
    """Encode one segment so that no operating system sees more in it than a name."""
    name = _encode(text)
    if _RESERVED.match(name):
        name = f"%{ord(name[0]):02x}{name[1:]}"
    if name.startswith("."):
        name = f"%2e{name[1:]}"
    if name.endswith("."):
        name = f"{name[:-1]}%2e"
    return name


def _directory(text: str) -> str:
    """Encode a segment that becomes a directory: it never looks like one of our files, so
    ``/feed.xml`` and ``/feed.xml/old`` both have a place."""
    if _PLAIN.fullmatch(text) and not _RESERVED.match(text):
        return text  # as most are
    name = _segment(text)
    stem, dot, suffix = name.rpartition(".")
    # The last two: a variant of a user's own coding may be called x.html.lzma.
    if dot and (suffix in _VARIANT_SUFFIXES or LEAF_SUFFIXES.intersection(name.split(".")[-2:])):
        name = f"{stem}%2e{suffix}"
    return _shorten(name, "")


def _leaf(stem: str) -> str:
    """Encode the stem of a file that keeps its name; ``index`` belongs to the directory."""
    name = _segment(stem)
    return f"%69{name[1:]}" if name == "index" else name


def _shorten(name: str, suffix: str) -> str:
    if len(name) + len(suffix) <= _SEGMENT_BYTES:
        return name + suffix
    return f"{name[:100]}~{hashlib.sha256(name.encode()).hexdigest()[:32]}{suffix}"

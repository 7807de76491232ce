"""manifest.json: what was prerendered, for people, for diffs and for other programs."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Generator
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from datetime import UTC
from functools import lru_cache
from pathlib import Path
from typing import Any
from typing import TextIO
from urllib.parse import parse_qsl
from urllib.parse import unquote_to_bytes

from .disk import part_file
from .errors import StoreError
from .page import IDENTITY
from .page import make_key
from .page import Page
from .page import split_key

VERSION = 1

_MOMENT = re.compile(rb'"generated_at": "[^"]*"')
_CHUNK = 1024 * 1024

#: Made once: json.dumps would make one for each page.
_ENCODER = json.JSONEncoder(ensure_ascii=False)

log = logging.getLogger("flask_prerender")


@dataclass(frozen=True, slots=True)
class Entry:
    """One page, as the manifest lists it. Sizes are bytes, moments are in UTC."""

    route: str
    rule: str
    endpoint: str
    #: Below the public tree, with forward slashes.
    file: str
    status: int
    size: int
    sha256: str
    generated_at: datetime
    changed_at: datetime
    #: Sizes by encoding, without the identity.
    variants: Mapping[str, int]
    tags: tuple[str, ...]
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest that was read: its facts, and its entries by route."""

    generated_at: datetime
    style: str
    base_url: str
    pages: Mapping[str, Entry]

    def lookup(self, url: str) -> Entry | None:
        """Return the page of a URL path, or ``None``; a query may be left over."""
        for key in _keys(url):
            if key is not None and key in self.pages:
                return self.pages[key]
        return None


def write(
    path: Path, pages: Iterable[Page], *, generated_at: float, style: str, base_url: str
) -> int:
    """Write the manifest in one atomic step, one page per line, and return how many there are. One
    that says the same already stays as it is, with the moment when it was written.

    :raises StoreError: the file cannot be written. What was there before is still there.
    """
    passing = write_passing(path, pages, generated_at=generated_at, style=style, base_url=base_url)
    return len([None for _ in passing])


def write_passing(
    path: Path, pages: Iterable[Page], *, generated_at: float, style: str, base_url: str
) -> Generator[Page, None, None]:
    """Yield the pages, and write the manifest of them as they pass: reading each page costs more
    than writing of it. The manifest is there when the last one has passed.

    :raises StoreError: as :func:`write` does.
    """
    facts = {
        "version": VERSION,
        "generated_at": _iso(generated_at),
        "style": style,
        "base_url": base_url,
    }
    between = "\n"
    with _replacing(path) as file:
        file.write(_json(facts)[:-1] + ', "pages": [')
        for page in pages:
            file.write(between + _json(_facts(page)))
            between = ",\n"
            yield page
        file.write("\n]}\n")


def read(path: Path) -> Manifest:
    """Return the manifest at `path`, without the entries that are malformed: those are logged.

    :raises StoreError: there is none, or it is not a manifest.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StoreError(f"There is no manifest {path}. Make one: run flask prerender.") from error
    except OSError as error:
        raise StoreError(f"The manifest {path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise _broken(path, str(error)) from error
    if not isinstance(facts, dict) or not isinstance(facts.get("pages"), list):
        raise _broken(path, "it lists no pages")
    if facts.get("version") != VERSION:
        raise _broken(path, f"its version is {facts.get('version')!r}, and {VERSION} is wanted")
    try:
        generated_at = datetime.fromisoformat(facts["generated_at"])
        style, base_url = _typed(facts, "style", str), _typed(facts, "base_url", str)
    except (KeyError, TypeError, ValueError) as error:
        raise _broken(path, _reason(error)) from error
    entries = {entry.route: entry for entry in _entries(path, facts["pages"])}
    return Manifest(generated_at, style, base_url, entries)


def lookup(path: Path, url: str) -> Entry | None:
    """Return the entry of a URL path, or ``None`` where there is none or no manifest to read.

    :param url: such as ``/about``, with or without a query.
    """
    try:
        return read(path).lookup(url)
    except StoreError as error:
        log.warning("%s", error)
        return None


def _facts(page: Page) -> dict[str, Any]:
    sizes = {each.encoding: each.size for each in page.variants if each.encoding != IDENTITY}
    return {
        "route": page.key,
        "rule": page.rule,
        "endpoint": page.endpoint,
        "file": page.file,
        "status": page.status,
        "size": page.identity.size,
        "sha256": page.identity.digest,
        "generated_at": _iso(page.generated_at),
        "changed_at": _iso(page.changed_at),
        "variants": sizes,
        "tags": list(page.tags),
        "options": {"revalidate": page.revalidate, "expire": page.expire, **page.options},
    }


def _entries(path: Path, pages: list[Any]) -> Iterator[Entry]:
    for number, facts in enumerate(pages, 1):
        try:
            yield _entry(facts)
        except (KeyError, TypeError, ValueError) as error:
            log.warning("Entry %d of %s is skipped: %s.", number, path, _reason(error))


def _entry(facts: Any) -> Entry:
    if not isinstance(facts, dict):
        raise TypeError("it is no object")
    file = _typed(facts, "file", str)
    if not file or file.startswith("/") or "\\" in file or ".." in file.split("/"):
        raise ValueError(f"its file {file!r} is outside the tree")
    variants, tags = _typed(facts, "variants", dict), _typed(facts, "tags", list)
    if any(type(size) is not int for size in variants.values()):
        raise TypeError("a size in its variants is no number")
    return Entry(
        route=_typed(facts, "route", str),
        rule=_typed(facts, "rule", str),
        endpoint=_typed(facts, "endpoint", str),
        file=file,
        status=_typed(facts, "status", int),
        size=_typed(facts, "size", int),
        sha256=_typed(facts, "sha256", str),
        generated_at=datetime.fromisoformat(facts["generated_at"]),
        changed_at=datetime.fromisoformat(facts["changed_at"]),
        variants=variants,
        tags=tuple(str(tag) for tag in tags),
        options=_typed(facts, "options", dict),
    )


def _typed(facts: dict[str, Any], name: str, kind: type) -> Any:
    value = facts[name]
    if type(value) is not kind:
        raise TypeError(f"its {name} is {value!r}")
    return value


def _keys(url: str) -> Iterator[str | None]:
    host, path, query = split_key(url.partition("#")[0])
    raw_path = unquote_to_bytes(path).decode("latin-1")
    if query:
        yield make_key(raw_path, parse_qsl(query, keep_blank_values=True), host)
    yield make_key(raw_path, (), host)


def _reason(error: Exception) -> str:
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)


def _broken(path: Path, reason: str) -> StoreError:
    return StoreError(
        f"{path} is not a manifest: {reason}. Remove it, and run flask prerender to make a new one."
    )


@lru_cache(16)  # most pages were changed at the moment when they were made
def _iso(moment: float) -> str:
    text = datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _json(value: object) -> str:
    return _ENCODER.encode(value)


def _says_the_same(part: Path, path: Path) -> bool:
    """Whether a new manifest says nothing but that it was written later."""
    try:
        with part.open("rb") as new, path.open("rb") as old:
            if _MOMENT.sub(b"", new.readline(), 1) != _MOMENT.sub(b"", old.readline(), 1):
                return False
            while chunk := new.read(_CHUNK):
                if chunk != old.read(_CHUNK):
                    return False
            return not old.read(1)
    except FileNotFoundError:
        return False


@contextmanager
def _replacing(path: Path) -> Iterator[TextIO]:
    """Open a file that takes the place of `path` when all is written, or leaves nothing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part_file(path.parent) as part:
            with part.open("x", encoding="utf-8", newline="\n") as file:
                yield file
            if not _says_the_same(part, path):
                os.replace(part, path)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}.") from error

"""sitemap.xml, and its index where one file is not enough."""

from __future__ import annotations

import filecmp
import logging
import os
import re
from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from datetime import UTC
from functools import lru_cache
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

from .disk import part_name
from .errors import StoreError
from .page import Page
from .page import split_key
from .variants import variants_of

log = logging.getLogger("flask_prerender")

#: Says that a file is ours, to be replaced and removed; anybody else's is left alone.
MARKER = "<!-- flask-prerender -->"

_HTML = frozenset({"text/html", "application/xhtml+xml"})
#: What nearly every page has.
_USUAL_TYPE = ("Content-Type", "text/html; charset=utf-8")
_FREQUENCIES = frozenset({"always", "hourly", "daily", "weekly", "monthly", "yearly", "never"})
_SCHEMA = "http://www.sitemaps.org/schemas/sitemap/0.9"
_HEAD = f'<?xml version="1.0" encoding="UTF-8"?>\n{MARKER}\n<{{0}} xmlns="{_SCHEMA}">\n'
_FOOT = "</{0}>\n"
#: So many lines are encoded at a time.
_TOGETHER = 500


def write(
    directory: Path,
    pages: Iterable[Page],
    *,
    base_url: str,
    limit: int = 50_000,
    max_bytes: int = 50_000_000,
) -> list[str]:
    """Write ``sitemap.xml``, or parts and their index, and return the names of the files.

    Where the site has a ``sitemap.xml`` that is not ours, nothing is written, and that is logged.

    :param base_url: without a slash at its end; it may have the path the app is mounted at.
    :raises StoreError: a file cannot be written. The sitemap before it still stands.
    """
    entries = _entries(pages, base_url)
    temporaries: list[Path] = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for lines in _parts(entries, limit, max_bytes):
            _write(directory, "urlset", lines, temporaries)
        return _publish(directory, base_url, temporaries)
    except OSError as error:
        reason = error.strerror or error
        raise StoreError(f"{directory / 'sitemap.xml'} cannot be written: {reason}.") from error
    finally:
        for temporary in temporaries:
            with suppress(OSError):
                temporary.unlink()


def is_listed(page: Page) -> bool:
    """Return whether a search engine should know of a page."""
    # Of the variants of a URL, the first one is listed.
    variant = next(variants_of(page.options.get("vary", ())))
    allowed = page.options.get("sitemap") is not False and variant == page.key.partition("#")[2]
    is_html = _USUAL_TYPE in page.headers or page.mimetype in _HTML
    return allowed and page.status == 200 and is_html


def _entries(pages: Iterable[Page], base_url: str) -> Iterator[str]:
    """Yield an entry for each page that is listed."""
    base = _xml(base_url)
    for page in pages:
        key, options = page.key, page.options
        if (
            "?" in key or "#" in key or "&" in key or "'" in key or key[:2] == "//"
            or options.get("vary") or options.get("sitemap") is not None
        ):  # fmt: skip
            if is_listed(page):
                yield _entry(page, base_url)
        # A sitemap may have a million of these, so nothing is done for them that can be left out.
        elif page.status == 200 and (_USUAL_TYPE in page.headers or page.mimetype in _HTML):
            changed = page.changed_at if page.last_modified is None else page.last_modified
            moment = _iso(int(changed))
            yield f"<url><loc>{base}{key}</loc><lastmod>{moment}</lastmod></url>\n"


@lru_cache(1024)
def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _parts(entries: Iterator[str], limit: int, max_bytes: int) -> Iterator[Iterator[str]]:
    """Split the entries into files, each to be used up before the next is asked for."""
    room = max_bytes - len(_HEAD.format("urlset")) - len(_FOOT.format("urlset"))
    left_over = [next(entries, "")]

    def part() -> Iterator[str]:
        first = left_over.pop()
        yield first
        size, left = len(first.encode()), limit - 1
        for entry in entries:
            size += len(entry) if entry.isascii() else len(entry.encode())
            if not left or size > room:
                left_over.append(entry)
                return
            left -= 1
            yield entry

    while left_over:
        yield part()


def _publish(directory: Path, base_url: str, temporaries: list[Path]) -> list[str]:
    count = len(temporaries)
    names = ["sitemap.xml"]
    if count > 1:
        parts = [f"sitemap-{number}.xml" for number in range(1, count + 1)]
        index = (f"<sitemap><loc>{_xml(f'{base_url}/{name}')}</loc></sitemap>\n" for name in parts)
        _write(directory, "sitemapindex", index, temporaries)
        names = [*parts, *names]
    for name in names:
        if _is_foreign(directory / name):
            log.warning("No sitemap is written: %s is not ours.", directory / name)
            return []
    for temporary, name in zip(temporaries, names, strict=True):
        if not _is_same(temporary, directory / name):
            os.replace(temporary, directory / name)
    _remove_old(directory, count if count > 1 else 0)
    return names


def _is_same(temporary: Path, path: Path) -> bool:
    """Whether a build changed nothing here: then the file stays, and so do its times."""
    try:
        return filecmp.cmp(temporary, path, shallow=False)
    except FileNotFoundError:
        return False
    finally:
        filecmp.clear_cache()


def _remove_old(directory: Path, count: int) -> None:
    for path in directory.glob("sitemap-*.xml"):
        number = re.fullmatch(r"sitemap-([1-9][0-9]{0,8})\.xml", path.name)
        if number and int(number[1]) > count and not _is_foreign(path):
            path.unlink(missing_ok=True)


def _is_foreign(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return MARKER.encode() not in file.read(200)
    except FileNotFoundError:
        return False


def _write(directory: Path, root: str, lines: Iterable[str], temporaries: list[Path]) -> None:
    temporary = part_name(directory)
    temporaries.append(temporary)
    rest = iter(lines)
    with temporary.open("xb") as file:
        file.write(_HEAD.format(root).encode())
        while some := "".join(islice(rest, _TOGETHER)):
            file.write(some.encode())
        file.write(_FOOT.format(root).encode())


def _entry(page: Page, base_url: str) -> str:
    changed = page.changed_at if page.last_modified is None else page.last_modified
    fields = f"<loc>{_xml(_location(page.key, base_url))}</loc>"
    fields += f"<lastmod>{_iso(int(changed))}</lastmod>"
    return f"<url>{fields}{_hints(page)}</url>\n"


def _hints(page: Page) -> str:
    wishes = page.options.get("sitemap")
    if not isinstance(wishes, dict):
        return ""
    hints = ""
    frequency, priority = wishes.get("changefreq"), wishes.get("priority")
    if isinstance(frequency, str) and frequency in _FREQUENCIES:
        hints += f"<changefreq>{frequency}</changefreq>"
    elif frequency is not None:
        log.warning("%s: the changefreq %r is left out of the sitemap.", page.key, frequency)
    if isinstance(priority, int | float) and 0 <= priority <= 1:
        hints += f"<priority>{float(priority)}</priority>"
    elif priority is not None:
        log.warning("%s: the priority %r is left out of the sitemap.", page.key, priority)
    return hints


def _location(key: str, base_url: str) -> str:
    host, path, query = split_key(key.partition("#")[0])
    if host:
        base = urlsplit(base_url)
        base_url = f"{base.scheme}://{host}{base.path}"
    return f"{base_url}{path}?{query}" if query else base_url + path


def _xml(text: str) -> str:
    return escape(text, {"'": "&apos;", '"': "&quot;"})

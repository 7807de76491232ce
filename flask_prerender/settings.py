"""One table of the ``PRERENDER_`` settings: name, type, default, help.

A setting is read once, in ``init_app``. What is misspelt or cannot be used is an error there, never
something that is quietly without effect.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from dataclasses import fields
from typing import Any

from .errors import ConfigError
from .errors import nearest

PREFIX = "PRERENDER_"

#: Parameters that say where a visitor came from and never what the page shows.
TRACKING = (
    "_ga", "dclid", "fbclid", "gad_source", "gbraid", "gclid", "gclsrc", "igshid", "li_fat_id",
    "mc_cid", "mc_eid", "msclkid", "ref", "srsltid", "ttclid", "twclid", "wbraid", "yclid",
)  # fmt: skip

Check = Callable[[Any], Any]


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("True or False is wanted")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("a text is wanted")
    return value


def _path(value: Any) -> str:
    return _text(os.fspath(value) if isinstance(value, os.PathLike) else value)


def _any_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a text is wanted")
    return value


def choice(*choices: str) -> Check:
    """Return the check that a value is one of these."""

    def check(value: Any) -> str:
        if value not in choices:
            hint = nearest(value, choices) if isinstance(value, str) else ""
            raise ValueError(f"one of {', '.join(map(repr, choices))} is wanted.{hint}")
        return str(value)

    return check


def _number(least: float, *, whole: bool = False) -> Check:
    def check(value: Any) -> float | int:
        kinds = int if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value < math.inf:
            raise ValueError(f"a {'whole ' if whole else ''}number of at least {least:g} is wanted")
        return value if whole else float(value)

    return check


def seconds(value: Any) -> float | None:
    """Return a span, or ``None`` for no end."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError("seconds are wanted, a number of at least 0, or None")
    return float(value)


def _optional(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def names(value: Any) -> tuple[str, ...]:
    """Return a list of texts as a tuple."""
    found = tuple(value) if isinstance(value, Iterable) else (value,)
    if isinstance(value, str) or not all(isinstance(name, str) and name for name in found):
        raise ValueError("a list of texts is wanted")
    return found


def _rules(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(k, str) for k in value):
        raise ValueError("a dict of URL pattern to options (or True, or False) is wanted")
    for pattern in value:
        if not pattern.startswith("/"):
            raise ValueError(
                f"the pattern {pattern!r} fits no URL, because paths begin with a slash"
            )
    return dict(value)


def _url(value: Any) -> str:
    if not isinstance(value, str) or not re.match(r"https?://[^/?#@\s]+(/[^?#\s]*)?\Z", value):
        raise ValueError("a URL such as 'https://example.com' is wanted")
    return value.rstrip("/")


def _prewarm(value: Any) -> str | int:
    if value in ("none", "all"):
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ValueError("'none', 'all', or a number of pages is wanted")


def _setting(default: Any, check: Check, text: str) -> Any:
    if isinstance(default, Mapping):
        return field(default_factory=lambda: dict(default), metadata={"check": check, "help": text})
    return field(default=default, metadata={"check": check, "help": text})


@dataclass(frozen=True)
class Settings:
    """The settings of one app. Each is ``PRERENDER_`` and its name in capitals."""

    enabled: bool | None = _setting(
        None, _optional(_flag),
        "Serve stored pages, and store those of first visits. None: yes, except while the app is in "
        "debug mode, where every change of yours should show at once, or under test (TESTING).",
    )  # fmt: skip
    path: str = _setting(
        "prerendered", _path,
        "The directory of the pages. A relative path is below the app's instance folder.",
    )  # fmt: skip
    style: str = _setting(
        "dir_index", choice("dir_index", "file"),
        "File names of the public tree: 'dir_index' writes /about to about/index.html, 'file' to "
        "about.html.",
    )  # fmt: skip
    base_url: str | None = _setting(
        None, _optional(_url),
        "Scheme, host and mount path that a render sees and the sitemap names. None: made from "
        "SERVER_NAME, PREFERRED_URL_SCHEME and APPLICATION_ROOT; without a SERVER_NAME, "
        "http://localhost, and no sitemap is written.",
    )  # fmt: skip
    revalidate: float | None = _setting(
        None, seconds,
        "Seconds for which a page is fresh, where the mark says nothing. None: for ever.",
    )  # fmt: skip
    expire: float | None = _setting(
        None, seconds,
        "Seconds after which a page is not served any more, where the mark says nothing. None: never.",
    )  # fmt: skip
    fallback: str = _setting(
        "render", choice("render", "pass", "404"),
        "What the first visit of a page that is not stored does, where the mark says nothing.",
    )  # fmt: skip
    visitors: str = _setting(
        "all", choice("all", "bots"),
        "Who gets stored pages: 'all', or 'bots', crawlers by their user agent, whatever the marks say.",
    )  # fmt: skip
    rules: dict[str, Any] = _setting(
        {}, _rules,
        "URL patterns to options: {'/blog/*': {'revalidate': 60}, '/blog/admin/*': False}. The more "
        "specific pattern wins, and a mark on the view wins over both.",
    )  # fmt: skip
    bots: tuple[str, ...] = _setting(
        (), names, "More parts of user agents that belong to crawlers, beside the known ones.",
    )  # fmt: skip
    unknown_query: str = _setting(
        "pass", choice("pass", "ignore"),
        "A query parameter that the mark does not name: 'pass' lets the app answer, 'ignore' serves "
        "the page as if it were not there.",
    )  # fmt: skip
    ignored_query: tuple[str, ...] = _setting(
        TRACKING, names,
        "Parameters that never change a page and are ignored. Those that begin with utm_ always are.",
    )  # fmt: skip
    cache_control: str | None = _setting(
        None, _optional(_text),
        "A fixed Cache-Control for stored pages whose view sets none. None: computed from the "
        "life the page has left.",
    )  # fmt: skip
    headers: bool = _setting(
        True, _flag, "Send X-Prerendered and Cache-Status (RFC 9211) with stored pages.",
    )  # fmt: skip
    encoding_preference: str = _setting(
        "client", choice("client", "server"),
        "Which encoding wins among those a client accepts: its highest q ('client'), or always the "
        "first of Brotli, Zstandard, gzip ('server').",
    )  # fmt: skip
    compress: bool = _setting(
        True, _flag, "Store compressed variants beside each page.",
    )  # fmt: skip
    compress_min_bytes: int = _setting(
        1024, _number(0, whole=True), "Pages smaller than this are not compressed.",
    )  # fmt: skip
    memory_bytes: int = _setting(
        64 * 1024 * 1024, _number(0, whole=True),
        "Memory for pages ready to answer, in each process. 0: none, every hit reads the store. A page "
        "may take an eighth of it; a larger one is read from the store each time.",
    )  # fmt: skip
    prewarm: str | int = _setting(
        "none", _prewarm,
        "Pages loaded into memory after the first request of a process, beside it: 'none', 'all', "
        "or a number.",
    )  # fmt: skip
    concurrency: int = _setting(
        min(4, os.cpu_count() or 1), _number(1, whole=True), "Renders at a time in a build.",
    )  # fmt: skip
    max_renders: int = _setting(
        4, _number(1, whole=True),
        "First visits rendered at a time in a process. Over it, the app answers.",
    )  # fmt: skip
    wait: float = _setting(
        5.0, _number(0), "Seconds a first visit waits for its page; then the app answers.",
    )  # fmt: skip
    timeout: float = _setting(
        30.0, _number(0.001), "Seconds one render may take.",
    )  # fmt: skip
    max_page_bytes: int = _setting(
        5 * 1024 * 1024, _number(1, whole=True), "The largest body that is stored.",
    )  # fmt: skip
    user_agent: str = _setting(
        "flask-prerender", _text, "The User-Agent a render sends.",
    )  # fmt: skip
    remote_addr: str = _setting(
        "", _any_text,
        "The REMOTE_ADDR a render comes from. Empty: none, so that no view takes it for a trusted address.",
    )  # fmt: skip
    accept_language: str = _setting(
        "", _any_text, "The Accept-Language a render sends. Empty: none.",
    )  # fmt: skip
    durability: str = _setting(
        "normal", choice("normal", "full"),
        "'full' waits for the disk (fsync) on each write. 'normal' may lose the newest pages when the "
        "power fails, and never serves a torn one.",
    )  # fmt: skip
    sitemap: bool = _setting(
        True, _flag, "Write sitemap.xml after a build.",
    )  # fmt: skip


KEYS: dict[str, str] = {PREFIX + item.name.upper(): item.name for item in fields(Settings)}


def read_settings(config: Mapping[str, Any]) -> Settings:
    """Return the settings that `config` holds.

    :raises ConfigError: a ``PRERENDER_`` key is unknown, or its value cannot be used.
    """
    values: dict[str, Any] = {}
    checks = {item.name: item.metadata["check"] for item in fields(Settings)}
    for key, value in config.items():
        if not key.startswith(PREFIX):
            continue
        name = KEYS.get(key)
        if name is None:
            raise ConfigError(
                f"There is no setting {key}.{nearest(key.upper(), KEYS)} "
                f"The settings are: {', '.join(sorted(KEYS))}."
            )
        try:
            values[name] = checks[name](value)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{key} is {value!r}: {error}") from error
    settings = Settings(**values)
    check_spans(settings.revalidate, settings.expire, PREFIX + "EXPIRE")
    return settings


def check_spans(revalidate: object, expire: float | None, name: str) -> None:
    """
    :raises ConfigError: pages would expire before they are stale.
    """
    if isinstance(revalidate, int | float) and expire is not None and expire <= revalidate:
        raise ConfigError(
            f"{name} is {expire:g} s, which is not longer than revalidate ({revalidate:g} s): "
            "a page would be gone before it could be served stale. Make expire longer, or leave it out."
        )

"""One table of the ``PRERENDER_`` settings: name, type, default, help.

A setting is read once, in ``init_app``. What is misspelt or cannot be used is an error there, never
something that is quietly without effect.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from dataclasses import fields
from typing import Any

from . import checks
from .errors import ConfigError
from .errors import nearest

PREFIX = "PRERENDER_"

#: Parameters that say where a visitor came from and never what the page shows.
TRACKING = (
    "_ga", "dclid", "fbclid", "gad_source", "gbraid", "gclid", "gclsrc", "igshid", "li_fat_id",
    "mc_cid", "mc_eid", "msclkid", "ref", "srsltid", "ttclid", "twclid", "wbraid", "yclid",
)  # fmt: skip


#: Values of PRERENDER_REGENERATE that leave the work to somebody beside the requests.
IN_BACKGROUND = ("thread", "process")


def _setting(default: Any, check: checks.Check, text: str) -> Any:
    if isinstance(default, Mapping):
        return field(default_factory=lambda: dict(default), metadata={"check": check, "help": text})
    return field(default=default, metadata={"check": check, "help": text})


@dataclass(frozen=True)
class Settings:
    """The settings of one app. Each is ``PRERENDER_`` and its name in capitals."""

    enabled: bool | None = _setting(
        None, checks.optional(checks.flag),
        "Serve stored pages, and store those of first visits. None: yes, except while the app is in "
        "debug mode, where every change of yours should show at once, or under test (TESTING).",
    )  # fmt: skip
    path: str = _setting(
        "prerendered", checks.path,
        "The directory of the pages. A relative path is below the app's instance folder.",
    )  # fmt: skip
    style: str = _setting(
        "dir_index", checks.choice("dir_index", "file"),
        "File names of the public tree: 'dir_index' writes /about to about/index.html, 'file' to "
        "about.html.",
    )  # fmt: skip
    base_url: str | None = _setting(
        None, checks.optional(checks.url),
        "Scheme, host and mount path that a render sees and the sitemap names. None: made from "
        "SERVER_NAME, PREFERRED_URL_SCHEME and APPLICATION_ROOT; without a SERVER_NAME, "
        "http://localhost, and no sitemap is written.",
    )  # fmt: skip
    revalidate: float | None = _setting(
        None, checks.seconds,
        "Seconds for which a page is fresh, where the mark says nothing. None: for ever.",
    )  # fmt: skip
    expire: float | None = _setting(
        None, checks.seconds,
        "Seconds after which a page is not served any more, where the mark says nothing. None: never.",
    )  # fmt: skip
    fallback: str = _setting(
        "render", checks.choice("render", "pass", "404"),
        "What the first visit of a page that is not stored does, where the mark says nothing.",
    )  # fmt: skip
    visitors: str = _setting(
        "all", checks.choice("all", "bots"),
        "Who gets stored pages: 'all', or 'bots', crawlers by their user agent, whatever the marks say.",
    )  # fmt: skip
    rules: dict[str, Any] = _setting(
        {}, checks.rules,
        "URL patterns to options: {'/blog/*': {'revalidate': 60}, '/blog/admin/*': False}. The more "
        "specific pattern wins, and a mark on the view wins over both.",
    )  # fmt: skip
    bots: tuple[str, ...] = _setting(
        (), checks.names, "More parts of user agents that belong to crawlers, beside the known ones.",
    )  # fmt: skip
    unknown_query: str = _setting(
        "pass", checks.choice("pass", "ignore"),
        "A query parameter that the mark does not name: 'pass' lets the app answer, 'ignore' serves "
        "the page as if it were not there.",
    )  # fmt: skip
    ignored_query: tuple[str, ...] = _setting(
        TRACKING, checks.names,
        "Parameters that never change a page and are ignored. Those that begin with utm_ always are.",
    )  # fmt: skip
    cache_control: str | None = _setting(
        None, checks.optional(checks.text),
        "A fixed Cache-Control for stored pages whose view sets none. None: computed from the "
        "life the page has left.",
    )  # fmt: skip
    headers: bool = _setting(
        True, checks.flag, "Send X-Prerendered and Cache-Status (RFC 9211) with stored pages.",
    )  # fmt: skip
    encoding_preference: str = _setting(
        "client", checks.choice("client", "server"),
        "Which encoding wins among those a client accepts: its highest q ('client'), or always the "
        "first of Brotli, Zstandard, gzip ('server').",
    )  # fmt: skip
    compress: bool | dict[str, int] = _setting(
        True, checks.compress,
        "Compressed variants stored beside each page: codec to level, such as {'gzip': 9, 'br': 5}. "
        "True: {'gzip': 6, 'br': 5, 'zstd': 3}, as far as the libraries are installed. False: none.",
    )  # fmt: skip
    compress_build: dict[str, int] = _setting(
        {}, checks.levels,
        "What a build packs otherwise, codec to level: {'br': 11} makes its Brotli variants smaller, "
        "at forty times the cost. Pages made new in between have the levels of PRERENDER_COMPRESS.",
    )  # fmt: skip
    compress_min_bytes: int = _setting(
        1024, checks.number(0, whole=True), "Pages smaller than this are not compressed.",
    )  # fmt: skip
    memory_bytes: int = _setting(
        64 * 1024 * 1024, checks.number(0, whole=True),
        "Memory for pages ready to answer, in each process. 0: none, every hit reads the store. A page "
        "may take an eighth of it; a larger one is read from the store each time.",
    )  # fmt: skip
    prewarm: str | int = _setting(
        "none", checks.prewarm,
        "Pages loaded into memory after the first request of a process, beside it: 'none', 'all', "
        "or a number.",
    )  # fmt: skip
    concurrency: int = _setting(
        min(4, os.cpu_count() or 1), checks.number(1, whole=True),
        "Renders at a time in a build that has no processes of its own.",
    )  # fmt: skip
    max_renders: int = _setting(
        4, checks.number(1, whole=True),
        "First visits rendered at a time in a process. Over it, the app answers.",
    )  # fmt: skip
    wait: float = _setting(
        5.0, checks.number(0), "Seconds a first visit waits for its page; then the app answers.",
    )  # fmt: skip
    serve_at: str = _setting(
        "hook",
        checks.choice("hook", "wsgi"),
        "Where hits are answered: in Flask's before_request ('hook'), or, from the second one of a "
        "path in a process, before Flask ('wsgi'), where no function of the app runs.",
    )
    regenerate: str = _setting(
        "thread",
        checks.choice("thread", "process", "inline", "off"),
        "Where stale pages are made new: in a 'thread' beside the requests; in a 'process' of each "
        "worker, at lower priority, for heavy pages; 'inline', after the answer was sent, in the "
        "worker that sent it; or 'off', only by builds and by hand.",
    )
    app: str | None = _setting(
        None,
        checks.optional(checks.text),
        "How the process of PRERENDER_REGENERATE = 'process' imports the app, as FLASK_APP has it: "
        "'package.module:app' or 'package.module:create_app()'. None: FLASK_APP, else the module "
        "that the app is named after.",
    )
    regenerators: int = _setting(
        1,
        checks.number(1, whole=True),
        "Stale pages made new at a time in each worker. More help where views wait.",
    )
    jitter: float = _setting(
        0.1,
        checks.share,
        "How far the life of a page may differ from revalidate, as a share of it, so that pages "
        "built together are not stale together.",
    )
    stale_if_error: float = _setting(
        7 * 86400.0,
        checks.number(0),
        "Seconds past its expiry for which a page is still served when it cannot be made new.",
    )
    tokens: tuple[str, ...] = _setting(
        (),
        checks.tokens,
        "Bearer tokens, of 32 characters at least, for POST /_prerender/revalidate and /purge. "
        "Without one there are no such URLs.",
    )
    signed_calls: bool = _setting(
        False,
        checks.flag,
        "Take only calls that are signed with a token. False: a bearer token will do as well.",
    )
    endpoint_path: str = _setting(
        "/_prerender", checks.url_path, "Where revalidate and purge are answered over HTTP."
    )
    max_pages: int = _setting(
        10_000,
        checks.number(0, whole=True),
        "Pages of first visits that are kept for one route. Over it, the least recently used goes.",
    )
    max_bytes: int = _setting(
        1024 * 1024 * 1024,
        checks.number(0, whole=True),
        "Bytes that pages of first visits may take together.",
    )
    timeout: float = _setting(
        30.0, checks.number(0.001), "Seconds one render may take.",
    )  # fmt: skip
    max_page_bytes: int = _setting(
        5 * 1024 * 1024, checks.number(1, whole=True), "The largest body that is stored.",
    )  # fmt: skip
    user_agent: str = _setting(
        "flask-prerender", checks.text, "The User-Agent a render sends.",
    )  # fmt: skip
    remote_addr: str = _setting(
        "", checks.any_text,
        "The REMOTE_ADDR a render comes from. Empty: none, so that no view takes it for a trusted address.",
    )  # fmt: skip
    accept_language: str = _setting(
        "", checks.any_text, "The Accept-Language a render sends. Empty: none.",
    )  # fmt: skip
    durability: str = _setting(
        "normal", checks.choice("normal", "full"),
        "'full' waits for the disk (fsync) on each write. 'normal' may lose the newest pages when the "
        "power fails, and never serves a torn one.",
    )  # fmt: skip
    sitemap: bool = _setting(
        True, checks.flag, "Write sitemap.xml after a build.",
    )  # fmt: skip


KEYS: dict[str, str] = {PREFIX + item.name.upper(): item.name for item in fields(Settings)}


def read_settings(config: Mapping[str, Any]) -> Settings:
    """Return the settings that `config` holds.

    :raises ConfigError: a ``PRERENDER_`` key is unknown, or its value cannot be used.
    """
    values: dict[str, Any] = {}
    check_of = {item.name: item.metadata["check"] for item in fields(Settings)}
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
            values[name] = check_of[name](value)
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

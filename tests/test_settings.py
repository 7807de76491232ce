"""The ``PRERENDER_`` settings: what is read, and what a wrong one says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_prerender import ConfigError
from flask_prerender import Prerender
from flask_prerender.settings import KEYS
from flask_prerender.settings import read_settings
from flask_prerender.settings import Settings
from flask_prerender.settings import TRACKING

MakeApp = Callable[..., Flask]
TOKEN = "abcdefghijklmnopqrstuvwxyz012345"

#: For each key: values that can be used, and what they are read as.
GOOD: dict[str, list[tuple[Any, Any]]] = {
    "ENABLED": [(True, True), (False, False), (None, None)],
    "PATH": [("pages", "pages"), (Path("/srv/pages"), "/srv/pages")],
    "STYLE": [("file", "file"), ("dir_index", "dir_index")],
    "APP": [("site:create_app()", "site:create_app()"), (None, None)],
    "BASE_URL": [
        ("https://example.com", "https://example.com"),
        ("http://localhost:8000/app/", "http://localhost:8000/app"),
        (None, None),
    ],
    "REVALIDATE": [(60, 60.0), (0.5, 0.5), (0, 0.0), (None, None)],
    "EXPIRE": [(60, 60.0), (None, None)],
    "FALLBACK": [("pass", "pass"), ("404", "404"), ("render", "render")],
    "VISITORS": [("bots", "bots"), ("all", "all")],
    "RULES": [
        ({"/a": {"revalidate": 1}}, {"/a": {"revalidate": 1}}),
        ({"/a": False}, {"/a": False}),
    ],
    "BOTS": [(["mybot"], ("mybot",)), ((), ())],
    "UNKNOWN_QUERY": [("ignore", "ignore"), ("pass", "pass")],
    "IGNORED_QUERY": [(["ref"], ("ref",)), ([], ())],
    "CACHE_CONTROL": [("public, max-age=300", "public, max-age=300"), (None, None)],
    "HEADERS": [(False, False)],
    "ENCODING_PREFERENCE": [("server", "server"), ("client", "client")],
    "SERVE_AT": [("wsgi", "wsgi"), ("hook", "hook")],
    "COMPRESS": [
        (True, True),
        (False, False),
        ({}, {}),
        ({"gzip": 9}, {"gzip": 9}),
        ({"br": 0, "zstd": 1, "gzip": 1}, {"br": 0, "zstd": 1, "gzip": 1}),
        ({"br": 11, "zstd": 22, "gzip": 9}, {"br": 11, "zstd": 22, "gzip": 9}),
    ],
    "COMPRESS_BUILD": [({}, {}), ({"br": 11}, {"br": 11})],
    "COMPRESS_MIN_BYTES": [(0, 0), (10, 10)],
    "MEMORY_BYTES": [(0, 0), (10, 10)],
    "PREWARM": [("all", "all"), ("none", "none"), (5, 5), (0, 0)],
    "CONCURRENCY": [(1, 1), (64, 64)],
    "MAX_RENDERS": [(1, 1)],
    "WAIT": [(0, 0.0), (1.5, 1.5)],
    "REGENERATE": [(each, each) for each in ("inline", "off", "process", "thread")],
    "REGENERATORS": [(4, 4)],
    "JITTER": [(0, 0.0), (0.5, 0.5)],
    "STALE_IF_ERROR": [(0, 0.0), (3600, 3600.0)],
    "TOKENS": [(TOKEN, (TOKEN,)), ([TOKEN, TOKEN[::-1]], (TOKEN, TOKEN[::-1])), ((), ())],
    "SIGNED_CALLS": [(True, True), (False, False)],
    "ENDPOINT_PATH": [("/internal/pages", "/internal/pages")],
    "MAX_PAGES": [(0, 0), (10, 10)],
    "MAX_BYTES": [(0, 0), (10, 10)],
    "TIMEOUT": [(1, 1.0), (0.001, 0.001)],
    "MAX_PAGE_BYTES": [(1, 1)],
    "USER_AGENT": [("me/1.0", "me/1.0")],
    "REMOTE_ADDR": [("203.0.113.9", "203.0.113.9"), ("", "")],
    "ACCEPT_LANGUAGE": [("de", "de"), ("", "")],
    "DURABILITY": [("full", "full"), ("normal", "normal")],
    "SITEMAP": [(False, False)],
}

_FLAG = "True or False is wanted"
_TEXT = "a text is wanted"
#: Tables of codec and level that cannot be used.
_LEVELS: list[tuple[Any, str]] = [
    (["gzip"], "a dict of codec to level is wanted, such as {'gzip': 6, 'br': 5}"),
    (
        {"gzipp": 6},
        "there is no codec 'gzipp'; one of 'br', 'zstd', 'gzip' is wanted. Did you mean",
    ),
    ({"identity": 6}, "there is no codec 'identity'"),
    ({5: 6}, "there is no codec 5"),
    ({"gzip": 0}, "the level of 'gzip' is 0, and a whole number from 1 to 9 is wanted"),
    ({"gzip": 10}, "the level of 'gzip' is 10, and a whole number from 1 to 9"),
    ({"br": -1}, "the level of 'br' is -1, and a whole number from 0 to 11"),
    ({"gzip": 6, "br": 12}, "the level of 'br' is 12, and a whole number from 0 to 11"),
    ({"zstd": 0}, "the level of 'zstd' is 0, and a whole number from 1 to 22"),
    ({"zstd": 23}, "the level of 'zstd' is 23, and a whole number from 1 to 22"),
    ({"br": "11"}, "the level of 'br' is '11'"),
    ({"br": 5.0}, "the level of 'br' is 5.0"),
    ({"br": True}, "the level of 'br' is True"),
    ({"br": None}, "the level of 'br' is None"),
]
#: For each key: values that cannot be used, and a part of what is said.
WRONG: dict[str, list[tuple[Any, str]]] = {
    "ENABLED": [("yes", _FLAG), (1, _FLAG)],
    "PATH": [("", _TEXT), (5, _TEXT), (None, _TEXT)],
    "STYLE": [("dirindex", "Did you mean 'dir_index'?"), (None, "one of 'dir_index', 'file'")],
    "APP": [("", _TEXT), (7, _TEXT)],
    "BASE_URL": [
        ("example.com", "a URL such as 'https://example.com'"),
        ("ftp://example.com", "a URL such as"),
        ("https://example.com/?a", "a URL such as"),
        ("https://user@example.com", "a URL such as"),
        (5, "a URL such as"),
    ],
    "REVALIDATE": [
        ("60", "number"),
        (-1, "at least 0"),
        (True, "number"),
        (float("nan"), "number"),
    ],
    "EXPIRE": [([], "number"), (-1, "number")],
    "FALLBACK": [("rendr", "Did you mean 'render'?"), (404, "one of 'render', 'pass', '404'")],
    "VISITORS": [("bot", "Did you mean 'bots'?")],
    "RULES": [
        ([], "a dict of URL pattern"),
        ({5: True}, "a dict of URL pattern"),
        ({"blog/*": True}, "begin with a slash"),
        ({"*": 1}, "slash"),
    ],
    "BOTS": [("mybot", "a list of texts"), ([5], "a list of texts"), ([""], "a list of texts")],
    "UNKNOWN_QUERY": [("ignor", "Did you mean 'ignore'?")],
    "IGNORED_QUERY": [("ref", "a list of texts"), (None, "a list of texts")],
    "CACHE_CONTROL": [("", _TEXT), (300, _TEXT)],
    "HEADERS": [(0, _FLAG), (None, _FLAG)],
    "ENCODING_PREFERENCE": [("servr", "Did you mean 'server'?")],
    "SERVE_AT": [("wsgy", "Did you mean 'wsgi'?")],
    "COMPRESS": [
        ("gzip", "True, False, or a dict of codec to level is wanted"),
        (1, "True, False, or a dict of codec to level is wanted"),
        (None, "True, False, or a dict of codec to level is wanted"),
        *_LEVELS,
    ],
    "COMPRESS_BUILD": [(True, "a dict of codec to level"), (11, "a dict of codec"), *_LEVELS],
    "COMPRESS_MIN_BYTES": [(-1, "whole number of at least 0"), (1.5, "whole number")],
    "MEMORY_BYTES": [(-1, "whole number of at least 0"), ("64M", "whole number")],
    "PREWARM": [("some", "a number of pages"), (-1, "a number of pages"), (True, "'none', 'all'")],
    "CONCURRENCY": [(0, "whole number of at least 1"), ("4", "whole number")],
    "MAX_RENDERS": [(0, "whole number of at least 1")],
    "WAIT": [(-1, "number of at least 0")],
    "REGENERATE": [("threads", "Did you mean 'thread'?"), (None, "one of 'thread', 'process'")],
    "REGENERATORS": [(0, "whole number of at least 1")],
    "JITTER": [(1, "a number below 1"), (-0.1, "at least 0"), ("10%", "number")],
    "STALE_IF_ERROR": [(-1, "number of at least 0"), (None, "number")],
    "TOKENS": [
        (TOKEN[1:], "32 characters at least"),
        ([TOKEN, "short"], "32 characters at least"),
        ([TOKEN, ""], "a list of texts"),
        ([5], "a list of texts"),
        (f"{TOKEN}\n", "no spaces, line breaks"),
        (f"{TOKEN} {TOKEN}", "no spaces, line breaks"),
        (f"{TOKEN}\u00e4", "beyond ASCII"),
    ],
    "SIGNED_CALLS": [("yes", "True or False"), (None, "True or False")],
    "ENDPOINT_PATH": [
        ("internal", "a URL path such as '/_prerender'"),
        ("/", "a URL path"),
        ("/a/", "a URL path"),
        ("/<path:x>", "a URL path"),
    ],
    "MAX_PAGES": [(-1, "whole number of at least 0")],
    "MAX_BYTES": [("1G", "whole number of at least 0")],
    "TIMEOUT": [(0, "number of at least 0.001"), (None, "number")],
    "MAX_PAGE_BYTES": [(0, "whole number of at least 1")],
    "USER_AGENT": [("", _TEXT)],
    "REMOTE_ADDR": [(None, _TEXT)],
    "ACCEPT_LANGUAGE": [(["de"], _TEXT)],
    "DURABILITY": [("ful", "Did you mean 'full'?")],
    "SITEMAP": [("no", _FLAG)],
}


def test_every_key_is_tried_here() -> None:
    names = {key.removeprefix("PRERENDER_") for key in KEYS}
    assert set(GOOD) == set(WRONG) == names


@pytest.mark.parametrize("name", list(GOOD))
def test_a_setting_is_read(name: str) -> None:
    for value, read in GOOD[name]:
        found = getattr(read_settings({f"PRERENDER_{name}": value}), name.lower())
        assert (found, type(found)) == (read, type(read))


@pytest.mark.parametrize("name", list(WRONG))
def test_a_value_that_cannot_be_used_is_named_with_what_is_wanted(name: str) -> None:
    for value, message in WRONG[name]:
        with pytest.raises(ConfigError) as caught:
            read_settings({f"PRERENDER_{name}": value})
        assert str(caught.value).startswith(f"PRERENDER_{name} is {value!r}: ")
        assert message in str(caught.value)


def test_what_is_not_ours_is_not_read() -> None:
    assert read_settings({"SECRET_KEY": "x", "XPRERENDER_PATH": 5}) == Settings()


def test_the_defaults() -> None:
    settings = Settings()
    assert (settings.enabled, settings.path, settings.style) == (None, "prerendered", "dir_index")
    assert (settings.revalidate, settings.expire, settings.base_url) == (None, None, None)
    assert (settings.fallback, settings.visitors, settings.unknown_query) == (
        "render", "all", "pass",
    )  # fmt: skip
    assert settings.ignored_query == TRACKING
    assert (settings.cache_control, settings.prewarm, settings.rules) == (None, "none", {})
    assert settings.concurrency >= 1
    assert all(item.metadata["help"] for item in fields(Settings))


def test_the_rules_of_two_sites_are_not_one_dict() -> None:
    assert Settings().rules is not Settings().rules


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("PRERENDER_STYL", "PRERENDER_STYLE"),
        ("PRERENDER_REVALIDATION", "PRERENDER_REVALIDATE"),
        ("PRERENDER_OUTPUT_PATH", "PRERENDER_PATH"),
        ("PRERENDER_BASEURL", "PRERENDER_BASE_URL"),
    ],
)
def test_a_misspelt_key_fails_at_init_app_and_names_the_nearest(
    make_app: MakeApp, wrong: str, nearest: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_app({wrong: "x"})
    assert f"There is no setting {wrong}. Did you mean {nearest!r}?" in str(caught.value)
    assert all(key in str(caught.value) for key in KEYS)


def test_a_key_in_small_letters_is_misspelt() -> None:
    with pytest.raises(ConfigError, match=r"PRERENDER_style\. Did you mean 'PRERENDER_STYLE'"):
        read_settings({"PRERENDER_style": "file"})


def test_pages_may_not_expire_before_they_are_stale() -> None:
    with pytest.raises(ConfigError, match="PRERENDER_EXPIRE is 60 s, which is not longer than"):
        read_settings({"PRERENDER_REVALIDATE": 60, "PRERENDER_EXPIRE": 60})


def test_settings_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in {
        "ENABLED": "true",
        "PATH": "pages",
        "REVALIDATE": "60",
        "EXPIRE": "null",
        "BASE_URL": "https://example.com",
        "BOTS": '["mybot"]',
        "RULES": '{"/blog/*": {"revalidate": 5}, "/admin/*": false}',
        "PREWARM": "all",
        "COMPRESS": '{"gzip": 9}',
        "CONCURRENCY": "3",
        "STYLE": "file",
    }.items():
        monkeypatch.setenv(f"FLASK_PRERENDER_{key}", value)
    app = Flask("site", instance_path=str(tmp_path))
    app.config.from_prefixed_env()
    Prerender(app)
    settings = app.extensions["prerender"].settings
    assert (settings.enabled, settings.path, settings.style) == (True, "pages", "file")
    assert (settings.revalidate, settings.expire, settings.concurrency) == (60.0, None, 3)
    assert settings.base_url == "https://example.com"
    assert (settings.bots, settings.prewarm) == (("mybot",), "all")
    assert settings.compress == {"gzip": 9}
    assert settings.rules == {"/blog/*": {"revalidate": 5}, "/admin/*": False}
    app.extensions["prerender"].close()


def test_settings_changed_later_have_no_effect(make_app: MakeApp) -> None:
    app = make_app({"PRERENDER_STYLE": "file"})
    app.config["PRERENDER_STYLE"] = "dir_index"
    assert app.extensions["prerender"].settings.style == "file"

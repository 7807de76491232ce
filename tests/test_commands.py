"""``flask prerender revalidate``, ``purge``, ``refresh`` and ``why``."""

from __future__ import annotations

import json

import pytest

from flask_prerender.errors import StoreError
from living import settle
from living import site_of
from living import View


@pytest.fixture
def app(make_app, wsgi_get):
    app = make_app()
    app.view = View(app, "/page", tags=["news"], expire=600)
    View(app, "/blog/<int:n>", endpoint="post")
    wsgi_get(app, "/page")
    wsgi_get(app, "/blog/1")
    return app


def run(app, *args):
    return app.test_cli_runner().invoke(args=["prerender", *args])


def state(app, key):
    site = site_of(app)
    site.revocations.follow()
    return site.revocations.of(site.store.get(key))


@pytest.mark.parametrize(("verb", "taken"), [("revalidate", "soft"), ("purge", "hard")])
@pytest.mark.parametrize(
    ("args", "pages"),
    [
        (["/page"], {"/page"}),
        (["/page", "/blog/1"], {"/page", "/blog/1"}),
        (["--tag", "news"], {"/page"}),
        (["--tag", "news", "--endpoint", "post"], {"/page", "/blog/1"}),
        (["--endpoint", "post"], {"/blog/1"}),
        (["--prefix", "/blog"], {"/blog/1"}),
        (["--all"], {"/page", "/blog/1"}),
    ],
    ids=str,
)
def test_pages_are_taken_back(app, verb, taken, args, pages):
    result = run(app, verb, *args)
    assert result.exit_code == 0, result.output
    assert {key for key in ("/page", "/blog/1") if state(app, key)} == pages
    assert {state(app, key) for key in pages} == {taken}
    word = "purged" if verb == "purge" else "stale"
    lines = result.output.splitlines()
    assert all(line.startswith(f"{word}: ") for line in lines)
    paths = [arg for arg in args if arg.startswith("/") and args[0] != "--prefix"]
    assert lines[: len(paths)] == [f"{word}: {path}" for path in paths]
    assert len(lines) == len(paths) or "every page with" in lines[-1]
    assert app.view.renders == 1  # the server makes them new, not this process


def test_json_is_all_that_is_printed(app):
    result = run(app, "purge", "/page", "/none", "--json")
    assert result.exit_code == 1
    facts = json.loads(result.stdout)
    assert (facts["affected"], facts["unknown"], facts["hard"]) == (["/page"], ["/none"], True)


def test_what_is_unknown_or_refused_is_told_and_is_a_failure(app):
    result = run(app, "revalidate", "/page", "/none", "//evil", "--endpoint", "nobody")
    assert result.exit_code == 1
    assert "stale: /page" in result.stdout
    assert "not stored: /none" in result.stderr
    assert "refused: //evil: it is not a path of this site" in result.stderr
    assert "refused: nobody: there is no such endpoint" in result.stderr
    assert state(app, "/page") == "soft"


@pytest.mark.parametrize("verb", ["revalidate", "purge", "refresh"])
def test_something_has_to_be_named(app, verb):
    result = run(app, verb)
    assert result.exit_code == 2
    assert "Name a path, --tag, --endpoint, --prefix, or --all." in result.output


def test_a_store_that_cannot_be_written_is_one_line_and_no_traceback(app, monkeypatch):
    def fail(*args, **more):
        raise StoreError("the disk is full")

    monkeypatch.setattr(site_of(app).coordination, "revoke", fail)
    result = run(app, "purge", "--all")
    assert result.exit_code == 1
    assert "the disk is full" in result.output
    assert "Traceback" not in result.output


def test_refresh_renders_now(app, wsgi_get):
    result = run(app, "refresh", "/page", "/blog/2")
    assert result.exit_code == 0
    assert result.output.splitlines() == ["published: /page", "published: /blog/2"]
    assert wsgi_get(app, "/page").body == b"render 2"


@pytest.mark.parametrize(
    ("args", "pages"),
    [
        (["/page", "--tag", "news"], ["/page"]),
        (["--tag", "news", "--endpoint", "post"], ["/blog/1", "/page"]),
        (["--endpoint", "post"], ["/blog/1"]),
        (["--prefix", "/blog"], ["/blog/1"]),
        (["--all"], ["/blog/1", "/page"]),
    ],
    ids=str,
)
def test_refresh_takes_what_the_others_take(app, args, pages):
    result = run(app, "refresh", *args)
    assert result.exit_code == 0, result.output
    made = [line.split(" ")[1] for line in result.output.splitlines()]
    assert sorted(made) == pages
    facts = json.loads(run(app, "refresh", *args, "--json").stdout)
    assert sorted(one["path"] for one in facts) == pages


def test_refresh_of_what_no_page_has_is_a_failure(app):
    for args in (["--tag", "none"], ["--prefix", "/none"], ["--endpoint", "none"], ["//evil"]):
        result = run(app, "refresh", *args)
        assert result.exit_code == 1
        assert result.stdout == ""
        assert result.stderr.startswith("refused: ")
    facts = json.loads(run(app, "refresh", "--tag", "none", "--json").stdout)
    assert [(one["path"], one["result"], one["reason"]) for one in facts] == [
        ("none", "refused", "unknown")
    ]


def test_refresh_says_what_was_not_made(app, wsgi_get):
    app.view.does = lambda: ("down", 503)
    result = run(app, "refresh", "/page", "/nowhere")
    assert result.exit_code == 1
    assert "failed: /page error status 503" in result.stderr
    assert "refused: /nowhere route no marked route has it" in result.stderr
    assert wsgi_get(app, "/page").body == b"render 1"
    facts = json.loads(run(app, "refresh", "/page", "--json").stdout)
    assert [(one["path"], one["result"], one["reason"]) for one in facts] == [
        ("/page", "failed", "error")
    ]


def test_why_explains(app, clock):
    clock.forward(60)
    result = run(app, "why", "/page")
    assert result.exit_code == 0
    lines = dict(line.strip().split("  ", 1) for line in result.output.splitlines())
    assert lines["state"] == "stale"
    assert lines["tags"] == "news"
    assert lines["a render now"] == "200, 8 bytes, would be stored"
    assert lines["answer"] == "the stored page, stale, and one render in the background"
    assert app.view.renders == 2
    assert run(app, "why", "/page", "--no-render").exit_code == 0
    assert app.view.renders == 2
    facts = json.loads(run(app, "why", "/page", "--json", "--no-render").stdout)
    assert (facts["state"], facts["tags"], facts["served_for"]) == ("stale", ["news"], 540)
    settle(app)


def test_why_says_for_ever_where_there_is_no_end(make_app, wsgi_get):
    app = make_app(instance="other")
    View(app, revalidate=None)
    wsgi_get(app, "/page")
    output = run(app, "why", "/page").output
    assert "fresh for  never" not in output
    assert "fresh for  for ever" in output


def test_why_takes_the_headers_by_which_pages_differ(make_app, wsgi_get):
    app = make_app()
    View(app, "/tongues", endpoint="tongues", vary={"Accept-Language": ["en", "de"]})
    wsgi_get(app, "/tongues", headers={"Accept-Language": "de"})
    args = ("why", "/tongues", "--no-render", "--json")
    german = json.loads(run(app, *args, "--header", "Accept-Language: de").stdout)
    other = json.loads(run(app, *args).stdout)
    assert (german["url"], german["state"]) == ("/tongues?#accept-language=de", "fresh")
    assert (other["url"], "state" in other) == ("/tongues?#accept-language=en", False)


@pytest.mark.parametrize("header", ["Accept-Language", ": de", ""])
def test_why_refuses_what_is_no_header(app, header):
    result = run(app, "why", "/page", "--header", header)
    assert result.exit_code == 2
    assert "is not like 'Accept-Language: de'" in result.output

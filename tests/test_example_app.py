"""The example site: real pages, the same in every process, and visitors' notes."""

from __future__ import annotations

import hashlib
import html
import json
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from flask import Flask
from flask.testing import FlaskClient

from conftest import ROOT
from example_app import catalogue as catalogue_module
from example_app import create_app
from example_app.catalogue import catalogue
from example_app.extensions import db
from example_app.links import resolver
from example_app.prose import prose
from example_app.signatures import shown
from example_app.signatures import signature_of
from example_app.signatures import without_addresses
from example_app.texts import spoken_signature
from example_app.texts import summary_of

#: Asks an app for pages in the order it is given and prints the digest of each.
ASK = """
import hashlib, json, sys
from example_app import create_app
config, urls = json.load(sys.stdin)
client = create_app(config).test_client()
print(json.dumps({url: hashlib.sha256(client.get(url).data).hexdigest() for url in urls}))
"""
NOTE = {"title": "Mind the default", "author": "Ada", "text": "First line.\nSecond line."}


def settings(folder: Path) -> dict[str, Any]:
    return {
        "TESTING": True,
        "SQLALCHEMY_DATABASE_URI": f"sqlite:///{folder}/notes.sqlite3",
        "PRERENDER_PATH": str(folder / "prerendered"),
        "PRERENDER_ENABLED": False,
    }


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    app = create_app(settings(tmp_path))
    yield app
    with app.app_context():
        db.engine.dispose()
    close = getattr(app.extensions.get("prerender"), "close", None)
    if close:
        close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def page(client: FlaskClient, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200, url
    return answer.text


def every_url() -> list[str]:
    known = catalogue()
    urls = ["/", "/feed.xml", "/opensearch.xml", *(f"/letters/{name}/" for name in known.letters)]
    for module in known.modules:
        urls += [f"/library/{module.name}/", f"/library/{module.name}/index.json"]
        urls += [f"/library/{entry.module}/{entry.name}/" for entry in module.entries]
        if module.source:
            urls.append(f"/source/{module.name}/")
    return urls


def no_links(word: str, is_code: bool) -> None:
    return None


# Pages.


def test_the_library_has_thousands_of_pages() -> None:
    known = catalogue()
    least = 3500 if sys.version_info[:2] == (3, 11) else 2500
    assert len(known.modules) + len(known.entries) >= least
    assert len(set(every_url())) == len(every_url()) > least


def test_the_index_names_every_package(client: FlaskClient) -> None:
    text = page(client, "/")
    assert set(re.findall(r'<h2><a href="/library/([\w.]+)/">', text)) == {
        modules[0].name for modules in catalogue().packages.values()
    }


def test_a_module_page_shows_its_docstring_and_its_names(client: FlaskClient) -> None:
    text = page(client, "/library/json/")
    assert "<title>json ·" in text
    assert "JSON (JavaScript Object Notation)" in text
    assert "<b>&gt;&gt;&gt; </b>json.dumps([&#39;foo&#39;" in text
    for name in ("JSONDecoder", "JSONDecodeError", "dump", "dumps", "load", "loads"):
        assert f'<a href="/library/json/{name}/"><code>{name}</code></a>' in text
    assert '<a href="/library/json.decoder/">json.decoder</a>' in text


def test_a_class_page_shows_signature_bases_and_members(client: FlaskClient) -> None:
    text = page(client, "/library/json.decoder/JSONDecodeError/")
    assert "<i>class</i> <b>JSONDecodeError</b>(msg, doc, pos)" in text
    assert '<a href="/library/builtins/ValueError/"><code>ValueError</code></a>' in text
    assert 'id="raw_decode"' in page(client, "/library/json/JSONDecoder/")


def test_an_enumeration_shows_its_values(client: FlaskClient) -> None:
    text = page(client, "/library/http/HTTPStatus/")
    assert '<li id="NOT_FOUND"><code>NOT_FOUND</code> <samp>404</samp></li>' in text


def test_a_class_page_names_its_subclasses(client: FlaskClient) -> None:
    text = page(client, "/library/builtins/ValueError/")
    assert '<a href="/library/json.decoder/JSONDecodeError/">' in text


def test_a_function_page_shows_signature_docstring_and_links(client: FlaskClient) -> None:
    text = page(client, "/library/textwrap/dedent/")
    assert "<i>def</i> <b>dedent</b>(text)" in text
    assert "Remove any common leading whitespace" in text
    loads = page(client, "/library/json/loads/")
    assert '<a class="ref" href="/library/json/JSONDecoder/"><code>JSONDecoder</code></a>' in loads


def test_a_source_link_leads_to_the_line_of_the_definition(client: FlaskClient) -> None:
    entry = catalogue().entries["textwrap", "dedent"]
    target = f"/source/textwrap/#L{entry.line}"
    assert f'href="{target}"' in page(client, "/library/textwrap/dedent/")
    source = page(client, "/source/textwrap/")
    assert f'<span id="L{entry.line}">def dedent(text):</span>' in source
    assert client.get("/source/sys/").status_code == 404


def test_a_source_link_leads_to_the_repository_too(client: FlaskClient) -> None:
    version, line = sys.version.split()[0], catalogue().entries["textwrap", "dedent"].line
    url = f"https://github.com/python/cpython/blob/v{version}/Lib/textwrap.py#L{line}"
    assert f'href="{url}"' in page(client, "/library/textwrap/dedent/")


def test_names_that_differ_by_case_have_their_own_pages(client: FlaskClient) -> None:
    assert "<i>class</i> <b>Timeout</b>" in page(client, "/library/asyncio.timeouts/Timeout/")
    assert "<i>def</i> <b>timeout</b>" in page(client, "/library/asyncio.timeouts/timeout/")


def test_a_letter_page_lists_the_names_of_that_letter(client: FlaskClient) -> None:
    text = page(client, "/letters/j/")
    found = re.findall(r'<li><a href="(/library/[^"]+)"><code>(\w+)</code>', text)
    assert {name[0].lower() for _, name in found} == {"j"}
    assert len(found) == len(catalogue().letters["j"])
    assert client.get("/letters/J/").status_code == 404


def test_search_finds_the_exact_name_first(client: FlaskClient) -> None:
    text = page(client, "/search?q=JSONDecoder")
    assert re.findall(r'<li><a href="([^"]+)"', text)[0] == "/library/json/JSONDecoder/"
    assert "Nothing is called that" in page(client, "/search?q=no-such-name")
    assert "<h1>Search</h1>" in page(client, "/search")


def test_search_shows_a_hostile_question_as_text(client: FlaskClient) -> None:
    text = page(client, "/search?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
    assert "<script" not in text
    assert "&#34;&gt;&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_a_module_as_json_has_the_names_of_the_page(client: FlaskClient) -> None:
    answer = client.get("/library/json/index.json")
    assert answer.mimetype == "application/json"
    assert answer.json is not None
    assert answer.json["module"] == "json"
    names = {item["name"]: item for item in answer.json["names"]}
    assert set(names) == {entry.name for entry in catalogue().by_name["json"].entries}
    assert names["loads"]["url"] == "/library/json/loads/"
    assert names["JSONDecodeError"]["kind"] == "exception"


def test_the_feed_names_every_module_under_the_base_url(app: Flask) -> None:
    app.config["PRERENDER_BASE_URL"] = "https://library.example"
    answer = app.test_client().get("/feed.xml", base_url="http://another.example")
    assert answer.mimetype == "application/rss+xml"
    links = [item.findtext("link") for item in ElementTree.fromstring(answer.data).iter("item")]
    assert links == [f"https://library.example/library/{m.name}/" for m in catalogue().modules]


def test_the_search_can_be_added_to_a_browser(client: FlaskClient) -> None:
    answer = client.get("/opensearch.xml")
    assert answer.mimetype == "application/opensearchdescription+xml"
    url = ElementTree.fromstring(answer.data).find("{*}Url")
    assert url is not None
    assert url.get("template") == "http://127.0.0.1:8000/search?q={searchTerms}"


@pytest.mark.parametrize(
    "url", ["/nothing", "/library/jsn/", "/library/json/lods/", "/library/jsn/index.json"]
)
def test_what_is_not_there_answers_404_with_a_page(client: FlaskClient, url: str) -> None:
    answer = client.get(url)
    assert answer.status_code == 404
    assert "This page is not here" in answer.text


def test_the_404_page_proposes_what_was_meant(client: FlaskClient) -> None:
    assert 'href="/library/json/"' in client.get("/library/jsn/").text
    assert 'href="/library/json/loads/"' in client.get("/library/json/lods/").text


def test_library_pages_touch_no_session_and_no_cookie(client: FlaskClient) -> None:
    client.set_cookie("session", "somebody")
    for url in ("/", "/letters/a/", "/library/json/", "/library/json/loads/", "/source/json/"):
        headers = client.get(url).headers
        assert "Set-Cookie" not in headers
        assert "Cookie" not in headers.get("Vary", "")


def test_settings_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLASK_SECRET_KEY", "from outside")
    monkeypatch.setenv("FLASK_PRERENDER_BASE_URL", "https://library.example")
    app = create_app(settings(tmp_path))
    assert app.config["SECRET_KEY"] == "from outside"
    assert 'href="https://library.example/library/json/"' in page(
        app.test_client(), "/library/json/"
    )
    with app.app_context():
        db.engine.dispose()


# Texts.


def test_a_docstring_cannot_make_elements() -> None:
    hostile = (
        "<script>x</script>\n\n    <form>\n\nsee:\n    word: <em>\n\n>>> '<i>'\n<u>\n\n- <s>\n\n"
        "Head <h1>\n====\n\n``<q>`` `<cite>` a: https://x.test/<img>"
    )
    made = str(prose(hostile, no_links))
    allowed = {"p", "pre", "samp", "b", "ul", "li", "code", "a", "dl", "dt", "dd", "h4"}
    assert set(re.findall(r"</?(\w+)", made)) <= allowed
    for tag in ("script", "form", "em", "i", "u", "s", "h1", "q", "cite", "img"):
        assert f"&lt;{tag}&gt;" in made
    assert "<b>&gt;&gt;&gt; </b>&#39;&lt;i&gt;&#39;" in made


def test_a_docstring_becomes_paragraphs_lists_terms_and_examples() -> None:
    text = (
        "Title\n=====\n\nOne\nparagraph::\n\n    code = 1\n\n- first\n- second\n  line\n\n"
        "Arguments:\n    name: what it is\n    other: else\n\n>>> 1 + 1\n2"
    )
    assert str(prose(text, no_links)).split("\n\n")[0] == (
        "<h4>Title</h4>\n<p>One\nparagraph:</p>\n<pre>code = 1</pre>\n"
        "<ul><li>first</li><li>second\nline</li></ul>\n"
        '<p>Arguments:</p><dl class="terms"><dt>name</dt><dd>what it is</dd>'
        "<dt>other</dt><dd>else</dd></dl>\n"
        '<pre class="session"><b>&gt;&gt;&gt; </b>1 + 1\n<samp>2</samp></pre>'
    )


def test_only_what_is_surely_a_name_becomes_a_link(app: Flask) -> None:
    with app.test_request_context():
        resolve = resolver("json", "loads")
        assert resolve("JSONDecoder", False) == "/library/json/JSONDecoder/"
        assert resolve("json.decoder.JSONDecoder", False) == "/library/json.decoder/JSONDecoder/"
        assert resolve("ValueError", False) == "/library/builtins/ValueError/"
        assert resolve("open", True) == "/library/builtins/open/"
        for plain in ("open", "load", "copy", "Warning", "loads", "json"):
            assert resolve(plain, False) is None


def test_a_signature_shows_no_address_and_nothing_of_this_machine() -> None:
    unsaid: Any = object()

    def called(
        a: int, /, b: str = unsaid, *, c: Any = print, d: Any = (1, "x"), e: str = sys.prefix
    ) -> None: ...

    assert signature_of("called", called) == (
        "called(\n    a: int, /, b: str = …, *, c: Any = print, d: Any = (1, 'x'), e: str = …,\n)"
        " -> None"
    )
    assert shown({"a": 1}) == "{…}"
    assert shown([]) == "[…]"
    assert shown(os.environ) == "…"


def test_a_signature_is_read_from_the_docstring_where_c_code_has_it_there() -> None:
    doc = "f(x) -> y\nf(x, z) -> y\n\nDoes it."
    assert spoken_signature("f", doc) == ("f(x) -> y\nf(x, z) -> y", "Does it.")
    doc = "D.pop(k[,d]) -> v, remove the key.\nMore."
    assert spoken_signature("pop", doc) == ("pop(k[,d]) -> v", "remove the key.\nMore.")
    doc = "range.count(value) -> integer -- return it"
    assert spoken_signature("count", doc) == ("count(value) -> integer", "return it")
    assert spoken_signature("g", "Does it.") == ("g(…)", "Does it.")


def test_a_summary_is_the_first_sentence_without_the_name() -> None:
    assert summary_of("codecs -- A registry. More.\n\nMuch more.", "codecs") == "A registry."
    assert summary_of("ast\n~~~\n\nThe `ast` module helps.") == "The ast module helps."
    assert len(summary_of("word " * 100)) < 153


# The same in every process.


def test_addresses_are_left_out_of_texts() -> None:
    assert without_addresses("<f at 0x7f3a>, <g at 0x...>") == "<f at …>, <g at …>"


def test_no_text_of_the_catalogue_holds_an_address() -> None:
    assert " at 0x" not in repr(catalogue())


def test_the_catalogue_is_read_once_however_many_ask_first() -> None:
    catalogue_module._read.cache_clear()
    start = threading.Barrier(6)
    seen: list[object] = []

    def ask() -> None:
        start.wait()
        seen.append(catalogue())

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 6
    assert len(set(map(id, seen))) == 1


def start_asking(folder: Path, seed: str, urls: list[str]) -> subprocess.Popen[str]:
    """Start a process of its own that asks for the pages: other hashes, folder, environment."""
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", ASK],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONHASHSEED": seed,
            "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
            "COLUMNS": seed,
            "HOME": str(folder),
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    process.stdin.write(json.dumps([settings(folder), urls]))
    process.stdin.close()
    return process


def pages_that_differ(tmp_path: Path, client: FlaskClient, urls: list[str]) -> list[str]:
    """Return the pages that are not the same here and in two other processes."""
    orders = {"1": urls, "2": urls[::-1]}
    processes = [start_asking(tmp_path / seed, seed, order) for seed, order in orders.items()]
    here = {url: hashlib.sha256(client.get(url).data).hexdigest() for url in urls}
    answers = []
    for process in processes:
        assert process.stdout
        with process.stdout:
            answers.append(json.loads(process.stdout.read()))
        assert process.wait(30) == 0
    return [url for url in urls if len({here[url], *(answer[url] for answer in answers)}) > 1]


def test_pages_are_the_same_bytes_in_every_process(tmp_path: Path, client: FlaskClient) -> None:
    urls = every_url()
    # The first have what test runners and log handlers change in a running process.
    sample = ["/library/pdb/", "/library/sys/", "/library/logging/shutdown/"]
    sample += urls[:29] + urls[29 :: len(urls) // 280]
    assert len(sample) >= 300
    assert pages_that_differ(tmp_path, client, sample) == []


@pytest.mark.long
@pytest.mark.timeout(300)
def test_all_pages_are_the_same_bytes_in_every_process(tmp_path: Path, client: FlaskClient) -> None:
    assert pages_that_differ(tmp_path, client, every_url()) == []


@pytest.mark.long
@pytest.mark.timeout(300)
def test_every_page_is_sound_and_every_link_leads_to_a_page(client: FlaskClient) -> None:
    known = {*every_url(), "/search", "/notes/", "/static/style.css", "/static/icon.svg"}
    for url in every_url():
        text = page(client, url)
        if url.startswith("/source/") or url.endswith((".json", ".xml")):
            continue
        assert " at 0x" not in text, url
        links = {html.unescape(link) for link in re.findall(r'href="(/[^"#?]*)', text)}
        assert links <= known, url
        twice = [
            name for name, count in Counter(re.findall(r' id="(.*?)"', text)).items() if count > 1
        ]
        assert twice == [], url


# Notes.


def test_a_note_is_posted_and_appears_on_its_page(client: FlaskClient) -> None:
    assert "Nobody has written a note" in page(client, "/library/json/loads/")
    answer = client.post("/notes/library/json/loads", data=NOTE)
    assert answer.status_code == 303
    assert answer.location == "/library/json/loads/#note-1"
    text = page(client, "/library/json/loads/")
    assert '<article class="note" id="note-1">' in text
    assert "<h3>Mind the default</h3>" in text
    assert "First line.\nSecond line." in text
    assert "Mind the default" not in page(client, "/library/json/")


def test_a_note_on_a_module_appears_there_and_in_the_latest(client: FlaskClient) -> None:
    answer = client.post("/notes/library/os.path", data=NOTE)
    assert answer.location == "/library/os.path/#note-1"
    assert "Mind the default" in page(client, "/library/os.path/")
    assert 'href="/library/os.path/#note-1"' in page(client, "/notes/")


def test_the_form_of_a_page_posts_to_that_page(client: FlaskClient) -> None:
    for url in ("/library/json/loads", "/library/os.path"):
        assert f'method="post" action="/notes{url}"' in page(client, f"{url}/")


def test_hostile_notes_are_shown_as_text(client: FlaskClient) -> None:
    hostile = '"><script>alert(1)</script>{{ 7 * 7 }}'
    client.post("/notes/library/json", data=dict.fromkeys(NOTE, hostile))
    for url in ("/library/json/", "/notes/"):
        text = page(client, url)
        assert "<script" not in text
        assert text.count("&#34;&gt;&lt;script&gt;alert(1)&lt;/script&gt;{{ 7 * 7 }}") == 3


@pytest.mark.parametrize(("name", "limit"), [("title", 80), ("author", 40), ("text", 2000)])
def test_a_note_may_be_as_long_as_the_form_says_and_no_longer(
    client: FlaskClient, name: str, limit: int
) -> None:
    answer = client.post("/notes/library/json", data={**NOTE, name: "<" * (limit + 1)})
    assert answer.status_code == 422
    assert f"The {name} has {limit + 1} characters; {limit} are possible." in answer.text
    assert "&lt;" * (limit + 1) in answer.text
    assert "Nobody has written a note" in page(client, "/library/json/")
    answer = client.post("/notes/library/json", data={**NOTE, name: "<" * limit})
    assert answer.status_code == 303


def test_a_note_with_empty_fields_is_refused_with_each_reason(client: FlaskClient) -> None:
    answer = client.post("/notes/library/json", data={"title": "  "})
    assert answer.status_code == 422
    for name in NOTE:
        assert f"The {name} is missing." in answer.text
    assert "Nobody has written a note" in page(client, "/notes/")


@pytest.mark.parametrize("url", ["nothing", "library/jsn", "library/json/lods", "letters/a"])
def test_a_note_on_a_page_that_is_not_there_is_404(client: FlaskClient, url: str) -> None:
    assert client.post(f"/notes/{url}", data=NOTE).status_code == 404


def test_a_flood_of_text_is_refused_before_it_is_read(client: FlaskClient) -> None:
    answer = client.post("/notes/library/json", data={**NOTE, "text": "x" * 100_000})
    assert answer.status_code == 413


def test_notes_outlive_the_process(app: Flask, tmp_path: Path) -> None:
    app.test_client().post("/notes/library/json", data=NOTE)
    another = create_app(settings(tmp_path))
    assert "Mind the default" in page(another.test_client(), "/library/json/")
    with another.app_context():
        db.engine.dispose()

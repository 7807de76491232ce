"""Pages that differ by a header of the request."""

from __future__ import annotations

import pytest

from flask_prerender.page import make_key
from flask_prerender.page import split_key
from flask_prerender.page import typed_key
from flask_prerender.variants import Admission
from flask_prerender.variants import MOST_VARIANTS
from flask_prerender.variants import split_variant
from flask_prerender.variants import variant_of
from flask_prerender.variants import variants_of
from flask_prerender.variants import with_variant

LANGUAGES = (("accept-language", ("en", "de")),)


@pytest.mark.parametrize(
    ("sent", "chosen"),
    [(None, "en"), ("", "en"), ("de", "de"), ("DE-at", "de"), ("fr", "en"), ("en;q=0.1, de", "de"),
     ("fr, de;q=0.5, en;q=0.4", "de"), ("*", "en")],
)  # fmt: skip
def test_a_language_is_the_best_of_those_that_there_are(sent, chosen):
    environ = {} if sent is None else {"HTTP_ACCEPT_LANGUAGE": sent}
    assert variant_of(LANGUAGES, environ) == f"accept-language={chosen}"


def test_a_type_is_the_best_of_those_that_there_are():
    vary = (("accept", ("text/html", "application/json")),)
    assert variant_of(vary, {"HTTP_ACCEPT": "application/json"}) == "accept=application%2Fjson"
    assert variant_of(vary, {"HTTP_ACCEPT": "*/*"}) == "accept=text%2Fhtml"


def test_another_header_has_one_of_its_values_or_the_first():
    vary = (("x-device", ("desktop", "mobile")),)
    assert variant_of(vary, {"HTTP_X_DEVICE": " Mobile"}) == "x-device=mobile"
    assert variant_of(vary, {"HTTP_X_DEVICE": "toaster"}) == "x-device=desktop"


def test_a_header_without_values_is_taken_as_it_comes():
    vary = (("bar", ()), ("foo", ()))
    assert variant_of(vary, {}) == ""
    assert variant_of(vary, {"HTTP_FOO": " 1,  2 "}) == "foo=1%2C%202"
    assert variant_of(vary, {"HTTP_FOO": "1, 2"}) == variant_of(vary, {"HTTP_FOO": "1,2"})
    assert variant_of(vary, {"HTTP_FOO": ""}) == "foo="
    assert variant_of(vary, {"HTTP_FOO": "x" * 201}) is None
    assert variant_of(vary, {"HTTP_FOO": "\x01"}) is None


def test_languages_as_they_come_differ_neither_by_case_nor_by_space():
    vary = (("accept-language", ()),)
    wanted = variant_of(vary, {"HTTP_ACCEPT_LANGUAGE": "en, de"})
    assert variant_of(vary, {"HTTP_ACCEPT_LANGUAGE": " eN ,  De"}) == wanted


@pytest.mark.parametrize(
    ("name", "value"),
    [("foo", 'a="b,  c"'), ("accept-datetime", "Thu, 31 May 2007 20:35:00 GMT")],
)
def test_what_may_mean_something_is_left_as_it_came(name, value):
    chosen = variant_of(((name, ()),), {f"HTTP_{name.upper().replace('-', '_')}": f" {value} "})
    assert chosen is not None
    assert split_variant(f"#{chosen}")[1] == [(name, value)]


@pytest.mark.parametrize("key", ["/", "/a", "/a?b=1"])
def test_a_key_gives_back_path_query_and_headers(key):
    variant = variant_of(
        (("a", ()), *LANGUAGES), {"HTTP_A": "x&y=#?", "HTTP_ACCEPT_LANGUAGE": "de"}
    )
    assert variant is not None
    _, path, query = split_key(with_variant(key, variant))
    plain, headers = split_variant(query)
    assert (path, plain) == split_key(key)[1:]
    assert headers == [("a", "x&y=#?"), ("accept-language", "de")]


def test_no_url_can_name_a_variant():
    keys = {with_variant(key, "accept-language=de") for key in ("/a", "/a?b=1")}
    assert keys == {"/a?#accept-language=de", "/a?b=1#accept-language=de"}
    assert keys.isdisjoint({typed_key(key) for key in keys})
    made = make_key("/a", [("#accept-language", "de"), ("b", "1#accept-language=de")])
    assert made is not None and "#" not in made
    assert "#" not in str(make_key("/a#accept-language=de"))


def test_all_known_variants_are_listed():
    vary = (*LANGUAGES, ("foo", ()), ("x", ("1", "2")))
    assert list(variants_of(vary)) == [
        "accept-language=en&x=1", "accept-language=en&x=2",
        "accept-language=de&x=1", "accept-language=de&x=2",
    ]  # fmt: skip
    assert list(variants_of(())) == [""]


def test_a_url_has_so_many_variants_and_no_more():
    admission = Admission()
    admitted = [n for n in range(10_000) if admission.admits("/a", f"foo={n}")]
    assert admitted == list(range(MOST_VARIANTS))
    assert admission.admits("/a", "foo=3")
    assert admission.admits("/b", "foo=99")

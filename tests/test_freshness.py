"""What a response's own headers say of its storing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_prerender.freshness import directives
from flask_prerender.freshness import read_date
from flask_prerender.freshness import read_terms
from flask_prerender.freshness import structured
from flask_prerender.freshness import Terms
from flask_prerender.page import http_date

NOW = 1_800_000_000.0
TAG = ("ETag", '"v1"')


def control(value):
    return [("Cache-Control", value)]


def fresh_for(headers, delay=0.0):
    """Return for how long a response is fresh, or why it may not be stored."""
    terms = read_terms(headers, NOW, delay)
    return terms.fresh_for if isinstance(terms, Terms) else terms


def terms_of(headers):
    terms = read_terms(headers, NOW, 0.0)
    assert isinstance(terms, Terms)
    return terms


# For how long it is fresh.


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("max-age=60", 60),
        ("MaX-AgE=60", 60),
        ("foobar, max-age=60", 60),
        ("max-age=60, foobar=1", 60),
        ("max-age=003600", 3600),
        ('max-age="60"', 60),
        ('extension="max-age=3600", max-age=60', 60),
        ('max-age=60, extension="max-age=3600"', 60),
        ('a="\\"", max-age=60', 60),
        ("max-age=60, s-maxage=10", 10),
        ("s-maxage=10, max-age=60", 10),
        ("max-age=0, s-maxage=10", 10),
        ("max-age=60, max-age=3600", 60),
        ("max-age=2147483648", 2**31),
        ("max-age=99999999999999999999999999", 2**31),
    ],
)
def test_cache_control_says_for_how_long(value, seconds):
    assert fresh_for(control(value)) == seconds


@pytest.mark.parametrize(
    "value",
    ["max-age=0", "max-age=-60", "max-age='60'", "max-age=a60", "max-age=60a", "max-age=6.0",
     "max-age= 60", "max-age", "max-age=", "s-maxage=0, max-age=60", "s-maxage=x, max-age=60"],
)  # fmt: skip
def test_a_lifetime_that_is_over_or_makes_no_sense_is_stale(value):
    assert fresh_for(control(value)) == "freshness"
    assert fresh_for([*control(value), TAG]) == 0


def test_several_lines_are_read_as_one():
    headers = [("Cache-Control", "max-age=60"), ("cache-control", "s-maxage=1")]
    assert fresh_for(headers) == 1


def test_a_directive_with_a_space_in_its_name_is_none():
    assert fresh_for(control("max-age =60")) == "freshness"


@pytest.mark.parametrize(
    ("expires", "seconds"),
    [
        (http_date(NOW + 60), 60),
        (http_date(NOW - 60), "freshness"),
        (http_date(NOW), "freshness"),
        ("0", "freshness"),
        ("", "freshness"),
        ("Thu, 18 Aug 2050 02:01:18 UTC", "freshness"),
        ("Thu, 18 Aug 2050 02:01:18 +0100", "freshness"),
        ("Thu 18 Aug 2050 02:01:18 GMT", "freshness"),
        ("Thu, 18 Aug 2050 2:01:18 GMT", "freshness"),
        ("Thu, 18-Aug-2050 02:01:18 GMT", "freshness"),
        ("Thu, 32 Aug 2050 02:01:18 GMT", "freshness"),
        ("Thu, 18 Xyz 2050 02:01:18 GMT", "freshness"),
    ],
)
def test_expires_is_a_date_of_http_or_in_the_past(expires, seconds):
    assert fresh_for([("Expires", expires)]) == seconds


def test_expires_is_counted_from_date():
    """The clocks of both hosts need not agree."""
    headers = [("Date", http_date(NOW + 500)), ("Expires", http_date(NOW + 560))]
    assert fresh_for(headers) == 60


def test_max_age_wins_over_expires():
    assert fresh_for([("Expires", http_date(NOW - 9)), *control("max-age=60")]) == 60
    assert fresh_for([("Expires", http_date(NOW + 9)), *control("max-age=0")]) == "freshness"


def test_the_first_expires_counts():
    headers = [("Expires", http_date(NOW + 60)), ("Expires", http_date(NOW + 600))]
    assert fresh_for(headers) == 60


# How old it is when it comes.


@pytest.mark.parametrize(
    ("age", "left"),
    [
        ("7", 53), ("0", 60), ("7, 0", 53), ("0, 7", 60), ("abc", 60), ("-7", 60), ("7.0", 60),
        ("7;a=b", 60), ("60", "freshness"), ("2147483649", "freshness"), ("9" * 40, "freshness"),
    ],
)  # fmt: skip
def test_age_is_taken_off_and_ignored_where_it_is_no_number(age, left):
    assert fresh_for([*control("max-age=60"), ("Age", age)]) == left


def test_the_first_line_of_age_counts():
    assert fresh_for([*control("max-age=60"), ("Age", "7"), ("Age", "0")]) == 53


def test_an_old_date_makes_it_old_and_a_future_one_does_not_make_it_young():
    assert fresh_for([*control("max-age=60"), ("Date", http_date(NOW - 20))]) == 40
    assert fresh_for([*control("max-age=60"), ("Date", http_date(NOW + 20))]) == 60
    both = [*control("max-age=60"), ("Date", http_date(NOW - 20)), ("Age", "30")]
    assert fresh_for(both) == 30


def test_what_it_took_to_come_is_taken_off():
    assert fresh_for([*control("max-age=60"), ("Age", "7")], delay=3.0) == 50


def test_a_date_that_is_none_is_left_out():
    terms = terms_of([*control("max-age=60"), ("Date", "yesterday")])
    assert (terms.date, terms.age) == ("", 0)


# Never guessed.


@pytest.mark.parametrize("ago", [-1000, 0, 1000])
def test_nothing_is_guessed_from_a_last_change(ago):
    headers = [("Last-Modified", http_date(NOW - ago))]
    assert fresh_for(headers) == "freshness"
    assert fresh_for([*headers, *control("public")]) == "freshness"
    assert fresh_for([*headers, *control("max-age=0")]) == 0


def test_without_a_word_of_it_nothing_is_stored():
    assert fresh_for([]) == "freshness"
    assert fresh_for([TAG]) == "freshness"


# Whether it may be stored at all.


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        (control("private, max-age=60"), "private"),
        (control('private="a", max-age=60'), "private"),
        (control("max-age=60, No-StOrE"), "no-store"),
        ([*control("max-age=60"), ("Surrogate-Control", "no-store")], "no-store"),
        ([*control("max-age=60"), ("CDN-Cache-Control", "no-store")], "no-store"),
        ([*control("max-age=60"), ("CDN-Cache-Control", "private")], "private"),
        (control("max-age=60, no-cache"), "freshness"),
        (control('max-age=60, no-cache="a"'), "freshness"),
        (control('extension="no-store", max-age=60'), ""),
        ([*control("max-age=60"), ("Pragma", "no-cache")], ""),
    ],
)
def test_a_response_may_forbid_it(headers, reason):
    found = fresh_for(headers)
    assert (found if isinstance(found, str) else "") == reason


def test_no_cache_is_stored_to_be_validated_each_time():
    terms = terms_of([*control("no-cache, max-age=60, stale-while-revalidate=9"), TAG])
    assert (terms.fresh_for, terms.while_revalidate, terms.is_strict) == (0, 0, True)


# After that.


@pytest.mark.parametrize(
    ("value", "windows"),
    [
        ("", (5, 7, False)),
        (", must-revalidate", (0, 0, True)),
        (", proxy-revalidate", (0, 0, True)),
        (", s-maxage=60", (5, 7, True)),
    ],
)
def test_it_is_served_stale_only_where_it_says_so(value, windows):
    said = f"max-age=60, stale-while-revalidate=5, stale-if-error=7{value}"
    terms = terms_of(control(said))
    assert (terms.while_revalidate, terms.if_error, terms.is_strict) == windows
    plain = terms_of(control(f"max-age=60{value}"))
    assert (plain.while_revalidate, plain.if_error) == (0, 0)


@pytest.mark.parametrize(
    ("value", "shared"),
    [("max-age=60", False), ("max-age=60, public", True), ("s-maxage=60", True),
     ("max-age=60, must-revalidate", True), ("max-age=60, proxy-revalidate", False)],
)  # fmt: skip
def test_some_responses_may_answer_whoever_is_signed_in(value, shared):
    assert terms_of(control(value)).is_shared is shared


# CDN-Cache-Control.


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("max-age=60", 60),
        ("max-age=60;a=b;c, foobar", 60),
        ("foobar, max-age=60", 60),
        ("max-age=1, max-age=60", 60),
        ('max-age=60, a="b, c", d=tok/en:x, e=:aGk=:, f=1.5, g=?0', 60),
        ("max-age=60, no-store=?0", 60),
        ("max-age=60, a=(b c)", 60),
        ('a=( b;c "d;)" );e=1,max-age=60', 60),
        ("a=();b, max-age=60", 60),
        ("no-store=(a b), max-age=60", "no-store"),
        ("max-age=0", "freshness"),
        ('max-age="60"', "freshness"),
        ("max-age=?1", "freshness"),
        # What is invalid is ignored, and Cache-Control says 9.
        ("max-age =60", 9),
        ("max-age= 60", 9),
        ("MaX-Age=60", 9),
        ("max-age=60,", 9),
        ("max-age=60, &&&&", 9),
        ("max-age=60 no-store", 9),
        ("max-age=60;", 9),
        ("max-age=60;a=", 9),
        ("max-age=60, a=(b c", 9),
        ("max-age=60, a=(b,c)", 9),
        ('max-age=60, a=(b"c")', 9),
        ("max-age=60, a=(b (c))", 9),
        ("max-age=60;a=(b)", 9),
        ('max-age=60, a="b', 9),
        ("", 9),
    ],
)
def test_cdn_cache_control_is_a_dictionary_or_ignored(value, seconds):
    assert fresh_for([*control("max-age=9"), ("CDN-Cache-Control", value)]) == seconds


def test_cdn_cache_control_stands_in_the_place_of_everything_else():
    others = [*control("no-store"), ("Expires", http_date(NOW - 9))]
    assert fresh_for([*others, ("CDN-Cache-Control", "max-age=60")]) == 60
    assert fresh_for([("Expires", http_date(NOW + 9)), ("CDN-Cache-Control", "a")]) == "freshness"


def test_a_dictionary_without_a_word_for_us_is_no_invalid_one():
    said = [*control("max-age=9"), ("Expires", http_date(NOW + 9))]
    for value in ("no-store=?0", "public", "a;b"):
        assert fresh_for([*said, ("CDN-Cache-Control", value)]) == "freshness"


def test_lines_of_cdn_cache_control_are_joined():
    lines = [("CDN-Cache-Control", "a"), ("CDN-Cache-Control", "max-age=60")]
    assert fresh_for(lines) == 60


# Reading.


@pytest.mark.parametrize(
    "text",
    ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"],
)
def test_dates_are_read_in_three_forms(text):
    assert read_date(text, NOW) == 784111777


def test_a_two_digit_year_is_at_most_fifty_years_ahead():
    this_year = 2027
    ahead = read_date(f"Friday, 01-Jan-{(this_year + 50) % 100:02} 00:00:00 GMT", NOW)
    behind = read_date(f"Friday, 01-Jan-{(this_year + 51) % 100:02} 00:00:00 GMT", NOW)
    assert ahead is not None and ahead > NOW
    assert behind is not None and behind < NOW


def test_a_leap_second_is_a_date():
    assert read_date("Sat, 31 Dec 2016 23:59:60 GMT", NOW) == 1483228799


@given(st.text(max_size=80))
def test_nothing_that_is_sent_makes_reading_fail(text):
    directives([text])
    structured(text)
    read_date(text, NOW)
    names = ("Cache-Control", "CDN-Cache-Control", "Expires", "Age", "Date", "Last-Modified")
    for name in names:
        terms = read_terms([(name, text)], NOW, 0.0)
        assert isinstance(terms, str) or 0 <= terms.fresh_for <= 2**31

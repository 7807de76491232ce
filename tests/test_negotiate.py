"""Which variant a request gets, whether it has it already, and which part of it it wants."""

from __future__ import annotations

import pytest
from hypothesis import example
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import Accept
from werkzeug.http import parse_accept_header

from flask_prerender.negotiate import Crawlers
from flask_prerender.negotiate import Encodings
from flask_prerender.page import http_date
from flask_prerender.signals import page_served

ORDER = ("br", "zstd", "gzip")
BODY = "".join(f"<p>Line {n} of a page that compresses well.</p>\n" for n in range(100))
RAW = BODY.encode()


@pytest.fixture
def ask(make_app, wsgi_get):
    """Ask a site of one page with all variants: ``ask({"Accept-Encoding": "br"})``."""

    def build(config=None, body=BODY):
        app = make_app(config)

        @app.route("/")
        @app.prerender
        def index():
            return body

        wsgi_get(app, "/")
        return lambda headers=None, **more: wsgi_get(app, "/", headers=headers, **more)

    return build


# Encodings.


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        (None, None),
        ("", None),
        ("gzip", "gzip"),
        ("br", "br"),
        ("zstd", "zstd"),
        ("gzip, br", "br"),
        ("gzip, zstd", "zstd"),
        ("gzip, deflate, br, zstd", "br"),
        ("deflate", None),
        ("compress, x-unheard-of", None),
        ("GZIP", "gzip"),
        ("Br;Q=0.5, Gzip;q=0.4", "br"),
        ("gzip;q=0", None),
        ("br;q=0, gzip", "gzip"),
        ("br;q=0.0, gzip;q=0.001", "gzip"),
        ("*", "br"),
        ("*;q=0.5", "br"),
        ("br;q=0, *", "zstd"),
        ("*, br;q=0", "zstd"),
        ("br;q=0, zstd;q=0, gzip;q=0, *", None),
        ("gzip;q=1.0, br;q=0.5", "gzip"),
        ("gzip;q=0.5, br;q=0.5", "br"),
        ("gzip;q=0.5, *;q=0.8", "br"),
        ("identity, gzip;q=0.5", None),
        ("identity;q=0.5, gzip;q=0.4", None),
        ("identity;q=0.4, gzip;q=0.5", "gzip"),
        ("gzip, identity;q=0", "gzip"),
        ("gzip, *;q=0", "gzip"),
        ("*;q=0, identity", None),
        ("identity", None),
        ("gzip;q=abc", None),
        ("gzip;q=2", None),
        (" gzip ; q=0.7 ,, br;q=0.2", "gzip"),
        (",,;=\x7f,q", None),
    ],
)
def test_the_encoding_that_the_client_likes_best_is_sent(ask, accepted, coding):
    answer = ask()({} if accepted is None else {"Accept-Encoding": accepted})
    assert (answer.status, answer.get("Content-Encoding")) == (200, coding)
    assert int(answer.get("Content-Length")) == len(answer.body)
    assert (len(answer.body) < len(RAW)) == (coding is not None)
    assert answer.get("Vary") == "Accept-Encoding"


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip;q=1.0, br;q=0.1", "br"),
        ("gzip;q=1.0, zstd;q=0.2", "zstd"),
        ("gzip;q=0.1, identity;q=1", "gzip"),
        ("gzip;q=1.0, br;q=0", "gzip"),
        ("deflate", None),
    ],
)
def test_the_server_can_be_told_to_prefer_its_own_order(ask, accepted, coding):
    answer = ask({"PRERENDER_ENCODING_PREFERENCE": "server"})({"Accept-Encoding": accepted})
    assert answer.get("Content-Encoding") == coding


@pytest.mark.parametrize(
    "accepted", ["identity;q=0", "*;q=0", "deflate, identity;q=0", "*;q=0.0, gzip;q=0"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_who_refuses_all_there_is_gets_406(ask, accepted, method):
    answer = ask()({"Accept-Encoding": accepted}, method=method)
    assert answer.status == 406
    assert answer.get("Vary") == "Accept-Encoding"
    assert answer.get("Cache-Control") == "no-store"
    assert answer.get("ETag") is None
    assert bool(answer.body) == (method == "GET")
    assert int(answer.get("Content-Length")) > 0


def test_a_page_without_variants_is_sent_as_it_is(ask):
    answer = ask(body="small")({"Accept-Encoding": "br, gzip"})
    assert (answer.get("Content-Encoding"), answer.body) == (None, b"small")
    assert answer.get("Vary") == "Accept-Encoding"


def test_compression_can_be_off(ask):
    answer = ask({"PRERENDER_COMPRESS": False})({"Accept-Encoding": "br, gzip"})
    assert (answer.get("Content-Encoding"), answer.body) == (None, RAW)
    assert answer.get("Vary") == "Accept-Encoding"


def test_memory_and_disk_negotiate_alike(ask):
    """What comes from memory is the variant, with its own Vary, and 406 where nothing fits."""
    sources = []

    def note(app, source, **extra):
        sources.append(source)

    first, again = ask(), ask({"PRERENDER_MEMORY_BYTES": 0})
    with page_served.connected_to(note):
        for accepted in ("br", "gzip", "", "identity;q=0", "br"):
            in_memory = first({"Accept-Encoding": accepted})
            on_disk = again({"Accept-Encoding": accepted})
            assert in_memory == on_disk
    assert sources == ["memory", "store"] * 5


def test_an_encoding_of_ones_own_comes_before_the_servers_order(make_app, wsgi_get):
    class Half:
        encoding, suffix, version = "half", "half", "1"

        def compress(self, body):
            return body[::2]

    app = make_app(compressors=[Half()])

    @app.route("/")
    @app.prerender
    def index():
        return BODY

    answer = wsgi_get(app, "/", headers={"Accept-Encoding": "gzip, half"})
    assert (answer.get("Content-Encoding"), answer.body) == ("half", RAW[::2])


codings = st.sampled_from([*ORDER, "identity", "*", "deflate"])
weights = st.integers(0, 1000).map(lambda q: q / 1000)
weighted = st.dictionaries(codings, weights, max_size=6)


def header_of(qualities):
    return ", ".join(f"{coding.upper()};q={q:g}" for coding, q in qualities.items())


@given(weighted)
@example({"*": 0.0, "identity": 0.001})
@example({"gzip": 1.0})
def test_the_ranking_is_that_of_the_rfc(qualities):
    """RFC 9110, 12.5.3: what is not named is as good as ``*``, and identity is always acceptable
    unless it, or ``*`` in its place, is refused."""
    wildcard = qualities.get("*")

    def q(coding):
        default = wildcard if wildcard is not None else (1e-9 if coding == "identity" else 0)
        return qualities.get(coding, default)

    expected = sorted((c for c in (*ORDER, "identity") if q(c) > 0), key=q, reverse=True)
    assert Encodings(ORDER, "client")[header_of(qualities)] == tuple(expected)
    allowed = tuple(c for c in (*ORDER, "identity") if q(c) > 0)
    assert Encodings(ORDER, "server")[header_of(qualities)] == allowed


@given(weighted)
def test_the_ranking_is_that_of_werkzeug(qualities):
    header = header_of(qualities)
    accepted = parse_accept_header(header, Accept)
    ranked = [c for c in Encodings(ORDER, "client")[header] if c != "identity"]
    assert set(ranked) == {coding for coding in ORDER if accepted.quality(coding) > 0}
    found = [accepted.quality(coding) for coding in ranked]
    assert found == sorted(found, reverse=True)


@given(st.text(max_size=60))
def test_no_header_text_is_too_strange(text):
    ranked = Encodings(ORDER, "client")[text]
    assert set(ranked) <= {*ORDER, "identity"}
    assert len(set(ranked)) == len(ranked)


def test_clients_cannot_fill_memory_with_headers():
    encodings = Encodings(ORDER, "client")
    for n in range(5000):
        assert encodings[f"gzip;q=0.{n}"][0] in ("gzip", "identity")
        assert len(encodings._known) <= 1025
    assert encodings[None] == ("identity",)


# Conditional requests.


def test_each_variant_has_a_strong_tag_of_its_own(ask):
    get = ask()
    tags = [get({"Accept-Encoding": coding}).get("ETag") for coding in ("", *ORDER)]
    assert len(set(tags)) == 4
    assert all(tag.startswith('"') and tag.endswith('"') for tag in tags)
    again = [get({"Accept-Encoding": coding}).get("ETag") for coding in ("", *ORDER)]
    assert tags == again


@pytest.mark.parametrize("asked_with", ["", "gzip", "br"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_tag_of_any_variant_gives_304_with_the_tag_of_the_chosen_one(ask, asked_with, method):
    get = ask()
    own = get({"Accept-Encoding": asked_with}).get("ETag")
    for coding in ("", *ORDER):
        tag = get({"Accept-Encoding": coding}).get("ETag")
        headers = {"Accept-Encoding": asked_with, "If-None-Match": tag}
        answer = get(headers, method=method)
        assert (answer.status, answer.get("ETag"), answer.body) == (304, own, b"")


@pytest.mark.parametrize(
    ("pattern", "status"),
    [
        ("{tag}", 304),
        ("W/{tag}", 304),
        ("*", 304),
        ('"other", {tag}', 304),
        ('W/"other",W/{tag} , "third"', 304),
        ('"other"', 200),
        ('"other", W/"third"', 200),
        ("", 200),
        ("garbage", 200),
    ],
)
def test_if_none_match_takes_lists_weak_tags_and_a_star(ask, pattern, status):
    get = ask()
    tag = get().get("ETag")
    answer = get({"If-None-Match": pattern.format(tag=tag)})
    assert answer.status == status
    assert answer.body == (b"" if status == 304 else RAW)


def test_a_304_has_the_headers_that_a_cache_needs_and_no_others(ask):
    get = ask()
    full = get({"Accept-Encoding": "gzip"})
    answer = get({"Accept-Encoding": "gzip", "If-None-Match": "*"})
    names = {name for name, _ in answer.headers}
    assert names == {"ETag", "Cache-Control", "Vary", "X-Prerendered", "Cache-Status"}
    for name in ("ETag", "Cache-Control", "Vary"):
        assert answer.get(name) == full.get(name)


@pytest.mark.parametrize(
    ("seconds", "status"), [(0, 304), (1, 304), (86400, 304), (-1, 200), (-86400, 200)]
)
def test_if_modified_since_compares_with_the_last_change(ask, clock, seconds, status):
    get = ask()
    changed_at = clock.now
    clock.forward(500)
    assert get().get("Last-Modified") == http_date(changed_at)
    answer = get({"If-Modified-Since": http_date(changed_at + seconds)})
    assert answer.status == status


def test_a_date_that_is_none_is_ignored(ask):
    assert ask()({"If-Modified-Since": "yesterday"}).status == 200


@pytest.mark.parametrize(("tag", "status"), [('"other"', 200), ("*", 304)])
def test_if_none_match_beats_if_modified_since(ask, clock, tag, status):
    late, early = http_date(clock.now + 60), http_date(clock.now - 60)
    get = ask()
    for date in (late, early):
        assert get({"If-None-Match": tag, "If-Modified-Since": date}).status == status


# Ranges.

SIZE = len(RAW)


@pytest.mark.parametrize(
    ("wanted", "status", "first", "stop"),
    [
        ("bytes=0-9", 206, 0, 10),
        ("bytes=10-10", 206, 10, 11),
        ("bytes=10-", 206, 10, SIZE),
        ("bytes=-5", 206, SIZE - 5, SIZE),
        (f"bytes=-{SIZE + 100}", 206, 0, SIZE),
        (f"bytes=0-{SIZE + 100}", 206, 0, SIZE),
        (f"bytes={SIZE - 1}-", 206, SIZE - 1, SIZE),
        ("Bytes=0-9", 206, 0, 10),
        ("bytes=0-1,4-5", 200, 0, SIZE),
        ("bytes=0-1, -5", 200, 0, SIZE),
        ("bytes=90000-90001, 90005-90006", 200, 0, SIZE),
        ("bytes=9-0", 200, 0, SIZE),
        ("bytes=", 200, 0, SIZE),
        ("bytes=a-b", 200, 0, SIZE),
        ("bytes=-0", 200, 0, SIZE),
        ("0-9", 200, 0, SIZE),
        ("lines=0-9", 200, 0, SIZE),
        ("bytes=" + ",".join(f"{n}-{n}" for n in range(0, 2000, 2)), 200, 0, SIZE),
    ],
)
def test_one_range_is_served_and_all_else_gets_the_whole_page(ask, wanted, status, first, stop):
    answer = ask()({"Range": wanted})
    assert (answer.status, answer.body) == (status, RAW[first:stop])
    assert answer.get("Content-Length") == str(stop - first)
    whole = f"bytes {first}-{stop - 1}/{SIZE}"
    assert answer.get("Content-Range") == (whole if status == 206 else None)
    assert answer.get("Accept-Ranges") == "bytes"


@pytest.mark.parametrize("wanted", [f"bytes={SIZE}-", f"bytes={SIZE + 5}-{SIZE + 9}"])
def test_a_range_outside_of_the_page_gets_416_and_the_size(ask, wanted):
    answer = ask()({"Range": wanted})
    assert (answer.status, answer.body) == (416, b"")
    assert answer.get("Content-Range") == f"bytes */{SIZE}"
    assert answer.get("Content-Length") == "0"
    assert answer.get("Content-Type") is None


@pytest.mark.parametrize(
    ("pattern", "status"),
    [
        (None, 206),
        ("{tag}", 206),
        ("W/{tag}", 200),
        ('"other"', 200),
        ("{gzip}", 200),
        ("{date}", 206),
        ("{other_date}", 200),
        ("{later}", 200),
        ("garbage", 200),
    ],
)
def test_if_range_wants_exactly_this_version(ask, clock, pattern, status):
    dates = [http_date(clock.now + more) for more in (0, -5, 5)]
    get = ask()
    tags = {"tag": get().get("ETag"), "gzip": get({"Accept-Encoding": "gzip"}).get("ETag")}
    headers = {"Range": "bytes=0-9"}
    if pattern is not None:
        date, other_date, later = dates
        text = pattern.format(**tags, date=date, other_date=other_date, later=later)
        headers["If-Range"] = text
    answer = get(headers)
    assert (answer.status, answer.body) == (status, RAW[:10] if status == 206 else RAW)


@pytest.mark.parametrize("coding", ORDER)
def test_an_encoded_variant_is_never_sent_in_parts(ask, coding):
    get = ask()
    whole = get({"Accept-Encoding": coding})
    for wanted in ("bytes=0-9", f"bytes={SIZE}-"):
        answer = get({"Accept-Encoding": coding, "Range": wanted})
        assert (answer.status, answer.body) == (200, whole.body)
        assert answer.get("Content-Range") is None
        assert answer.get("Accept-Ranges") is None


def test_a_304_comes_before_a_range(ask):
    answer = ask()({"Range": "bytes=0-9", "If-None-Match": "*"})
    assert (answer.status, answer.body) == (304, b"")


def test_head_takes_no_range(ask):
    answer = ask()({"Range": "bytes=0-9"}, method="HEAD")
    assert (answer.status, answer.get("Content-Length")) == (200, str(SIZE))


@given(st.text(alphabet="bytes=-,0123456789 ", max_size=20).map("bytes={}".format))
def test_whatever_range_is_asked_for_gets_what_its_headers_say(wanted):
    from flask_prerender.negotiate import wanted_range

    found = wanted_range({"HTTP_RANGE": wanted}, '"tag"', 0.0, 100)
    assert found is None or found == "unsatisfiable" or (0 <= found[0] < found[1] <= 100), found


# Crawlers.

CRAWLERS = [
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Googlebot-Image/1.0",
    "Mozilla/5.0 (compatible; Google-InspectionTool/1.0;)",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "Mozilla/5.0 (compatible; Yahoo! Slurp; http://help.yahoo.com/help/us/ysearch/slurp)",
    "DuckDuckBot/1.1; (+http://duckduckgo.com/duckduckbot.html)",
    "Mozilla/5.0 (compatible; Baiduspider/2.0; +http://www.baidu.com/search/spider.html)",
    "Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)",
    "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
    "Facebot/1.0",
    "Twitterbot/1.0",
    "LinkedInBot/1.0 (compatible; Mozilla/5.0; Apache-HttpClient +http://www.linkedin.com)",
    "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
    "Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)",
    "TelegramBot (like TwitterBot)",
    "WhatsApp/2.23.20.0",
    "Mozilla/5.0 (compatible; Pinterestbot/1.0; +http://www.pinterest.com/bot.html)",
    "Mozilla/5.0 (Macintosh) AppleWebKit/605 (KHTML) Version/13 Safari/605 (Applebot/0.1)",
    "Mozilla/5.0 (compatible; SemrushBot/7~bl; +http://www.semrush.com/bot.html)",
    "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
    "Mozilla/5.0 (compatible; MJ12bot/v1.4.8; http://mj12bot.com/)",
    "rogerbot/1.2 (http://moz.com/help/pro/what-is-rogerbot-)",
    "Mozilla/5.0 (compatible; archive.org_bot +http://www.archive.org/details/archive.org_bot)",
    "ia_archiver (+http://www.alexa.com/site/help/webmasters)",
    "Mozilla/5.0 (compatible; Embedly/0.2; +http://support.embed.ly/)",
    "Mozilla/5.0 (compatible; redditbot/1.0; +http://www.reddit.com/feedback)",
    "W3C_Validator/1.3",
    "Mozilla/5.0 (compatible; vkShare; +http://vk.com/dev/Share)",
    "Outbrain/1.0",
    "Quora Link Preview/1.0 (http://www.quora.com)",
    "showyoubot",
    "SkypeUriPreview Preview/0.5",
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
    "Mozilla/5.0 (compatible; ClaudeBot/1.0; +claudebot@anthropic.com)",
    "Mozilla/5.0 (compatible; PetalBot;+https://webmaster.petalsearch.com/site/petalbot)",
]
BROWSERS = [
    "",
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/140.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Mobile Safari/604.1",
    "curl/8.9.0",
    "flask-prerender",
]


@pytest.mark.parametrize("agent", CRAWLERS)
def test_a_crawler_is_known_whatever_its_case(agent):
    for text in (agent, agent.upper(), agent.lower()):
        assert text in Crawlers(())


@pytest.mark.parametrize("agent", BROWSERS)
def test_a_browser_is_no_crawler(agent):
    assert agent not in Crawlers(())


def test_more_crawlers_can_be_named():
    crawlers = Crawlers(["MySpider"])
    assert "myspider/2.0" in crawlers
    assert "Googlebot" in crawlers
    assert "other/1.0" not in crawlers


def test_clients_cannot_fill_memory_with_agents():
    crawlers = Crawlers(())
    for n in range(5000):
        assert (f"agent {n}" in crawlers) is False
        assert len(crawlers._known) <= 1025
    assert "" not in crawlers

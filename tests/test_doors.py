"""What a hit is, whichever door it comes by: the hook, or the lane before Flask."""

from __future__ import annotations

import gzip
import threading
from itertools import product

import brotli
import pytest
from flask import abort
from flask import Flask
from flask import request
from flask import request_started
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from flask_prerender import Prerender
from flask_prerender import signals
from flask_prerender.hook import is_rendering
from flask_prerender.page import http_date
from flask_prerender.serve import Server
from living import settle
from living import site_of
from living import View
from living import wait_until

BODY = "<p>a line that compresses well</p>\n" * 100
SIZE = len(BODY)
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
NOW = http_date(1_800_000_000)
OURS = [
    ("Cache-Control", "public, max-age=0, s-maxage=60"),
    ("X-Prerendered", "true"),
    ("Cache-Status", "flask-prerender; hit; ttl=60"),
]
TYPE = ("Content-Type", "text/html; charset=utf-8")
ACCEPTED = {
    "gzip": "gzip", "br;q=0.5, gzip": "gzip", "gzip, br": "br", "*": "br",
    "br, identity;q=0": "br", "GZIP": "gzip",
}  # fmt: skip


class Site:
    """An app with one marked route, asked until its door answers what is stored.

    :ivar reached: the paths of the requests that came to Flask, renders aside.
    """

    def __init__(self, door, make_app, wsgi_get, path="/page", config=None, **options):
        self.door, self.path = door, path
        self.app = make_app({"PRERENDER_SERVE_AT": door, **(config or {})})
        self.view = View(self.app, path, **options)
        self.view.does = lambda: BODY
        self.reached = []
        request_started.connect(self._note, self.app)
        self._get = wsgi_get

    def _note(self, sender, **extra):
        if "flask_prerender.render" not in request.environ:
            self.reached.append(request.path)

    def warm(self):
        for _ in range(3):
            self.ask()
        self.reached.clear()
        return self

    def ask(self, path=None, *, app=None, **sent):
        return self._get(app or self.app, self.path if path is None else path, **sent)

    def hit(self, path=None, **sent):
        """Ask, and make sure that the door that is meant has answered."""
        self.reached.clear()
        answer = self.ask(path, **sent)
        assert bool(self.reached) == (self.door == "hook")
        assert answer.get("X-Prerendered") == "true"
        return answer

    def tag(self, encoding=""):
        return self.hit(headers={"Accept-Encoding": encoding}).get("ETag")


@pytest.fixture(params=["memory", "disk"])
def tier(request):
    return {} if request.param == "memory" else {"PRERENDER_MEMORY_BYTES": 0}


@pytest.fixture(params=["hook", "wsgi"])
def door(request):
    return request.param


@pytest.fixture
def make(door, make_app, wsgi_get):
    def make(config=None, path="/page", **options):
        return Site(door, make_app, wsgi_get, path, config, **options)

    return make


@pytest.fixture
def site(make, tier):
    return make(tier).warm()


class TestHits:
    """With bodies in memory, and with bodies on disk."""

    def test_a_get_has_exactly_this(self, site):
        answer = site.hit()
        assert (answer.status, answer.body) == (200, BODY.encode())
        assert answer.headers == [
            TYPE,
            ("Content-Length", str(SIZE)),
            ("Accept-Ranges", "bytes"),
            ("ETag", answer.get("ETag")),
            ("Last-Modified", NOW),
            ("Vary", "Accept-Encoding"),
            *OURS,
        ]
        assert len(answer.get("ETag")) == 24

    def test_an_encoding_has_exactly_this(self, site):
        for accepted, coding in [*ACCEPTED.items(), *ACCEPTED.items()]:
            answer = site.hit(headers={"Accept-Encoding": accepted})
            unpack = gzip.decompress if coding == "gzip" else brotli.decompress
            assert unpack(answer.body) == BODY.encode()
            assert answer.headers == [
                TYPE,
                ("Content-Length", str(len(answer.body))),
                ("Content-Encoding", coding),
                ("ETag", f'{site.tag()[:-1]}-{coding.replace("gzip", "gz")}"'),
                ("Last-Modified", NOW),
                ("Vary", "Accept-Encoding"),
                *OURS,
            ]

    def test_who_accepts_nothing_else_gets_the_page_itself(self, site):
        for accepted in ("", "identity", "br;q=0", "x, y;q=0.5", "identity, *;q=0"):
            answer = site.hit(headers={"Accept-Encoding": accepted})
            assert (answer.body, answer.get("Content-Encoding")) == (BODY.encode(), None)

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_where_no_encoding_will_do_it_is_406(self, site, method):
        for accepted in ("identity;q=0", "x, *;q=0", "identity;q=0, x", "identity;q=0"):
            site.reached.clear()
            answer = site.ask(method=method, headers={"Accept-Encoding": accepted})
            assert bool(site.reached) == (site.door == "hook")
            assert answer.status == 406
            assert bool(answer.body) == (method == "GET")
            assert answer.get("Cache-Control") == "no-store"
            assert answer.get("Vary") == "Accept-Encoding"

    def test_head_is_get_without_the_body(self, site):
        for coding in ("", "gzip", "br"):
            headers = {"Accept-Encoding": coding}
            head = site.hit(method="HEAD", headers=headers)
            get = site.hit(headers=headers)
            assert (head.status, head.headers, head.body) == (200, get.headers, b"")

    @pytest.mark.parametrize("form", ["{}", "*", "W/{}", '"a", W/{}, "b"'])
    def test_who_has_it_gets_exactly_this(self, site, form):
        for coding, method in product(("", "gzip", "br"), ("GET", "HEAD")):
            tag = site.tag(coding)
            sent = {"Accept-Encoding": coding, "If-None-Match": form.format(tag)}
            answer = site.hit(method=method, headers=sent)
            assert (answer.status, answer.body) == (304, b"")
            assert answer.headers == [("ETag", tag), ("Vary", "Accept-Encoding"), *OURS]

    def test_the_tag_of_any_variant_will_do(self, site):
        for coding in ("", "gzip", "br"):
            sent = {"Accept-Encoding": coding, "If-None-Match": site.tag("gzip")}
            answer = site.hit(headers=sent)
            assert (answer.status, answer.get("ETag")) == (304, site.tag(coding))

    def test_who_has_another_version_gets_this_one(self, site):
        for wanted in ('"other"', '"a", "b"', "", "nonsense"):
            answer = site.hit(headers={"If-None-Match": wanted})
            assert (answer.status, answer.body) == (200, BODY.encode())

    def test_a_date_is_compared_where_there_is_no_tag(self, site):
        for since, status in ((0, 304), (3600, 304), (-1, 200), (None, 200)):
            date = "no date" if since is None else http_date(1_800_000_000 + since)
            headers = {"If-Modified-Since": date}
            assert site.hit(headers=headers).status == status
            assert site.hit(headers={**headers, "If-None-Match": '"other"'}).status == 200
            assert site.hit(headers={**headers, "If-None-Match": site.tag()}).status == 304

    @pytest.mark.parametrize(
        ("wanted", "first", "stop"),
        [("bytes=0-9", 0, 10), ("bytes=-5", SIZE - 5, SIZE), ("bytes=100-", 100, SIZE)],
    )
    def test_a_part_is_served(self, site, wanted, first, stop):
        for condition in ({}, {"If-Range": site.tag()}, {"If-Range": NOW}):
            answer = site.hit(headers={"Range": wanted, **condition})
            assert (answer.status, answer.body) == (206, BODY.encode()[first:stop])
            assert answer.get("Content-Range") == f"bytes {first}-{stop - 1}/{SIZE}"
            assert answer.get("Content-Length") == str(stop - first)
        head = site.hit(method="HEAD", headers={"Range": wanted})
        assert (head.status, head.get("Content-Length")) == (200, str(SIZE))

    def test_what_is_no_part_of_this_version_is_the_whole(self, site):
        for headers in (
            {"Range": "bytes=0-1,3-4"},
            {"Range": "lines=1-2"},
            {"Range": "bytes=0-9", "If-Range": '"other"'},
            {"Range": "bytes=0-9", "Accept-Encoding": "gzip"},
        ):
            answer = site.hit(headers=headers)
            assert (answer.status, answer.get("Content-Range")) == (200, None)
            assert answer.get("Content-Length") == str(len(answer.body))

    def test_a_part_behind_the_end_is_416(self, site):
        answer = site.hit(headers={"Range": f"bytes={SIZE}-"})
        assert (answer.status, answer.body) == (416, b"")
        assert answer.get("Content-Range") == f"bytes */{SIZE}"

    def test_cookies_and_other_headers_change_nothing(self, site):
        plain = site.hit()
        for name in ("Cookie", "User-Agent", "X-Forwarded-Host", "Accept-Language", "Origin"):
            assert site.hit(headers={name: "a=b"}) == plain

    def test_a_server_that_leaves_out_empty_variables_is_understood(self, site):
        def bare(environ, start_response):
            for name in ("SCRIPT_NAME", "QUERY_STRING"):
                del environ[name]
            return site.app(environ, start_response)

        assert site.hit(app=bare) == site.hit()

    def test_a_server_may_do_with_the_headers_what_it_likes(self, site):
        def clearing(environ, start_response):
            def start(status, headers, exc_info=None):
                start_response(status, list(headers))
                headers.clear()

            return site.app(environ, start)

        for headers in ({}, {"If-None-Match": site.tag()}, {"Range": "bytes=0-9"}):
            wanted = site.hit(headers=headers)
            for _ in range(2):
                assert site.hit(app=clearing, headers=headers) == wanted

    def test_the_body_is_a_list_of_one(self, site):
        chunks = []

        def keep(environ, start_response):
            chunks.append(site.app(environ, start_response))
            return chunks[-1]

        for headers, count in (({}, 1), ({"Range": "bytes=0-9"}, 1), ({"If-None-Match": "*"}, 0)):
            site.hit(app=keep, headers=headers)
            assert (type(chunks[-1]), len(chunks[-1])) == (list, count)

    def test_signals_say_what_was_sent(self, site, tier):
        tag, heard = site.tag(), []
        sent = [
            ({}, "GET", 200, "identity"),
            ({"Accept-Encoding": "gzip"}, "GET", 200, "gzip"),
            ({"If-None-Match": tag}, "GET", 304, "identity"),
            ({"If-None-Match": "*", "Accept-Encoding": "br"}, "GET", 304, "br"),
            ({}, "HEAD", 200, "identity"),
            ({"Range": "bytes=0-9"}, "GET", 206, "identity"),
            ({"Accept-Encoding": "identity;q=0"}, "GET", 406, ""),
        ]
        with signals.page_served.connected_to(lambda app, **facts: heard.append(facts), site.app):
            for headers, method, status, _ in sent:
                assert site.ask(method=method, headers=headers).status == status
        source = "store" if tier else "memory"
        common = {"key": "/page", "source": source, "state": "fresh"}
        assert heard == [
            {**common, "status": status, "encoding": coding} for _, _, status, coding in sent
        ]

    def test_a_receiver_that_raises_changes_nothing(self, site, caplog):
        def fail(sender, **facts):
            raise ValueError("a receiver's bug")

        plain = site.hit()
        with signals.page_served.connected_to(fail, site.app):
            assert site.hit() == plain
            assert site.hit(headers={"If-None-Match": "*"}).status == 304
        assert caplog.text.count("A receiver of the signal 'page-served' raised") == 2

    def test_it_is_noted_that_a_first_visit_is_asked_for(self, site, clock):
        noted = site_of(site.app).asked_for
        for sent in ({}, {"method": "HEAD"}, {"headers": {"If-None-Match": site.tag()}}):
            clock.forward(1)
            noted.clear()
            site.hit(**sent)
            assert noted == {"/page": clock.now}

    def test_it_is_noted_of_a_page_that_never_gets_old(self, make, tier, clock):
        site = make(tier, revalidate=None).warm()
        noted = site_of(site.app).asked_for
        for seconds in (1, 0, 0.5, 0.5):
            clock.forward(seconds)
            noted.clear()
            site.hit()
            # Once a second is enough: what was not asked for the longest time makes room.
            assert noted == ({"/page": clock.now} if clock.now % 1 == 0 and seconds else {})

    def test_it_is_noted_that_a_page_was_used(self, site):
        memory = site_of(site.app).memory
        ready = memory.get("/page") or memory.recall("/page")
        for headers in ({}, {"If-None-Match": site.tag()}, {"Range": "bytes=0-1"}):
            ready.used = False
            site.hit(headers=headers)
            assert ready.used

    def test_the_life_that_is_left_is_restated(self, site, clock):
        for left in (60, 59.5, 30, 1):
            clock.now = 1_800_000_060.0 - left
            answer = site.hit()
            seconds = 60 if left == 59.5 else left
            assert answer.get("Cache-Control") == f"public, max-age=0, s-maxage={seconds}"
            assert answer.get("Cache-Status") == f"flask-prerender; hit; ttl={seconds}"
            unchanged = site.hit(headers={"If-None-Match": answer.get("ETag")})
            assert unchanged.get("Cache-Status") == answer.get("Cache-Status")

    @pytest.mark.parametrize("verb", ["purge", "revalidate"])
    def test_what_another_process_takes_back_is_so_at_the_next_request(self, site, make_app, verb):
        other = make_app()
        site.view.does = None
        with other.app_context():
            getattr(Prerender(), verb)(tag="under:/")
        if verb == "revalidate":
            assert "s-maxage=2" in site.ask().get("Cache-Control")
            settle(site.app)
        for _ in range(3):
            assert site.ask().body == b"render 2"
        assert site.hit().body == b"render 2"

    def test_what_another_process_stores_is_so_at_the_next_request(self, site, make_app):
        other = make_app()
        View(other).does = lambda: "from elsewhere"
        with other.app_context():
            Prerender().refresh("/page")
        for _ in range(2):
            assert site.hit().body == b"from elsewhere"

    def test_a_page_that_goes_is_gone(self, site):
        found = site_of(site.app)
        found.store.delete(["/page"])
        found.coordination.advance()
        site.view.does = lambda: "another"
        assert site.ask().get("Cache-Status") == "flask-prerender; fwd=uri-miss; stored"
        assert site.hit().body == b"another"

    @pytest.mark.parametrize("damage", [b"", b"x", BODY.swapcase().encode()])
    def test_a_damaged_body_is_never_served(self, site, tmp_path, tier, damage):
        page = site_of(site.app).store.get("/page")
        name = page.identity.digest
        (blob,) = tmp_path.rglob(f"blobs/*/{name}")
        blob.unlink()
        blob.write_bytes(damage)
        if not tier:
            site_of(site.app).memory.clear()
        for _ in range(3):
            assert site.ask().body == BODY.encode()
        assert site.view.renders == 2
        assert site.hit().body == BODY.encode()

    def test_what_goes_wrong_is_the_apps(self, site, monkeypatch, caplog):
        def fail(*values, **facts):
            raise KeyError("a bug")

        monkeypatch.setattr(Server, "_find", fail)
        monkeypatch.setattr(Server, "load_body", fail)
        site_of(site.app).memory.clear()
        site.view.does = None
        for _ in range(3):
            answer = site.ask()
            assert (answer.status, answer.body) == (200, b"for one visitor")
            assert answer.get("Cache-Status") == "flask-prerender; fwd=uri-miss; detail=error"
        assert "a bug" in caplog.text

    @pytest.mark.parametrize("what", ["page", "body"])
    def test_a_fork_that_nobody_told_of_leaves_no_lock_held(self, site, what):
        found = site_of(site.app)
        ready = found.memory.get("/page") or found.memory.recall("/page")
        ready.lighten() if what == "body" else found.memory.clear()
        found._pid = -1
        found.memory._lock.acquire()
        answers = []
        thread = threading.Thread(target=lambda: answers.append(site.ask()), daemon=True)
        thread.start()
        thread.join(20)
        assert [answer.body for answer in answers] == [BODY.encode()]


class TestNoHits:
    """What is not a hit of a plain page goes by Flask, and comes out as by the hook."""

    def test_signed_in_visitors_are_the_apps(self, make):
        site = make().warm()
        site.view.does = None
        answer = site.ask(headers={"Authorization": "Basic YTpi"})
        assert (answer.body, answer.get("X-Prerendered")) == (b"for one visitor", None)
        assert answer.get("Cache-Status") == "flask-prerender; fwd=bypass; detail=authorization"
        assert answer.get("Cache-Control") == "private, no-store"

    def test_what_the_app_adds_to_every_answer_makes_none_private(self, make):
        site = make(revalidate=60)

        @site.app.after_request
        def add(response):
            response.headers["X-Content-Type-Options"] = "nosniff"
            return response

        tag = site.warm().tag()
        for status, control, sent in (
            (200, "public, max-age=0, s-maxage=60", {}),
            (304, "public, max-age=0, s-maxage=60", {"If-None-Match": tag}),
            (406, "no-store", {"Accept-Encoding": "identity;q=0, *;q=0"}),
            (416, "public, max-age=0, s-maxage=60", {"Range": f"bytes={SIZE}-"}),
        ):
            answer = site.ask(headers=sent)
            assert (answer.status, answer.get("Cache-Control")) == (status, control)

    def test_a_guard_that_runs_before_us_is_asked(self, make, caplog):
        site = make()

        def guard():
            if "HTTP_X_MEMBER" not in request.environ and not is_rendering():
                abort(401)

        site.app.before_request_funcs[None].insert(0, guard)
        member = {"X-Member": "yes"}
        assert [site.ask(headers=member).status for _ in range(3)] == [200] * 3
        assert site.ask().status == 401
        assert caplog.text.count("hits go by Flask all the same") == (site.door == "wsgi")
        assert ("<locals>.guard" in caplog.text) == (site.door == "wsgi")

    def test_what_was_wrapped_around_the_app_before_us_sees_each_request(
        self, make_app, wsgi_get, monkeypatch, caplog, door
    ):
        def __init__(self, *names, **options):
            init(self, *names, **options)
            inner = self.wsgi_app
            self.seen = []
            self.wsgi_app = lambda environ, start: self.seen.append(1) or inner(environ, start)

        init = Flask.__init__
        monkeypatch.setattr(Flask, "__init__", __init__)
        site = Site(door, make_app, wsgi_get).warm()
        site.app.seen.clear()
        assert [site.ask().get("X-Prerendered") for _ in range(3)] == ["true"] * 3
        assert len(site.app.seen) == 3
        assert ("wrapped before Prerender" in caplog.text) == (door == "wsgi")

    def test_what_wants_a_websocket_is_the_apps(self, make):
        site = make().warm()
        answer = site.ask(headers={"Connection": "Upgrade", "Upgrade": "websocket"})
        assert (answer.status, site.reached) == (400, [site.path])

    @pytest.mark.parametrize("method", ["POST", "PUT", "OPTIONS", "PURGE"])
    def test_other_methods_are_the_apps(self, make, method):
        site = make().warm()
        answer = site.ask(method=method)
        assert site.reached == ["/page"]
        assert answer.status == (200 if method == "OPTIONS" else 405)
        assert answer.get("X-Prerendered") is None

    def test_a_declared_query_is_another_page(self, make):
        site = make(query=["n"]).warm()
        site.view.does = lambda: f"page {request.args.get('n')}"
        for number in (1, 2):
            answers = [site.ask(query=f"n={number}") for _ in range(3)]
            assert {answer.body for answer in answers} == {b"page %d" % number}
            assert answers[-1].get("Cache-Status") == "flask-prerender; hit; ttl=60"
        assert site.hit().body == BODY.encode()

    def test_a_query_that_is_ignored_changes_nothing(self, make):
        site = make().warm()
        plain = site.hit()
        assert site.ask(query="utm_source=mail&fbclid=1") == plain

    def test_a_query_that_nobody_declared_is_the_apps(self, make):
        site = make().warm()
        site.view.does = None
        answer = site.ask(query="a=1")
        assert (answer.body, answer.get("X-Prerendered")) == (b"for one visitor", None)
        assert answer.get("Cache-Status") == "flask-prerender; fwd=bypass; detail=query"
        assert site.hit().body == BODY.encode()

    @pytest.mark.parametrize("where", ["mark", "settings"])
    def test_pages_for_crawlers_are_for_crawlers(self, make, where):
        config = {"PRERENDER_VISITORS": "bots"} if where == "settings" else {}
        options = {} if config else {"visitors": "bots"}
        site = make(config, **options)
        bot = {"headers": {"User-Agent": GOOGLEBOT}}
        for _ in range(3):
            answer = site.ask(**bot)
            assert (answer.get("X-Prerendered"), answer.body) == ("true", BODY.encode())
            assert answer.get("Vary") == "Accept-Encoding, User-Agent"
            assert site.ask().get("X-Prerendered") is None
        assert site.ask().get("Cache-Status") == "flask-prerender; fwd=bypass; detail=visitors"

    def test_a_page_that_is_for_crawlers_from_now_on_is_so_at_once(self, make, make_app, wsgi_get):
        site = make().warm()
        other = make_app()
        View(other, visitors="bots")
        with other.app_context():
            Prerender().refresh("/page")
        site.ask()  # made again, for all
        assert site.hit().get("Vary") == "Accept-Encoding"

    @pytest.mark.parametrize(
        "options",
        [{"revalidate": "headers"}, {"vary": {"Accept-Language": ["en", "de"]}}],
        ids=str,
    )
    def test_pages_that_differ_by_request_go_by_flask(self, make, options):
        site = make(**options)
        site.view.does = lambda: (BODY, {"Cache-Control": "max-age=60"})
        for number in range(4):
            answer = site.ask(headers={"Accept-Language": "de"})
            assert (answer.get("X-Prerendered"), len(site.reached)) == ("true", number + 1)

    def test_under_another_mount_the_app_answers(self, make):
        site = make().warm()
        site.view.does = None
        for _ in range(2):
            answer = site.ask(environ={"SCRIPT_NAME": "/elsewhere"})
            assert (answer.body, answer.get("X-Prerendered")) == (b"for one visitor", None)
        assert answer.get("Cache-Status") == "flask-prerender; fwd=bypass; detail=mount"

    def test_a_mounted_app_has_its_pages_there(self, make):
        site = make({"PRERENDER_BASE_URL": "https://example.com/shop"})
        shop = DispatcherMiddleware(lambda environ, start: [], {"/shop": site.app})
        for _ in range(3):
            site.ask("/shop/page", app=shop)
        assert site.hit("/shop/page", app=shop).body == BODY.encode()
        assert site.ask().get("Cache-Status") == "flask-prerender; fwd=bypass; detail=mount"

    def test_a_host_that_is_not_trusted_is_refused(self, make):
        site = make({"TRUSTED_HOSTS": ["localhost", ".example.com"]})
        for host in ("localhost", "a.example.com"):
            for _ in range(3):
                assert site.ask(headers={"Host": host}).status == 200
            assert site.hit(headers={"Host": host}).body == BODY.encode()
        for _ in range(2):
            assert site.ask(headers={"Host": "evil.example"}).status == 400

    @pytest.mark.parametrize("mode", ["debug", "testing"])
    def test_debug_and_test_modes_are_noticed_within_a_second(self, make, clock, mode):
        site = make().warm()
        site.view.does = None
        for serves in (False, True):
            setattr(site.app, mode, not serves)
            clock.forward(1)
            answer = site.ask()
            assert (answer.get("X-Prerendered") == "true") == serves
            if not serves:
                told = "flask-prerender; fwd=bypass; detail=disabled"
                assert (answer.body, answer.get("Cache-Status")) == (b"for one visitor", told)

    def test_a_stale_page_is_served_and_made_new_once(self, make, clock):
        site = make().warm()
        site.view.does = lambda: f"render {site.view.renders}"
        clock.forward(60)
        answer = site.ask()
        assert (answer.body, answer.get("Cache-Control")) == (
            BODY.encode(), "public, max-age=0, s-maxage=2",
        )  # fmt: skip
        assert answer.get("Cache-Status") == "flask-prerender; hit; ttl=0"
        settle(site.app)
        assert site.hit().body == b"render 2"
        assert site.view.renders == 2

    def test_an_expired_page_is_made_before_it_answers(self, make, clock):
        site = make(expire=100).warm()
        site.view.does = lambda: f"render {site.view.renders}"
        clock.forward(100)
        answer = site.ask()
        assert answer.body == b"render 2"
        assert answer.get("Cache-Status") == "flask-prerender; fwd=stale; stored"
        assert site.hit().body == b"render 2"

    def test_a_clock_that_goes_back_makes_a_page_stale_and_never_frozen(self, make, clock):
        site = make().warm()
        clock.forward(-3600)
        assert "s-maxage=2" in site.ask().get("Cache-Control")
        settle(site.app)
        assert "s-maxage=60" in site.hit().get("Cache-Control")

    def test_a_view_that_asks_for_another_page_gets_it_from_its_view(self, make, wsgi_get):
        site = make()

        @site.app.route("/around")
        @site.app.prerender
        def around():
            return wsgi_get(site.app, "/page").body

        site.warm().view.does = None
        assert site.ask("/around").body == b"for one visitor"
        assert site.hit().body == BODY.encode()

    def test_a_render_is_no_hit_and_no_client_can_pretend_to_be_one(self, make):
        site = make().warm()
        for name in ("flask_prerender.render", "HTTP_FLASK_PRERENDER_RENDER", "HTTP_X_PRERENDER"):
            assert site.ask(environ={name: "1"}).body == BODY.encode()
        site.view.does = None
        with site.app.app_context():
            (outcome,) = Prerender().refresh("/page")
        assert outcome.result == "published"
        assert site.hit().body == b"render 2"

    def test_a_page_of_another_status_is_a_hit_without_conditions(self, make):
        site = make(statuses=[200, 404])
        site.view.does = lambda: (BODY, 404)
        for _ in range(3):
            answer = site.ask()
        assert (answer.status, answer.get("X-Prerendered")) == (404, "true")
        site.reached.clear()
        for headers in ({"If-None-Match": "*"}, {"Range": "bytes=0-9"}, {"If-None-Match": "x"}):
            assert site.ask(headers=headers).status == 404
        assert bool(site.reached) == (site.door == "hook")

    def test_our_own_headers_can_be_left_out(self, make):
        site = make({"PRERENDER_HEADERS": False, "PRERENDER_CACHE_CONTROL": "public, max-age=9"})
        for _ in range(4):
            answer = site.ask()
        assert (answer.get("X-Prerendered"), answer.get("Cache-Status")) == (None, None)
        assert answer.get("Cache-Control") == "public, max-age=9"

    @pytest.mark.parametrize("path", ["/named/ä b", "/named/100%", "/named/a?b", "/named/日本"])
    def test_a_name_in_any_script_is_a_hit(self, make, path):
        site = make(path="/named/<name>")
        for _ in range(2):
            site.ask(path)
        assert site.hit(path).body == BODY.encode()
        assert site.view.renders == 1

    def test_a_path_that_looks_like_a_key_is_not_that_page(self, make):
        site = make(path="/<path:name>", query=["n"])
        site.view.does = lambda: f"{request.path} {request.args.get('n')}"
        for _ in range(3):
            assert site.ask("/a", query="n=1").body == b"/a 1"
            assert site.ask("/a?n=1").body == b"/a?n=1 None"

    def test_the_limit_of_memory_holds(self, make):
        site = make({"PRERENDER_MEMORY_BYTES": 100_000}, path="/<name>")
        names = [f"/{number}" for number in range(30)]
        for _ in range(3):
            for name in names:
                assert site.ask(name).body == BODY.encode()
        found = site_of(site.app)
        assert found.memory.weight <= 100_000
        assert site.view.renders == len(names)
        assert site.hit(names[0]).body == BODY.encode()

    def test_first_visits_are_rendered_once(self, make):
        site = make()
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(site.ask())) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_until(lambda: len(answers) == 5)
        assert {answer.body for answer in answers} == {BODY.encode()}
        assert site.view.renders == 1
        assert site.hit().body == BODY.encode()

"""Values kept in memory, bounded in bytes."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_prerender import Prerender
from flask_prerender.memory import Memory
from flask_prerender.signals import page_served
from flask_prerender.stores.memory import MemoryStore


@dataclass
class Thing:
    weight: int
    used: bool = False
    lightened: bool = False
    is_stored: bool = True

    def lighten(self):
        self.lightened = self.is_stored
        self.weight = min(self.weight, 5)
        return self.is_stored


def kept(memory, *keys):
    return [key for key in keys if memory.get(key) is not None]


# The dictionary.


def test_what_was_put_is_found():
    memory = Memory(800)
    thing = Thing(10)
    assert memory.put("/a", thing)
    assert memory.get("/a") is thing
    assert (len(memory), memory.weight) == (1, 10)


def test_what_was_never_put_is_not_found():
    assert Memory(800).get("/a") is None


def test_a_second_put_replaces_the_first():
    memory = Memory(800)
    memory.put("/a", Thing(10))
    second = Thing(30)
    memory.put("/a", second)
    assert memory.get("/a") is second
    assert (len(memory), memory.weight) == (1, 30)


def test_a_value_that_grew_is_weighed_again():
    memory = Memory(800)
    thing = Thing(10)
    memory.put("/a", thing)
    thing.weight = 90
    memory.put("/a", thing)
    assert memory.weight == 90
    memory.drop("/a")
    assert memory.weight == 0


def test_dropping_forgets_one_value_and_no_other():
    memory = Memory(800)
    memory.put("/a", Thing(10))
    memory.put("/b", Thing(20))
    memory.drop("/a")
    assert (kept(memory, "/a", "/b"), len(memory), memory.weight) == (["/b"], 1, 20)


def test_dropping_what_is_not_there_changes_nothing():
    memory = Memory(800)
    memory.put("/a", Thing(10))
    memory.drop("/b")
    assert (len(memory), memory.weight) == (1, 10)


def test_clearing_forgets_everything():
    memory = Memory(800)
    for key in "abc":
        memory.put(key, Thing(10))
    memory.clear()
    assert (kept(memory, *"abc"), len(memory), memory.weight) == ([], 0, 0)
    assert memory.put("a", Thing(10))


def test_one_value_may_take_an_eighth_and_no_more():
    memory = Memory(800)
    assert memory.put("/fits", Thing(100))
    assert not memory.put("/big", Thing(101))
    assert kept(memory, "/fits", "/big") == ["/fits"]


def test_a_value_that_became_too_large_is_forgotten():
    memory = Memory(800)
    memory.put("/a", Thing(10))
    assert not memory.put("/a", Thing(101))
    assert (memory.get("/a"), memory.weight) == (None, 0)


def test_no_bytes_keep_nothing():
    memory = Memory(0)
    assert not memory.put("/a", Thing(1))
    assert len(memory) == 0


def test_what_nobody_used_makes_room_oldest_first():
    memory = Memory(800)
    for n in range(8):
        memory.put(f"/{n}", Thing(100))
    memory.put("/new", Thing(100))
    assert kept(memory, *(f"/{n}" for n in range(8))) == [f"/{n}" for n in range(1, 8)]
    assert memory.weight == 800


def test_what_was_used_gets_a_second_chance_and_no_third():
    memory = Memory(800)
    for n in range(8):
        memory.put(f"/{n}", Thing(100))
    memory.get("/0").used = True
    memory.put("/8", Thing(100))
    assert kept(memory, "/0", "/1") == ["/0"]
    for n in range(9, 16):
        memory.put(f"/{n}", Thing(100))
    assert kept(memory, "/0", "/7") == []


def test_when_all_were_used_the_oldest_goes():
    memory = Memory(800)
    for n in range(8):
        memory.put(f"/{n}", Thing(100, used=True))
    memory.put("/new", Thing(100, used=True))
    assert kept(memory, "/0", "/1", "/new") == ["/1", "/new"]


# What goes below.


def test_what_makes_room_goes_below_lightened():
    memory = Memory(800, below := Memory(800))
    for n in range(9):
        memory.put(f"/{n}", Thing(100))
    assert (kept(memory, "/0", "/1"), kept(below, "/0", "/1")) == (["/1"], ["/0"])
    assert memory.recall("/0").lightened
    assert (memory.weight, below.weight) == (800, 5)


def test_what_is_too_large_goes_below_at_once():
    memory = Memory(0, below := Memory(800))
    assert not memory.put("/a", Thing(101))
    assert (memory.get("/a"), below.get("/a").lightened) == (None, True)
    assert Memory(0).recall("/a") is None


def test_what_cannot_be_read_again_goes_nowhere():
    memory = Memory(0, below := Memory(800))
    memory.put("/a", Thing(1, is_stored=False))
    assert (len(memory), len(below)) == (0, 0)


def test_no_value_is_in_both():
    memory = Memory(800, below := Memory(800))
    memory.put("/a", thing := Thing(101))
    assert below.get("/a") is thing
    memory.put("/a", thing)
    assert (memory.get("/a"), below.get("/a"), below.weight) == (thing, None, 0)


@pytest.mark.parametrize("how", ["drop", "clear"])
def test_forgetting_reaches_what_is_below(how):
    memory = Memory(0, below := Memory(800))
    memory.put("/a", Thing(1))
    memory.drop("/a") if how == "drop" else memory.clear()
    assert (memory.recall("/a"), below.weight) == (None, 0)


keys = st.sampled_from("abcdefgh")
steps = st.one_of(
    st.tuples(st.just("put"), keys, st.integers(0, 15), st.booleans()),
    st.tuples(st.just("drop"), keys),
    st.tuples(st.just("use"), keys),
)


@given(st.lists(steps, max_size=60))
def test_the_limit_holds_and_the_books_are_right(todo):
    memory = Memory(80, below := Memory(40))
    for step, key, *rest in todo:
        if step == "put":
            assert memory.put(key, Thing(*rest)) == (rest[0] <= 10)
        elif step == "drop":
            memory.drop(key)
        elif found := memory.get(key):
            found.used = True
        there = [found for key in "abcdefgh" if (found := memory.get(key)) is not None]
        assert memory.weight == sum(found.weight for found in there) <= 80
        assert len(memory) == len(there)
        found = {key: value for key in "abcdefgh" if (value := below.get(key)) is not None}
        assert below.weight == sum(value.weight for value in found.values()) <= 40
        assert kept(memory, *found) == []


def test_many_threads_keep_the_books_right():
    memory = Memory(800)
    start = threading.Barrier(8)
    failures = []

    def work(number):
        start.wait()
        try:
            for n in range(400):
                memory.put(f"/{(n * number) % 30}", Thing(n % 100))
                memory.drop(f"/{n % 7}")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    there = [found for n in range(30) if (found := memory.get(f"/{n}")) is not None]
    assert memory.weight == sum(found.weight for found in there) <= 800


# Pages in it.

BODY = "".join(f"<p>Line {n} of a page that compresses well.</p>\n" for n in range(100))


class CountingStore(MemoryStore):
    def __init__(self):
        super().__init__()
        self.gets = self.reads = 0

    def get(self, key):
        self.gets += 1
        return super().get(key)

    def read(self, page, variant):
        self.reads += 1
        return super().read(page, variant)


@pytest.fixture
def site(make_app, wsgi_get):
    """Make a site of many pages of about 5 kB; return it, its store, and how to ask it."""

    def build(config=None, body=BODY):
        store = CountingStore()
        app = make_app(config, store=store)

        @app.route("/<name>")
        @app.prerender
        def page(name):
            return f"{name}{body}"

        def ask(path, **headers):
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            answer = wsgi_get(app, path, headers=sent)
            assert answer.status in (200, 206, 304)
            assert answer.get("X-Prerendered") == "true"
            return answer

        return app.extensions["prerender"], store, ask

    return build


def test_a_hit_never_asks_the_store(site):
    _, store, ask = site()
    ask("/a")
    store.gets = store.reads = 0
    for _ in range(20):
        ask("/a")
        ask("/a", If_None_Match="*")
        ask("/a", Range="bytes=0-9")
    assert (store.gets, store.reads) == (0, 0)


def test_each_variant_is_read_once(site):
    _, store, ask = site()
    ask("/a")
    store.gets = store.reads = 0
    for _ in range(5):
        for coding in ("br", "gzip", "zstd"):
            ask("/a", Accept_Encoding=coding)
    assert (store.gets, store.reads) == (0, 3)


def test_a_head_and_a_304_need_no_body(site, wsgi_get):
    first, store, ask = site()
    ask("/a")
    first.memory.clear()
    store.reads = 0
    ask("/a", If_None_Match="*")
    assert wsgi_get(first.app, "/a", method="HEAD").get("Content-Length") == str(len(BODY) + 1)
    assert store.reads == 0


def test_when_the_revision_moves_the_store_is_asked_once(site):
    prerender, store, ask = site()
    ask("/a")
    store.gets = store.reads = 0
    for _ in range(3):
        prerender.coordination.advance()
        ask("/a")
        ask("/a")
    assert (store.gets, store.reads) == (3, 0)


def test_a_page_stored_elsewhere_is_seen_at_the_next_request(site, clock):
    from dataclasses import replace

    prerender, store, ask = site()
    other = ask("/b").body
    ask("/a")
    there = store.get("/b")
    store.put(replace(store.get("/a"), variants=there.variants, changed_at=clock.now + 1), {})
    assert ask("/a").body != other
    prerender.coordination.advance()
    assert ask("/a").body == other


def test_a_page_removed_elsewhere_is_gone_at_the_next_request(site, wsgi_get):
    prerender, store, ask = site({"PRERENDER_FALLBACK": "render"})
    ask("/a")
    store.delete(["/a"])
    prerender.coordination.advance()
    answer = ask("/a")
    assert answer.get("Cache-Status") == "flask-prerender; fwd=uri-miss; stored"


def test_memory_stays_within_its_bytes_and_every_page_is_served(site):
    prerender, _, ask = site({"PRERENDER_MEMORY_BYTES": 80_000})
    for n in range(60):
        assert ask(f"/{n}").body.startswith(f"{n}<p>".encode())
        assert prerender.memory.weight <= 80_000
    assert 5 <= len(prerender.memory) < 60
    for n in range(60):
        assert ask(f"/{n}").body.startswith(f"{n}<p>".encode())


def test_what_is_asked_for_stays_in_memory_while_others_pass(site):
    _, store, ask = site({"PRERENDER_MEMORY_BYTES": 80_000})
    for n in range(60):
        ask(f"/{n}")
    ask("/hot")
    reads = []
    for n in range(60):
        ask(f"/{n}")
        store.reads = 0
        ask("/hot")
        reads.append(store.reads)
    assert reads == [0] * 60


def test_without_memory_every_hit_reads_its_body(site):
    prerender, store, ask = site({"PRERENDER_MEMORY_BYTES": 0})
    ask("/a")
    store.gets = store.reads = 0
    sources = []

    def note(app, source, **extra):
        sources.append(source)

    with page_served.connected_to(note):
        bodies = {ask("/a").body for _ in range(3)}
    assert bodies == {f"a{BODY}".encode()}
    assert (store.gets, store.reads, sources) == (0, 3, ["store"] * 3)
    assert (len(prerender.memory), prerender.memory.weight) == (0, 0)
    prerender.coordination.advance()
    ask("/a")
    ask("/a")
    assert (store.gets, store.reads) == (1, 5)


def test_pages_that_left_memory_come_back_with_their_bodies(site):
    prerender, store, ask = site({"PRERENDER_MEMORY_BYTES": 80_000})
    names = [f"/{n}" for n in range(14)]
    for name in names:
        ask(name)
    inside = [name for name in names if prerender.memory.get(name)]
    below = [name for name in names if prerender.memory.recall(name)]
    assert inside
    assert sorted(inside + below) == sorted(names)
    assert all(sent.body is None for sent in prerender.memory.recall(below[0]).sent.values())
    store.gets = store.reads = 0
    for _ in range(3):
        assert ask(below[0]).body == f"{below[0][1:]}{BODY}".encode()
    # Its row once, for the pages stored since moved the revision; its body until it was inside.
    assert (store.gets, store.reads) == (1, 1)
    assert prerender.memory.weight <= 80_000


@pytest.mark.parametrize("limit", [0, 64 * 1024 * 1024])
def test_a_purged_page_that_is_made_again_with_the_same_bytes_is_served(site, wsgi_get, limit):
    prerender, _, ask = site({"PRERENDER_MEMORY_BYTES": limit})
    ask("/a")
    with prerender.app.app_context():
        Prerender().purge("/a")
    answer = wsgi_get(prerender.app, "/a")
    assert answer.get("Cache-Status") == "flask-prerender; fwd=stale; stored"


def test_what_is_remembered_without_memory_is_bounded(site):
    prerender, _, ask = site({"PRERENDER_MEMORY_BYTES": 0, "PRERENDER_MAX_PAGES": 100_000})
    below = prerender.memory._below
    below.limit = 40_000
    for n in range(30):
        ask(f"/{n}")
    assert 0 < len(below) < 30
    assert below.weight <= 40_000


def test_a_page_too_big_for_memory_is_served_from_the_store(site):
    prerender, store, ask = site({"PRERENDER_MEMORY_BYTES": 200_000}, body="x" * 30_000)
    ask("/big")
    store.reads = 0
    for _ in range(3):
        assert ask("/big").body == b"big" + b"x" * 30_000
    assert store.reads == 3
    assert prerender.memory.weight <= 200_000


def test_what_a_page_weighs_is_what_it_holds(site):
    prerender, _, ask = site()
    ask("/a")
    light = prerender.memory.weight
    assert light > len(BODY)
    packed = len(ask("/a", Accept_Encoding="gzip").body)
    assert prerender.memory.weight == light + packed

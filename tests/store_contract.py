"""What every store must do. A test class takes it over and says how its store is made."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant
from hypothesis.stateful import rule
from hypothesis.stateful import RuleBasedStateMachine

from flask_prerender.errors import BlobMissingError
from flask_prerender.errors import CollisionError
from flask_prerender.errors import FencedError
from flask_prerender.errors import StoreError
from flask_prerender.page import digest
from flask_prerender.page import Page
from flask_prerender.page import Variant
from flask_prerender.stores.base import Budget
from flask_prerender.stores.base import Store


def make_page(
    key: str = "/about",
    body: bytes = b"<h1>About</h1>",
    *,
    file: str | None = None,
    gzip: bytes | None = b"about, squeezed",
    **facts: object,
) -> tuple[Page, dict[str, bytes]]:
    """Return a page and its bodies, as publishing hands them over."""
    bodies = {"identity": body}
    if gzip is not None:
        bodies["gzip"] = gzip
    page = Page(
        key=key,
        rule="/<name>",
        endpoint="page",
        file=f"{key.strip('/')}/index.html".lstrip("/") if file is None else file,
        status=200,
        headers=(("Content-Type", "text/html; charset=utf-8"),),
        variants=tuple(Variant(name, digest(data), len(data)) for name, data in bodies.items()),
        tags=("news",),
        revision=7,
        token=1,
        origin="build",
        build=1,
        generated_at=1_000.5,
        changed_at=1_000.5,
        checked_at=1_000.5,
        revalidate=60.0,
        options={"sitemap": {"priority": 0.5}},
    )
    return replace(page, **facts), bodies  # type: ignore[arg-type]


def put_visit(store: Store, key: str, size: int, **facts: object) -> None:
    """Store a page of a first visit that has this many bytes."""
    body = key.encode().ljust(size, b".")
    store.put(*make_page(key, body, gzip=None, **{"origin": "visit", "build": 0, **facts}))


def read_all(store: Store, page: Page) -> dict[str, bytes | None]:
    return {variant.encoding: store.read(page, variant) for variant in page.variants}


class StoreContract:
    @pytest.fixture
    def store(self) -> Iterator[Store]:
        raise NotImplementedError

    def test_a_page_comes_back_whole(self, store: Store) -> None:
        page, bodies = make_page()
        store.put(page, bodies)
        assert store.get("/about") == page
        assert read_all(store, page) == bodies

    def test_an_empty_store_has_nothing(self, store: Store) -> None:
        page, _ = make_page()
        assert store.get("/about") is None
        assert store.read(page, page.identity) is None
        assert list(store.pages()) == []
        assert len(list(store.pages())) == 0
        assert store.last_build() == 0
        assert store.delete(["/about"]) == 0
        store.sweep()

    def test_only_the_exact_key_finds_a_page(self, store: Store) -> None:
        store.put(*make_page("/about"))
        for other in ("/About", "/about/", "/about?x=1", "about", "", "/abou%74", "/about\0"):
            assert store.get(other) is None

    def test_a_second_put_replaces_the_page(self, store: Store) -> None:
        store.put(*make_page())
        page, bodies = make_page(body=b"new", gzip=None, status=404, tags=("other",))
        store.put(page, bodies)
        assert store.get("/about") == page
        assert read_all(store, page) == bodies
        assert len(list(store.pages())) == 1

    def test_a_reader_of_the_old_page_never_gets_new_bytes(self, store: Store) -> None:
        old, bodies = make_page()
        store.put(old, bodies)
        store.put(*make_page(body=b"new", gzip=b"newer"))
        for variant in old.variants:
            assert store.read(old, variant) in (bodies[variant.encoding], None)

    def test_stored_bodies_may_be_left_out(self, store: Store) -> None:
        page, bodies = make_page()
        store.put(page, bodies)
        later = replace(page, checked_at=2_000.0, build=2)
        store.put(later, {})
        assert store.get("/about") == later
        assert read_all(store, later) == bodies

    def test_a_body_left_out_may_be_that_of_another_page(self, store: Store) -> None:
        store.put(*make_page("/a"))
        page, bodies = make_page("/b")
        store.put(page, {})
        assert read_all(store, page) == bodies

    def test_a_body_that_nobody_has_may_not_be_left_out(self, store: Store) -> None:
        old, old_bodies = make_page()
        store.put(old, old_bodies)
        page, bodies = make_page(body=b"new", gzip=b"newer")
        del bodies["gzip"]
        with pytest.raises(BlobMissingError, match="/about"):
            store.put(page, bodies)
        assert store.get("/about") == old
        assert read_all(store, old) == old_bodies

    def test_pages_stored_together_come_back_whole(self, store: Store) -> None:
        batch = [make_page(f"/{number}", b"%d" % number) for number in range(5)]
        store.put(*make_page("/3", b"older"))
        assert store.put_all(batch) == [None] * 5
        assert list(store.pages()) == [page for page, _ in batch]
        for page, bodies in batch:
            assert read_all(store, page) == bodies
        assert store.put_all([]) == []

    def test_what_is_wrong_with_one_page_keeps_no_other_from_being_stored(
        self, store: Store
    ) -> None:
        store.put(*make_page("/late", b"newer", token=9))
        store.put(*make_page("/lacking", b"old"))
        good, bodies = make_page("/good", file="good.html")
        lacking, rest = make_page("/lacking", b"new", gzip=b"nobody has it")
        del rest["gzip"]
        batch = [
            (good, bodies),
            make_page("/other", file="good.html"),
            make_page("/late", b"older", token=8),
            (lacking, rest),
            make_page("/foreign", b"its own"),
            make_page("/last", b"last"),
        ]
        batch[4][1]["identity"] = b"another"
        kinds = [type(error) for error in store.put_all(batch)]
        nothing = type(None)
        assert kinds == [
            nothing, CollisionError, FencedError, BlobMissingError, StoreError, nothing
        ]  # fmt: skip
        stored = {page.key: read_all(store, page)["identity"] for page in store.pages()}
        assert stored == {
            "/good": bodies["identity"],
            "/lacking": b"old",
            "/last": b"last",
            "/late": b"newer",
        }

    def test_several_pages_are_found_at_once(self, store: Store) -> None:
        pages = {f"/{number}": make_page(f"/{number}") for number in range(700)}
        store.put_all(list(pages.values()))
        assert store.get_all(["/5", "/699", "/none", "/5"]) == {
            key: pages[key][0] for key in ("/5", "/699")
        }
        assert store.get_all(list(pages)) == {key: page for key, (page, _) in pages.items()}
        assert store.get_all([]) == {}

    def test_pages_of_earlier_builds_can_be_listed_alone(self, store: Store) -> None:
        for number in range(5):
            store.put(*make_page(f"/{number}", build=number))
        assert [page.key for page in store.pages(before=3)] == ["/0", "/1", "/2"]
        assert len(list(store.pages())) == 5

    def test_a_body_under_a_foreign_digest_is_refused(self, store: Store) -> None:
        page, bodies = make_page()
        with pytest.raises(StoreError, match="/about"):
            store.put(page, {**bodies, "gzip": b"about, exchanged"[:15]})
        assert store.get("/about") is None

    def test_two_keys_cannot_share_a_file(self, store: Store) -> None:
        first, bodies = make_page("/a", file="same.html")
        store.put(first, bodies)
        with pytest.raises(CollisionError) as caught:
            store.put(*make_page("/b", b"other", file="same.html"))
        assert (caught.value.key, caught.value.file, caught.value.owner) == (
            "/b",
            "same.html",
            "/a",
        )
        assert store.get("/b") is None
        assert read_all(store, first) == bodies

    def test_a_file_is_free_when_its_page_moved_or_went(self, store: Store) -> None:
        store.put(*make_page("/a", file="one.html"))
        store.put(*make_page("/a", file="two.html"))
        store.put(*make_page("/b", file="one.html"))
        store.delete(["/a"])
        store.put(*make_page("/c", file="two.html"))
        assert [page.key for page in store.pages()] == ["/b", "/c"]

    def test_deleting_says_how_many_there_were(self, store: Store) -> None:
        for key in ("/a", "/b", "/c"):
            store.put(*make_page(key))
        assert store.delete(key for key in ("/a", "/none", "/c", "/a")) == 2
        assert [page.key for page in store.pages()] == ["/b"]
        page, bodies = make_page("/b")
        assert read_all(store, page) == bodies

    def test_all_pages_can_be_deleted_while_they_are_listed(self, store: Store) -> None:
        for number in range(450):
            store.put(*make_page(f"/{number}"))
        assert store.delete(page.key for page in store.pages()) == 450
        assert len(list(store.pages())) == 0

    def test_pages_come_in_the_order_of_their_keys(self, store: Store) -> None:
        keys = [
            "/",
            "/z",
            "/a/b",
            "/a",
            "/a?q=1",
            "//host/a",
            "/%c3%a9",
            "/B",
            "/é",
            "/𝄞",
            "/\uffff",
        ]
        for number, key in enumerate(keys):
            store.put(*make_page(key, file=f"{number}.html"))
        assert [page.key for page in store.pages()] == sorted(keys)

    def test_many_pages_are_listed_once_each(self, store: Store) -> None:
        keys = [f"/{number:04}" for number in range(901)]
        for key in keys:
            store.put(*make_page(key, gzip=None))
        assert [page.key for page in store.pages()] == keys
        assert len(list(store.pages())) == 901

    def test_visits_are_counted_by_rule_and_weighed_together(self, store: Store) -> None:
        assert store.visits("/<name>") == (0, 0)
        store.put(*make_page("/built", b"x" * 100, gzip=b"x" * 10))
        assert store.visits("/<name>") == (0, 0)
        put_visit(store, "/a", 100)
        put_visit(store, "/b", 20, rule="/b")
        assert store.visits("/<name>") == (1, 120)
        assert store.visits("/b") == (1, 120)
        assert store.visits("/none") == (0, 120)

    def test_a_visit_that_changes_is_counted_as_it_is_now(self, store: Store) -> None:
        put_visit(store, "/a", 100)
        put_visit(store, "/b", 10)
        put_visit(store, "/a", 30)
        assert store.visits("/<name>") == (2, 40)
        put_visit(store, "/a", 30, rule="/other")
        assert store.visits("/<name>") == (1, 40)
        assert store.visits("/other") == (1, 40)
        store.delete(["/a", "/none"])
        assert store.visits("/other") == (0, 10)
        assert store.visits("/<name>") == (1, 10)

    def test_a_build_makes_a_page_of_a_visit_its_own(self, store: Store) -> None:
        put_visit(store, "/a", 100)
        store.put(*make_page("/a", b"x" * 100, gzip=None, origin="build", build=1))
        assert store.visits("/<name>") == (0, 0)
        assert store.evict(Budget("/<name>", 0, 0)) == {}
        assert store.get("/a") is not None

    def test_what_was_not_asked_for_longest_goes_first(self, store: Store) -> None:
        for moment, key in enumerate(("/c", "/a", "/d", "/b")):
            put_visit(store, key, 10, checked_at=float(moment))
        store.note_used({"/c": 11.0, "/a": 10.0, "/none": 12.0})
        store.note_used({"/c": 1.0, "/b": 2.5})
        assert store.evict(Budget("/<name>", 2, 1000)) == {"/d": "pages", "/b": "pages"}
        assert [page.key for page in store.pages()] == ["/a", "/c"]
        assert store.evict(Budget("/<name>", 2, 10)) == {"/a": "bytes"}
        assert store.visits("/<name>") == (1, 10)
        assert store.evict(Budget("/<name>", 1, 10)) == {}

    def test_of_two_asked_for_at_once_the_first_goes(self, store: Store) -> None:
        for key in ("/b", "/a", "/c"):
            put_visit(store, key, 10)
        assert store.evict(Budget("/<name>", 1, 1000)) == {"/b": "pages", "/a": "pages"}

    def test_a_page_that_is_made_again_keeps_its_place(self, store: Store) -> None:
        for moment, key in enumerate(("/a", "/b")):
            put_visit(store, key, 10, checked_at=float(moment))
        put_visit(store, "/a", 11, checked_at=5.0)
        assert store.evict(Budget("/<name>", 1, 1000)) == {"/a": "pages"}

    def test_pages_make_room_in_their_rule_and_bytes_in_all(self, store: Store) -> None:
        for moment, (key, one) in enumerate((("/a", "/1"), ("/b", "/2"), ("/c", "/1"))):
            put_visit(store, key, 10, checked_at=float(moment), rule=one)
        assert store.evict(Budget("/2", 1, 1000)) == {}
        assert store.evict(Budget("/2", 0, 10)) == {"/b": "pages", "/a": "bytes"}
        assert [page.key for page in store.pages()] == ["/c"]

    def test_no_budget_takes_a_page_of_a_build(self, store: Store) -> None:
        store.put(*make_page("/built", b"x" * 100))
        put_visit(store, "/a", 10)
        assert store.evict(Budget("/<name>", 0, 0)) == {"/a": "pages"}
        assert [page.key for page in store.pages()] == ["/built"]
        store.note_used({"/built": 5_000.0})
        assert store.evict(Budget("/<name>", 0, 0)) == {}

    def test_bodies_go_with_their_page_unless_another_has_them(self, store: Store) -> None:
        alone, bodies = make_page("/a", b"alone", gzip=b"shared", origin="visit", build=0)
        store.put(alone, bodies)
        built, _ = make_page("/b", b"shared", gzip=None)
        store.put(built, {"identity": b"shared"})
        store.evict(Budget("/<name>", 0, 0))
        assert read_all(store, alone) == {"identity": None, "gzip": b"shared"}
        assert read_all(store, built) == {"identity": b"shared"}

    def test_hundreds_of_pages_can_go_at_once(self, store: Store) -> None:
        for number in range(450):
            put_visit(store, f"/{number}", 10, checked_at=float(number))
        gone = store.evict(Budget("/<name>", 200, 1000))
        assert list(gone) == [f"/{number}" for number in range(350)]
        assert (gone["/249"], gone["/250"]) == ("pages", "bytes")
        assert store.visits("/<name>") == (100, 1000)

    def test_build_numbers_grow(self, store: Store) -> None:
        assert [store.next_build(), store.next_build()] == [1, 2]
        assert store.last_build() == 0

    def test_the_last_build_is_the_last_that_came_to_its_end(self, store: Store) -> None:
        for number in (store.next_build(), store.next_build()):
            store.finish_build(number)
        assert store.next_build() == 3
        assert store.last_build() == 2

    def test_a_sweep_leaves_every_page_whole(self, store: Store) -> None:
        page, bodies = make_page()
        store.put(*make_page(body=b"old", gzip=b"older"))
        store.put(page, bodies)
        store.put(*make_page("/other"))
        store.delete(["/other"])
        store.sweep()
        assert read_all(store, page) == bodies

    def test_a_late_writer_with_an_older_token_is_turned_away(self, store: Store) -> None:
        page, bodies = make_page(token=8)
        store.put(page, bodies)
        late, late_bodies = make_page(body=b"late", gzip=b"later", token=7)
        with pytest.raises(FencedError, match="/about was made under claim 7, and claim 8"):
            store.put(late, late_bodies)
        assert store.get("/about") == page
        assert read_all(store, page) == bodies

    def test_a_late_confirmation_is_turned_away_too(self, store: Store) -> None:
        page, bodies = make_page(token=8)
        store.put(page, bodies)
        with pytest.raises(FencedError):
            store.put(replace(page, token=7, checked_at=2_000.0), {})
        assert store.get("/about") == page

    def test_the_same_token_and_a_newer_one_may_write(self, store: Store) -> None:
        store.put(*make_page(token=8))
        for token, body in ((8, b"the same claim"), (9, b"a newer one")):
            page, bodies = make_page(body=body, gzip=None, token=token)
            store.put(page, bodies)
            assert store.get("/about") == page
            assert read_all(store, page) == bodies

    def test_tokens_are_compared_for_each_key_alone(self, store: Store) -> None:
        store.put(*make_page("/a", token=9))
        page, bodies = make_page("/b", token=1)
        store.put(page, bodies)
        assert store.get("/b") == page

    def test_a_page_that_was_deleted_holds_nobody_off(self, store: Store) -> None:
        store.put(*make_page(token=9))
        store.delete(["/about"])
        page, bodies = make_page(token=1)
        store.put(page, bodies)
        assert store.get("/about") == page

    def test_of_writers_at_once_the_newest_token_is_kept(self, store: Store) -> None:
        start = threading.Barrier(8)

        def write(token: int) -> None:
            start.wait(20)
            with suppress(FencedError):
                store.put(*make_page(body=b"%d" % token, gzip=None, token=token))

        threads = [threading.Thread(target=write, args=(n,)) for n in range(1, 9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        page = store.get("/about")
        assert page is not None
        assert page.token == 8
        assert read_all(store, page) == {"identity": b"8"}

    def test_an_empty_body_is_a_body(self, store: Store) -> None:
        page, bodies = make_page(body=b"", gzip=None)
        store.put(page, bodies)
        assert store.read(page, page.identity) == b""

    def test_a_closed_or_reopened_store_opens_again(self, store: Store) -> None:
        page, bodies = make_page()
        store.put(page, bodies)
        store.reopen()
        assert store.get("/about") == page
        store.close()
        assert read_all(store, page) == bodies
        assert store.get("/about") == page

    def test_threads_never_see_a_page_with_the_bytes_of_another(self, store: Store) -> None:
        versions = [make_page(body=b"%d" % n, gzip=b"z%d" % n, tags=(str(n),)) for n in range(4)]
        store.put(*versions[0])
        done = threading.Event()
        wrong: list[object] = []

        def read() -> None:
            while not done.is_set():
                try:
                    page = store.get("/about")
                    assert page is not None
                    number = page.tags[0].encode()
                    assert read_all(store, page) == {"identity": number, "gzip": b"z" + number}
                except BaseException as error:
                    wrong.append(error)
                    return

        def write(version: int) -> None:
            try:
                for _ in range(30):
                    store.put(*versions[version])
            except BaseException as error:
                wrong.append(error)

        readers = [threading.Thread(target=read) for _ in range(3)]
        writers = [threading.Thread(target=write, args=(version,)) for version in (1, 2, 3)]
        for thread in readers + writers:
            thread.start()
        for thread in writers:
            thread.join()
        done.set()
        for thread in readers:
            thread.join()
        assert wrong == []


KEYS = ("/", "/a", "/a/b", "/a.xml", "/B")
FILES = ("index.html", "a/index.html", "a/b/index.html", "a.xml", "%42/index.html")
BODIES = (b"", b"one", b"two", b"three")


class StoreMachine(RuleBasedStateMachine):
    """Any order of puts, deletions and sweeps leaves what a dictionary would hold."""

    def make_store(self) -> Store:
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.store = self.make_store()
        self.model: dict[str, tuple[Page, dict[str, bytes]]] = {}
        self.build = self.finished = 0

    @rule(
        key=st.sampled_from(KEYS),
        file=st.sampled_from(FILES),
        body=st.sampled_from(BODIES),
        gzip=st.none() | st.sampled_from(BODIES),
        origin=st.sampled_from(("build", "visit")),
        left_out=st.sets(st.sampled_from(("identity", "gzip"))),
    )
    def put(
        self,
        key: str,
        file: str,
        body: bytes,
        gzip: bytes | None,
        origin: str,
        left_out: set[str],
    ) -> None:
        facts = {"origin": origin, "build": self.build}
        page, bodies = make_page(key, body, file=file, gzip=gzip, **facts)  # type: ignore[arg-type]
        given = {name: data for name, data in bodies.items() if name not in left_out}
        owner = next((k for k, (other, _) in self.model.items() if other.file == file), key)
        try:
            self.store.put(page, given)
        except CollisionError as error:
            assert owner == error.owner != key
        except BlobMissingError:
            named = {data for _, stored in self.model.values() for data in stored.values()}
            missing = {data for name, data in bodies.items() if name in left_out}
            assert missing - named - set(given.values())
        else:
            assert owner == key
            self.model[key] = (page, bodies)

    @rule(keys=st.lists(st.sampled_from(KEYS), max_size=3))
    def delete(self, keys: list[str]) -> None:
        assert self.store.delete(keys) == len(self.model.keys() & set(keys))
        for key in keys:
            self.model.pop(key, None)

    @rule(keys=st.lists(st.sampled_from(KEYS), max_size=3))
    def note(self, keys: list[str]) -> None:
        self.store.note_used(dict.fromkeys(keys, 2_000.0))

    @rule(pages=st.integers(0, 3), size=st.integers(0, 12))
    def evict(self, pages: int, size: int) -> None:
        gone = self.store.evict(Budget("/<name>", pages, size))
        assert all(self.model.pop(key)[0].origin == "visit" for key in gone)
        left = self.store.visits("/<name>")
        assert left[0] <= pages
        assert left[1] <= size

    @rule()
    def sweep(self) -> None:
        self.store.sweep()

    @rule()
    def reopen(self) -> None:
        self.store.reopen()

    @rule()
    def begin_a_build(self) -> None:
        self.build += 1
        assert self.store.next_build() == self.build

    @rule()
    def finish_a_build(self) -> None:
        self.store.finish_build(self.build)
        self.finished = self.build

    @invariant()
    def every_page_is_the_one_last_put(self) -> None:
        assert [page.key for page in self.store.pages()] == sorted(self.model)
        for key in KEYS:
            page, bodies = self.model.get(key, (None, {}))
            assert self.store.get(key) == page
            if page is not None:
                assert read_all(self.store, page) == bodies

    @invariant()
    def visits_are_those_of_the_model(self) -> None:
        visits = [page for page, _ in self.model.values() if page.origin == "visit"]
        assert self.store.visits("/<name>") == (len(visits), sum(page.size for page in visits))

    @invariant()
    def the_last_build_is_the_last_that_was_finished(self) -> None:
        assert self.store.last_build() == self.finished

    def teardown(self) -> None:
        self.store.close()


MACHINE = settings(max_examples=40, stateful_step_count=25)

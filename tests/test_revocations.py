"""The tags of a page, and what was taken back since it was made."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from flask_prerender import revocations as room
from flask_prerender.coordination import local
from flask_prerender.coordination.local import LocalCoordination
from flask_prerender.revocations import EVERYTHING
from flask_prerender.revocations import implicit_tags
from flask_prerender.revocations import path_tag
from flask_prerender.revocations import prefix_tag
from flask_prerender.revocations import Revocations
from store_contract import make_page

PAGE = make_page("/blog/2026/hello", endpoint="site.blog.post", templates=("a.html", "b.html"))[0]


@pytest.fixture
def coordination(tmp_path):
    coordination = LocalCoordination(tmp_path)
    yield coordination
    coordination.close()


def test_a_page_has_its_path_what_it_lies_under_its_endpoint_blueprints_and_templates():
    assert list(implicit_tags(PAGE)) == [
        EVERYTHING, "path:/blog/2026/hello", "under:/", "under:/blog/", "under:/blog/2026/",
        "under:/blog/2026/hello/", "endpoint:site.blog.post", "blueprint:site",
        "blueprint:site.blog", "template:a.html", "template:b.html",
    ]  # fmt: skip


def test_a_query_is_part_of_no_tag_and_a_host_of_all():
    page = replace(PAGE, key="/a/b?q=1")
    assert [tag for tag in implicit_tags(page) if tag[:5] in ("path:", "under")] == [
        "path:/a/b", "under:/", "under:/a/", "under:/a/b/",
    ]  # fmt: skip
    page = replace(PAGE, key="//example.com/a")
    assert [tag for tag in implicit_tags(page) if tag[:5] in ("path:", "under")] == [
        "path://example.com/a", "under://example.com/", "under://example.com/a/",
    ]  # fmt: skip
    assert path_tag("/a?q=1") == path_tag("/a") == "path:/a"


def test_a_prefix_ends_at_a_slash():
    assert prefix_tag("/blog") == prefix_tag("/blog/") == "under:/blog/"
    assert prefix_tag("/") == "under:/"
    assert "under:/blo/" not in list(implicit_tags(PAGE))


@pytest.mark.parametrize("tag", ["news", *implicit_tags(PAGE)])
def test_each_tag_takes_the_page_back(coordination, tag):
    revocations = Revocations(coordination)
    page = replace(PAGE, tags=("news",), revision=coordination.advance())
    revocations.follow()
    assert revocations.of(page) == ""
    coordination.revoke([f"{tag}x", "other"], hard=True)
    revocations.follow()
    assert revocations.of(page) == ""
    number = coordination.revoke([tag], hard=False)
    assert revocations.of(page) == ""  # not known here yet
    revocations.follow()
    assert revocations.of(page) == "soft"
    assert revocations.taken_by(page) == (tag, number, False)
    number = coordination.revoke([tag], hard=True)
    revocations.follow()
    assert revocations.of(page) == "hard"
    assert revocations.taken_by(page) == (tag, number, True)
    again = replace(page, revision=number)
    assert revocations.of(again) == ""
    assert revocations.taken_by(again) is None


def test_what_was_hard_stays_hard_when_it_is_softly_taken_back_as_well(coordination):
    revocations = Revocations(coordination)
    page = replace(PAGE, tags=("news",), revision=coordination.advance())
    coordination.revoke(["news"], hard=True)
    coordination.revoke(["news"], hard=False)
    revocations.follow()
    assert revocations.of(page) == "hard"


def test_a_counter_that_was_made_anew_is_learned_anew(tmp_path):
    old, new = LocalCoordination(tmp_path / "a"), LocalCoordination(tmp_path / "b")
    revocations = Revocations(old)
    for _ in range(9):
        old.revoke(["old"], hard=True)
    revocations.follow()
    new.revoke(["new"], hard=False)
    revocations._coordination = new
    assert revocations.follow() == 1
    assert revocations.since(["old"], 0) == ""
    assert revocations.since(["new"], 0) == "soft"
    old.close()
    new.close()


def test_what_is_known_up_to_the_current_revision_is_not_read_again(coordination, monkeypatch):
    revocations, reads = Revocations(coordination), []
    read = coordination.revocations

    def count(since):
        reads.append(since)
        return read(since)

    monkeypatch.setattr(coordination, "revocations", count)
    coordination.revoke(["one"], hard=False)
    for _ in range(3):
        assert revocations.follow(coordination.revision()) == coordination.revision()
    assert len(reads) == 1
    coordination.revoke(["two"], hard=True)
    for _ in range(3):
        revocations.follow(coordination.revision())
    assert len(reads) == 2
    assert revocations.since(["two"], 0) == "hard"


def test_a_revision_that_another_process_has_not_committed_is_looked_for_again(
    coordination, tmp_path
):
    revocations = Revocations(coordination)
    coordination.revoke(["one"], hard=False)
    known = revocations.follow()
    coordination._show(known + 1)  # shown within the transaction
    assert revocations.follow(coordination.revision()) == known
    coordination.revoke(["two"], hard=True)
    revocations.follow(coordination.revision())
    assert revocations.since(["two"], 0) == "hard"


def test_a_process_keeps_no_more_than_is_kept_apart(coordination, monkeypatch):
    monkeypatch.setattr(room, "_REMEMBERED", 20)
    revocations = Revocations(coordination)
    for n in range(30):
        last = coordination.revoke([f"path:/{n}"], hard=False)
        revocations.follow()
    coordination.prune(0, 0.0)
    coordination.prune(last, 0.0)
    coordination.revoke(["one"], hard=False)
    revocations.follow()
    assert (revocations._newest.keys(), revocations._newest_hard) == ({"one"}, {})


def test_what_is_learned_anew_is_never_half_known(coordination, monkeypatch):
    monkeypatch.setattr(room, "_REMEMBERED", 0)
    revocations = Revocations(coordination)
    page = replace(PAGE, revision=coordination.advance())
    coordination.revoke([f"other {n}" for n in range(2000)], hard=False)
    coordination.revoke([EVERYTHING], hard=True)
    revocations.follow()
    done, wrong = threading.Event(), []

    def look():
        while not done.is_set():
            if revocations.of(page) != "hard":
                wrong.append(True)

    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(30):
        revocations.follow()
    done.set()
    thread.join(20)
    assert wrong == []


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("hard", [False, True])
def test_what_was_taken_back_stays_so_however_much_came_after_it(
    coordination, monkeypatch, hard, later
):
    monkeypatch.setattr(local, "_REVOCATIONS", 50)
    monkeypatch.setattr(local, "_FOLD_EACH", 10)
    page = replace(PAGE, tags=("news",), revision=coordination.advance())
    coordination.revoke(["news"], hard=hard)
    for n in range(200):
        last = coordination.revoke([f"other {n}"], hard=later)
    process = Revocations(coordination)
    process.follow()
    assert len(process._newest) + len(process._newest_hard) < 70
    # What was purged is never merely stale; what was revalidated may be gone with the rest.
    assert process.of(page) == ("hard" if hard or later else "soft")
    assert process.of(replace(page, revision=last)) == ""


def test_soft_revocations_never_make_a_page_gone(coordination, monkeypatch):
    monkeypatch.setattr(local, "_REVOCATIONS", 50)
    monkeypatch.setattr(local, "_FOLD_EACH", 10)
    coordination.revoke(["purged"], hard=True)
    page = replace(PAGE, tags=("news",), revision=coordination.advance())
    for n in range(200):
        coordination.revoke([f"other {n}"], hard=False)
    process = Revocations(coordination)
    process.follow()
    assert process.of(page) == "soft"
    assert process.of(replace(page, tags=("purged",), revision=0)) == "hard"


def test_the_last_revocation_is_known_by_its_revision(coordination):
    process = Revocations(coordination)
    coordination.advance()
    process.follow()
    assert process.last == 0
    number = coordination.revoke(["one"], hard=True)
    coordination.advance()
    process.follow()
    assert process.last == number

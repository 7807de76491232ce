"""What every coordination must do. A test class takes it over and says how its own is made."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from flask_prerender.coordination.base import Coordination
from flask_prerender.coordination.base import Lease
from flask_prerender.coordination.base import Revocation
from flask_prerender.coordination.base import Streak

NOW = 1_800_000_000.0


def claimed(coordination: Coordination, key: str = "/", now: float = NOW) -> Lease:
    lease = coordination.claim(key, 15.0, now)
    assert lease is not None
    return lease


class CoordinationContract:
    @pytest.fixture
    def join(self) -> Callable[[], Coordination]:
        """Return what gives one more process's view of the same site."""
        raise NotImplementedError

    @pytest.fixture
    def one(self, join: Callable[[], Coordination]) -> Coordination:
        return join()

    @pytest.fixture
    def two(self, one: Coordination, join: Callable[[], Coordination]) -> Coordination:
        one.advance()
        return join()

    # Revisions.

    def test_each_advance_moves_the_revision_by_one(self, one: Coordination) -> None:
        first = one.advance()
        assert [one.advance() for _ in range(3)] == [first + 1, first + 2, first + 3]
        assert one.revision() == first + 3

    def test_others_see_the_revision_move_at_once(
        self, one: Coordination, two: Coordination
    ) -> None:
        before = two.revision()
        assert one.advance() == before + 1
        assert two.revision() == before + 1
        assert two.advance() == before + 2
        assert one.revision() == before + 2

    def test_a_cell_has_the_revision(self, one: Coordination, two: Coordination) -> None:
        cell = two.cell()
        assert cell[0] == two.revision()
        one.advance()
        assert cell[0] == two.revision() == one.cell()[0]

    def test_a_reopened_coordination_goes_on(self, one: Coordination) -> None:
        before = one.advance()
        one.reopen()
        assert one.revision() == before
        assert one.advance() == before + 1

    # Revocations.

    def test_what_is_taken_back_moves_the_revision_and_is_told_to_everybody(
        self, one: Coordination, two: Coordination
    ) -> None:
        before = one.revision()
        soft = one.revoke(["a", "b"], hard=False)
        hard = two.revoke(["a"], hard=True)
        assert (soft, hard) == (before + 1, before + 2)
        assert one.revision() == two.revision() == hard
        revision, rows = one.revocations(0)
        assert revision == hard
        assert set(rows) == {
            Revocation("a", soft, False),
            Revocation("b", soft, False),
            Revocation("a", hard, True),
        }

    def test_only_what_came_later_is_told(self, one: Coordination) -> None:
        first = one.revoke(["a"], hard=False)
        second = one.revoke(["b"], hard=False)
        assert one.revocations(first) == (second, [Revocation("b", second, False)])
        assert one.revocations(second) == (second, [])

    def test_a_tag_taken_back_again_is_still_one_row(self, one: Coordination) -> None:
        for _ in range(5):
            last = one.revoke(["a"], hard=False)
        assert one.revocations(0) == (last, [Revocation("a", last, False)])

    def test_nothing_was_taken_back_at_first(self, one: Coordination) -> None:
        assert list(one.revocations(0)[1]) == []
        one.advance()
        assert list(one.revocations(0)[1]) == []

    def test_what_is_pruned_is_forgotten_from_the_second_time_on(self, one: Coordination) -> None:
        # A page that was being made at the first prune may still be stored.
        old = one.revoke(["path:/a", "under:/a/", "endpoint:e", "blueprint:b"], hard=False)
        one.prune(old, NOW)
        assert len(one.revocations(0)[1]) == 4
        new = one.revoke(["template:t"], hard=True)
        one.prune(new, NOW)
        assert list(one.revocations(0)[1]) == [Revocation("template:t", new, True)]
        one.prune(new, NOW)
        assert one.revocations(0) == (new, [])

    def test_what_a_stored_page_still_needs_is_not_pruned(self, one: Coordination) -> None:
        old = one.revoke(["path:/a"], hard=False)
        new = one.revoke(["path:/b"], hard=False)
        for _ in range(3):
            one.prune(old, NOW)
        assert list(one.revocations(0)[1]) == [Revocation("path:/b", new, False)]

    def test_tags_that_values_may_carry_are_not_pruned(self, one: Coordination) -> None:
        new = one.revoke(["news", "data:f", "all:"], hard=False)
        for _ in range(3):
            one.prune(new, NOW)
        assert {row.tag for row in one.revocations(0)[1]} == {"news", "data:f", "all:"}

    # Claims.

    def test_one_claim_at_a_time_whoever_asks(self, one: Coordination, two: Coordination) -> None:
        claimed(one)
        assert one.claim("/", 15.0, NOW) is None
        assert two.claim("/", 15.0, NOW + 14.9) is None
        assert two.claim("/other", 15.0, NOW) is not None

    def test_of_many_threads_one_gets_the_claim(self, one: Coordination, two: Coordination) -> None:
        start, got = threading.Barrier(8), []

        def ask(coordination: Coordination) -> None:
            start.wait(20)
            got.append(coordination.claim("/", 15.0, NOW))

        threads = [threading.Thread(target=ask, args=(each,)) for each in (one, two) * 4]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert len(got) == 8
        assert sum(lease is not None for lease in got) == 1

    def test_a_claim_ends_by_itself(self, one: Coordination, two: Coordination) -> None:
        first = claimed(one)
        second = claimed(two, now=NOW + 15)
        assert second.token > first.token

    def test_a_claim_that_is_renewed_holds_on(self, one: Coordination, two: Coordination) -> None:
        lease = claimed(one)
        renewed = one.renew(lease, 15.0, NOW + 10)
        assert renewed is not None
        assert (renewed.token, renewed.ends) == (lease.token, NOW + 25)
        assert two.claim("/", 15.0, NOW + 24) is None
        assert two.claim("/", 15.0, NOW + 25) is not None

    def test_a_claim_that_was_lost_cannot_be_renewed_nor_released(
        self, one: Coordination, two: Coordination
    ) -> None:
        lost = claimed(one)
        claimed(two, now=NOW + 15)
        assert one.renew(lost, 15.0, NOW + 16) is None
        one.release(lost)
        one.release(lost, Streak(1, NOW + 99, "error", "", NOW))
        assert one.claim("/", 15.0, NOW + 16) is None
        assert one.streak("/") is None

    def test_a_claim_that_was_released_is_free(self, one: Coordination, two: Coordination) -> None:
        lease = claimed(one)
        one.release(lease)
        assert claimed(two).token > lease.token
        assert one.renew(lease, 15.0, NOW) is None

    def test_tokens_grow_over_all_keys_and_processes(
        self, one: Coordination, two: Coordination
    ) -> None:
        tokens = [claimed(each, f"/{n}").token for n, each in enumerate((one, two, one, two))]
        assert tokens == sorted(set(tokens))
        between = one.token()
        assert tokens[-1] < between == two.token()
        assert between < two.next_token() < one.token() < claimed(two, "/more").token

    def test_a_claim_from_a_clock_that_was_set_since_is_none(self, one: Coordination) -> None:
        claimed(one, now=NOW + 3600)
        assert one.claim("/", 15.0, NOW) is not None

    # Streaks.

    def test_what_failed_rests_and_says_why(self, one: Coordination, two: Coordination) -> None:
        streak = Streak(1, NOW + 30, "error", "ValueError: no", NOW)
        one.release(claimed(one), streak)
        assert two.streak("/") == streak
        assert two.claim("/", 15.0, NOW + 29.9) is None
        again = claimed(two, now=NOW + 30)
        assert again.failures == 1
        # Who looks while the next try is under way still sees the last one.
        assert one.streak("/") == streak
        two.release(again)
        assert one.streak("/") is None
        assert claimed(one, now=NOW + 30).failures == 0

    def test_what_rests_can_be_claimed_anyway_and_what_is_held_cannot(
        self, one: Coordination
    ) -> None:
        one.release(claimed(one), Streak(3, NOW + 300, "error", "", NOW))
        lease = one.claim("/", 15.0, NOW, anyway=True)
        assert lease is not None
        assert lease.failures == 3
        assert one.claim("/", 15.0, NOW, anyway=True) is None

    def test_a_rest_from_a_clock_that_was_set_since_is_none(self, one: Coordination) -> None:
        one.release(claimed(one), Streak(1, NOW + 3600, "error", "", NOW + 3300))
        assert one.claim("/", 15.0, NOW) is not None

    def test_a_streak_is_forgotten_long_after_its_rest(self, one: Coordination) -> None:
        one.release(claimed(one), Streak(2, NOW + 30, "error", "", NOW))
        one.prune(0, NOW + 600)
        assert one.streak("/") is not None
        one.prune(0, NOW + 700)
        assert one.streak("/") is None

    def test_a_key_that_never_failed_has_no_streak(self, one: Coordination) -> None:
        assert one.streak("/") is None
        claimed(one)
        assert one.streak("/") is None

    def test_a_streak_keeps_the_revision_that_stood_before_its_last_try(
        self, one: Coordination, two: Coordination
    ) -> None:
        streak = Streak(1, NOW + 30, "error", "", NOW, revision=one.advance())
        one.release(claimed(one), streak)
        assert two.streak("/") == streak

    # What is done once.

    def test_a_name_is_new_once_whoever_gives_it(
        self, one: Coordination, two: Coordination
    ) -> None:
        assert one.once("a", NOW + 300, NOW)
        assert not one.once("a", NOW + 300, NOW)
        assert not two.once("a", NOW + 300, NOW + 300)
        assert two.once("b", NOW + 300, NOW)

    def test_a_name_is_forgotten_when_its_moment_has_passed(
        self, one: Coordination, two: Coordination
    ) -> None:
        assert one.once("a", NOW + 300, NOW)
        assert two.once("a", NOW + 700, NOW + 300.1)
        assert not one.once("a", NOW + 700, NOW + 300.1)

    def test_of_many_threads_one_is_the_first(self, one: Coordination, two: Coordination) -> None:
        start, got = threading.Barrier(8), []

        def give(coordination: Coordination) -> None:
            start.wait(20)
            got.append(coordination.once("a", NOW + 300, NOW))

        threads = [threading.Thread(target=give, args=(each,)) for each in (one, two) * 4]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert sorted(got) == [False] * 7 + [True]

"""What every store must hold about work that a broker tells of: what, when, and who may take it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from pixmill.core.leases import MOST_REQUESTS, MOST_TOLD, Hint, Lease, Work
from pixmill.core.model import RequestStatus
from pixmill.ports import Store
from tests.contracts.records import (
    LATE,
    NOW,
    a_request,
    claimed,
    done,
    failed,
    finishing,
    ingested,
    lose,
)


def told(store: Store, *, now: float = NOW, told_before: float = NOW - 60) -> list[Hint]:
    """What workers are told of; what they were told of at NOW counts unless asked otherwise."""
    return store.take_hints(now=now, told_before=told_before)


def shards(request_id: str, first: int, last: int) -> list[Hint]:
    """Hints of shards, numbered from the first to the last."""
    return [Hint(Work.SHARD, request_id, number) for number in range(first, last + 1)]


def take(store: Store, hint: Hint, *, worker: str = "w1", now: float = NOW) -> Lease | None:
    """Claim what a hint names."""
    return store.claim_hinted(hint, worker, now=now, lease_seconds=30)


def taken(store: Store, hint: Hint, *, now: float = NOW) -> Lease:
    """The lease on what a hint names, which must be there to be had."""
    lease = take(store, hint, now=now)
    assert lease is not None
    return lease


class TestWindow:
    def test_an_empty_store_tells_of_nothing(self, store: Store) -> None:
        assert told(store) == []

    def test_new_work_is_told_of_once(self, store: Store) -> None:
        store.add_request(a_request())
        assert told(store) == [Hint(Work.INGEST, "req_a", 0)]
        assert told(store) == []

    def test_the_work_that_follows_is_told_of(self, store: Store) -> None:
        store.add_request(a_request(images=1))
        (ingest,) = told(store)
        lease = taken(store, ingest)
        store.begin_ingest(lease)
        store.add_images(lease, {"http://shop.example/1.jpg": 1})
        store.finish_ingest(lease, now=NOW)
        (shard,) = told(store)
        lease = taken(store, shard)
        store.record_outcomes({lease: [done(1)]}, now=NOW)
        store.complete_shard(lease, now=NOW)
        (finish,) = told(store)
        assert store.close_request(taken(store, finish), now=NOW).status.terminal
        assert (ingest.work, shard.work, finish.work) == (Work.INGEST, Work.SHARD, Work.FINISH)
        assert told(store) == []

    def test_of_a_large_request_the_first_pieces_are_told_of_and_more_as_they_are_claimed(
        self, store: Store
    ) -> None:
        ingested(store, urls=800)  # 32 shards
        hints = told(store)
        assert hints == shards("req_a", 1, MOST_TOLD)
        for hint in hints[3:6]:
            taken(store, hint)
        assert told(store) == shards("req_a", MOST_TOLD + 1, MOST_TOLD + 3)
        assert told(store) == []

    def test_requests_are_told_of_in_turn_and_a_new_one_first(self, store: Store) -> None:
        for name in ("req_a", "req_b"):
            ingested(store, name, urls=16)  # 2 shards each
        taken(store, Hint(Work.SHARD, "req_a", 1), now=NOW + 2)
        taken(store, Hint(Work.SHARD, "req_b", 2), now=NOW + 1)
        store.add_request(a_request("req_new"))
        assert told(store) == [
            Hint(Work.INGEST, "req_new", 0),
            Hint(Work.SHARD, "req_b", 1),
            Hint(Work.SHARD, "req_a", 2),
        ]

    def test_a_new_request_does_not_wait_for_hints_that_are_on_their_way(
        self, store: Store
    ) -> None:
        ingested(store, urls=800)
        told(store)
        store.add_request(a_request("req_new"))
        assert told(store) == [Hint(Work.INGEST, "req_new", 0)]

    def test_a_few_requests_are_told_of_at_a_time_and_more_as_they_are_claimed(
        self, store: Store
    ) -> None:
        for number in range(MOST_REQUESTS + 4):
            store.add_request(a_request(f"req_{number:02}"))
        hints = told(store)
        assert len(hints) == len({hint.request_id for hint in hints}) == MOST_REQUESTS
        assert told(store) == []
        for hint in hints[:3]:
            taken(store, hint)
        more = told(store)
        assert len({hint.request_id for hint in hints + more}) == MOST_REQUESTS + 3

    def test_requests_whose_work_is_all_taken_are_in_nobodys_way(self, store: Store) -> None:
        ingested(store, "req_last", urls=16)
        for number in range(MOST_REQUESTS + 4):
            name = f"req_{number:02}"
            store.add_request(a_request(name))
            taken(store, Hint(Work.INGEST, name, 0))
        taken(store, Hint(Work.SHARD, "req_last", 2), now=NOW + 5)  # its turn is after theirs
        assert told(store) == [Hint(Work.SHARD, "req_last", 1)]


class TestAgain:
    def test_what_nobody_has_claimed_is_told_of_again_after_a_while(self, store: Store) -> None:
        ingested(store, urls=16)
        hints = told(store)
        assert told(store, now=NOW + 60, told_before=NOW) == []
        assert told(store, now=NOW + 61, told_before=NOW + 1) == hints
        assert told(store, now=NOW + 62, told_before=NOW + 2) == []

    def test_only_those_whose_hint_is_old_are_told_of_again(self, store: Store) -> None:
        ingested(store, "req_a")
        told(store)
        ingested(store, "req_b")
        told(store, now=NOW + 30)
        assert told(store, now=NOW + 61, told_before=NOW + 1) == shards("req_a", 1, 1)

    def test_what_is_claimed_is_not_told_of(self, store: Store) -> None:
        ingested(store, urls=16)
        claimed(store, Work.SHARD)
        assert told(store) == shards("req_a", 2, 2)
        claimed(store, Work.SHARD)
        assert told(store, now=LATE, told_before=LATE) == []

    @pytest.mark.parametrize("how", ["released", "lost", "called dead"])
    def test_what_can_be_claimed_again_is_told_of_at_once(self, store: Store, how: str) -> None:
        ingested(store, urls=16)
        hints = told(store)
        shard = taken(store, hints[0])
        match how:
            case "released":
                store.release(shard)
            case "lost":
                lose(store)
            case _:
                store.expire_leases("w1")
                assert told(store) == [], "not before it is taken back"
                lose(store, now=NOW)
        assert told(store) == hints[:1]

    def test_the_shards_of_a_retried_request_are_told_of_at_once(self, store: Store) -> None:
        ingested(store, urls=16)
        leases = [taken(store, hint) for hint in told(store)]
        for lease in leases:
            outcomes = [failed(number) for number in range(lease.first, lease.last + 1)]
            store.record_outcomes({lease: outcomes}, now=NOW)
        store.close_request(finishing(store, leases), now=NOW)
        assert told(store, now=LATE, told_before=LATE) == []
        store.retry_failed("req_a", now=NOW)
        assert told(store) == shards("req_a", 1, 2)

    def test_an_ingest_that_is_done_anew_is_told_of_at_once(self, store: Store) -> None:
        store.add_request(a_request())
        hints = told(store)
        store.cancel_request("req_a", now=NOW)
        assert told(store, now=LATE, told_before=LATE) == []
        store.retry_failed("req_a", now=NOW)
        assert told(store) == hints

    def test_a_purge_is_told_of_when_it_is_due(self, store: Store) -> None:
        ingested(store)
        told(store)
        store.delete_request("req_a", now=NOW, purge_at=NOW + 50)
        assert told(store, now=NOW + 49, told_before=NOW + 49) == []
        assert told(store, now=NOW + 50) == [Hint(Work.PURGE, "req_a", 0)]
        assert told(store, now=NOW + 51) == []

    def test_of_a_request_that_is_expected_only_the_purge_is_told_of(self, store: Store) -> None:
        for name in ("req_a", "req_b"):
            store.expect_request(a_request(name), purge_at=NOW + 50)
        store.add_request(a_request("req_a"))
        assert told(store) == [Hint(Work.INGEST, "req_a", 0)]
        assert told(store, now=NOW + 50) == [Hint(Work.PURGE, "req_b", 0)]


class TestClaims:
    def test_just_that_work_is_claimed(self, store: Store) -> None:
        ingested(store, urls=16)
        lease = taken(store, Hint(Work.SHARD, "req_a", 2))
        assert (lease.work, lease.request_id, lease.number) == (Work.SHARD, "req_a", 2)
        sequences = [image.sequence for image in store.pending_images(lease)]
        assert sequences == list(range(lease.first, lease.last + 1))
        assert claimed(store, Work.SHARD).number == 1
        assert store.claim("w1", now=NOW, lease_seconds=30) is None

    def test_its_request_has_had_its_turn_then(self, store: Store) -> None:
        for name in ("req_a", "req_b"):
            ingested(store, name, urls=16)
        first = claimed(store, Work.SHARD, now=NOW + 1).request_id
        second = "req_b" if first == "req_a" else "req_a"
        taken(store, Hint(Work.SHARD, second, 1), now=NOW + 2)
        assert claimed(store, Work.SHARD, now=NOW + 3).request_id == first

    def test_a_hint_that_comes_too_late_costs_the_request_no_turn(self, store: Store) -> None:
        for name in ("req_a", "req_b"):
            ingested(store, name, urls=50)
        taken(store, Hint(Work.SHARD, "req_a", 1), now=NOW + 1)
        taken(store, Hint(Work.SHARD, "req_b", 1), now=NOW + 2)
        assert take(store, Hint(Work.SHARD, "req_a", 1), now=NOW + 3) is None
        assert claimed(store, Work.SHARD, now=NOW + 4).request_id == "req_a"

    def test_nobody_is_needed_to_tell_of_it_first(self, store: Store) -> None:
        store.add_request(a_request())
        assert taken(store, Hint(Work.INGEST, "req_a", 0)).work is Work.INGEST

    def test_a_doubled_hint_gives_the_work_once(self, store: Store) -> None:
        store.add_request(a_request())
        (hint,) = told(store)
        taken(store, hint)
        assert take(store, hint, worker="w2") is None

    @pytest.mark.parametrize("name", ["$worker", "w.1", "ü w"])
    def test_whatever_the_worker_is_called_it_can_be_known_as_dead(
        self, store: Store, name: str
    ) -> None:
        ingested(store)
        (hint,) = told(store)
        assert take(store, hint, worker=name)
        store.expire_leases(name)
        assert len(store.lost_leases(now=NOW)) == 1

    @pytest.mark.parametrize(
        "hint",
        [
            Hint(Work.SHARD, "req_a", 99),
            Hint(Work.FINISH, "req_a", 0),
            Hint(Work.INGEST, "req_a", 0),
            Hint(Work.PURGE, "req_a", 0),
            Hint(Work.INGEST, "req_unknown", 0),
        ],
        ids=str,
    )
    def test_what_is_not_there_or_done_cannot_be_claimed(self, store: Store, hint: Hint) -> None:
        ingested(store)
        assert take(store, hint) is None
        assert claimed(store, Work.SHARD)

    @pytest.mark.parametrize("how", ["cancelled", "deleted", "forgotten"])
    def test_the_work_of_a_request_that_is_no_more_cannot_be_claimed(
        self, store: Store, how: str
    ) -> None:
        ingested(store)
        (hint,) = told(store)
        if how == "cancelled":
            store.cancel_request("req_a", now=NOW)
        else:
            store.delete_request("req_a", now=NOW, purge_at=NOW)
        if how == "forgotten":
            assert store.forget(taken(store, Hint(Work.PURGE, "req_a", 0)))
        assert take(store, hint) is None

    def test_a_purge_can_be_claimed_when_it_is_due(self, store: Store) -> None:
        store.add_request(a_request())
        store.delete_request("req_a", now=NOW, purge_at=NOW + 50)
        hint = Hint(Work.PURGE, "req_a", 0)
        assert take(store, hint, now=NOW + 49) is None
        assert store.forget(taken(store, hint, now=NOW + 50))

    def test_who_lost_such_a_lease_is_fenced_off(self, store: Store) -> None:
        ingested(store, urls=1)
        (hint,) = told(store)
        late = taken(store, hint)
        assert store.renew([late], until=NOW + 60) == set()
        lose(store)
        now = taken(store, hint, now=LATE)
        assert store.renew([late], until=LATE) == {late.token}
        assert store.record_outcomes({late: [failed(1)]}, now=LATE) == {late.token}
        assert store.record_outcomes({now: [done(1)]}, now=LATE) == set()

    def test_a_hint_of_an_earlier_round_gives_the_work_of_this_one(self, store: Store) -> None:
        ingested(store, urls=16)
        hints = told(store)
        first, second = (taken(store, hint) for hint in hints)
        for lease, outcome in ((first, done), (second, failed)):
            outcomes = [outcome(number) for number in range(lease.first, lease.last + 1)]
            store.record_outcomes({lease: outcomes}, now=NOW)
        store.close_request(finishing(store, [first, second]), now=NOW)
        store.retry_failed("req_a", now=NOW)
        assert take(store, hints[0]) is None, "it was done, and stays so"
        again = taken(store, hints[1])
        outcomes = [done(image.sequence) for image in store.pending_images(again)]
        assert len(outcomes) == again.last - again.first + 1
        assert store.record_outcomes({second: outcomes}, now=NOW) == {second.token}
        assert store.record_outcomes({again: outcomes}, now=NOW) == set()
        closed = store.close_request(finishing(store, [again]), now=NOW)
        assert (closed.status, closed.processed_images) == (RequestStatus.COMPLETED, 16)


class TestAtOnce:
    def test_each_hint_is_given_to_one_of_many_callers(self, store: Store) -> None:
        names = [f"req_{number}" for number in range(5)]
        for name in names:
            ingested(store, name, urls=16 * 8)
        start = threading.Barrier(8)
        window = sorted(map(str, told(store)))
        assert len(window) == len(names) * MOST_TOLD

        def ask(_: int) -> list[list[str]]:
            found = []
            for number in range(1, 11):
                start.wait()
                found.append([*map(str, told(store, now=NOW + number, told_before=NOW + number))])
            return found

        assert_each_once(ask, window)

    def test_each_piece_is_given_to_one_of_many_claimers(self, store: Store) -> None:
        ingested(store, urls=16 * 8)
        hints = told(store)
        start = threading.Barrier(8)

        def take_all(_: int) -> list[list[str]]:
            start.wait()
            return [[str(hint) for hint in hints if take(store, hint)]]

        assert_each_once(take_all, sorted(map(str, hints)))


def assert_each_once(ask: Callable[[int], list[list[str]]], expected: list[str]) -> None:
    """Let 8 do the same; in each round each thing must be given to exactly one of them."""
    with ThreadPoolExecutor(8) as pool:
        rounds = zip(*pool.map(ask, range(8)), strict=True)
        given = [sorted(each for found in answers for each in found) for answers in rounds]
    assert given == [expected] * len(given)

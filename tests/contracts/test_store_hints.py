"""What every store must hold about work that a broker tells of: what, when, and how often."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pixmill.core.leases import MOST_REQUESTS, MOST_TOLD, Hint, Work
from pixmill.ports import Store
from tests.contracts.hints import assert_each_once, shards, taken, told
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
        for seconds, name in enumerate(("req_1", "req_2", "req_4", "req_3")):
            made = datetime.fromtimestamp(NOW + seconds, UTC)
            store.add_request(replace(a_request(name), created_at=made))
        for seconds, name in ((9, "req_1"), (8, "req_2")):
            store.release(taken(store, Hint(Work.INGEST, name, 0), now=NOW + seconds))
        names = [hint.request_id for hint in told(store)]
        assert names == ["req_4", "req_3", "req_2", "req_1"]

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

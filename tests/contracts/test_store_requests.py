"""What every store must hold about accepting requests once, listing and counting them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pixmill.core.errors import AlreadyAccepted, NotFound, Problem
from pixmill.core.leases import Lease, Work
from pixmill.core.model import Accepted, Once, Request, RequestStatus
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

DAY = 24 * 3600.0


def made(request_id: str, at: float = NOW, owner: str = "") -> Request:
    """A request of some owner, made at some time."""
    return replace(a_request(request_id), created_at=datetime.fromtimestamp(at, UTC), owner=owner)


def once(request_id: str, key: str = "monday") -> Once:
    """What a key stands for."""
    warning = Problem("odd", "It is odd.", line=3, column="Photo")
    return Once(key, f"fingerprint of {request_id}", Accepted(request_id, 3, 2, 1, (warning,)))


class TestExpect:
    def test_nobody_sees_a_request_before_it_is_added_and_then_it_is_as_any_other(
        self, store: Store
    ) -> None:
        request = made("req_a")
        store.expect_request(request, purge_at=NOW + DAY)
        with pytest.raises(NotFound):
            store.request("req_a")
        assert store.requests("") == []
        assert store.latest_request(request.digest) is None
        assert store.claim("w1", now=NOW, lease_seconds=30) is None
        assert store.longest_wait(now=NOW + DAY) == 0
        store.add_request(request, once("req_a"))
        assert store.request("req_a") == request
        assert claimed(store, Work.INGEST, now=NOW + DAY).request_id == "req_a"
        assert store.claim("w1", now=NOW + 2 * DAY, lease_seconds=30) is None

    def test_one_that_is_never_added_is_purged(self, store: Store) -> None:
        store.add_request(made("req_a"), once("req_a"))
        claimed(store, Work.INGEST)
        store.expect_request(made("req_b"), purge_at=NOW + DAY)
        with pytest.raises(AlreadyAccepted):
            store.add_request(made("req_b"), once("req_b"))
        assert store.claim("w1", now=NOW + DAY - 1, lease_seconds=30) is None
        purge = claimed(store, Work.PURGE, now=NOW + DAY)
        assert purge.request_id == "req_b"
        assert store.forget(purge)
        assert store.claim("w1", now=NOW + DAY, lease_seconds=30) is None


class TestOnce:
    def test_an_idempotency_key_comes_back_with_its_answer(self, store: Store) -> None:
        store.add_request(made("req_a"), once("req_a"))
        assert store.accepted("", "monday", now=NOW) == once("req_a")
        assert store.accepted("", "tuesday", now=NOW) is None

    def test_a_used_key_keeps_nothing_of_a_second_request(self, store: Store) -> None:
        store.add_request(made("req_a"), once("req_a"))
        with pytest.raises(AlreadyAccepted, match="monday"):
            store.add_request(made("req_b", at=NOW + DAY - 1), once("req_b"))
        with pytest.raises(NotFound):
            store.request("req_b")
        assert store.accepted("", "monday", now=NOW) == once("req_a")
        assert claimed(store, Work.INGEST).request_id == "req_a"
        assert store.claim("w1", now=NOW, lease_seconds=30) is None

    def test_the_same_key_of_two_owners_is_two_keys(self, store: Store) -> None:
        store.add_request(made("req_a", owner="anna"), once("req_a"))
        store.add_request(made("req_b", owner="bert"), once("req_b"))
        assert store.accepted("anna", "monday", now=NOW) == once("req_a")
        assert store.accepted("bert", "monday", now=NOW) == once("req_b")
        assert store.accepted("", "monday", now=NOW) is None

    def test_a_key_is_free_again_after_a_day(self, store: Store) -> None:
        store.add_request(made("req_a"), once("req_a"))
        assert store.accepted("", "monday", now=NOW + DAY - 1) is not None
        assert store.accepted("", "monday", now=NOW + DAY) is None
        store.add_request(made("req_b", at=NOW + DAY), once("req_b"))
        assert store.accepted("", "monday", now=NOW + DAY) == once("req_b")

    def test_of_8_threads_with_the_same_key_one_makes_a_request(self, store: Store) -> None:
        ready = threading.Barrier(8)

        def submit(number: int) -> bool:
            ready.wait()
            try:
                store.add_request(made(f"req_{number}"), once(f"req_{number}"))
            except AlreadyAccepted:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            won = [number for number, first in enumerate(pool.map(submit, range(8))) if first]
        assert len(won) == 1
        assert [request.id for request in store.requests("")] == [f"req_{won[0]}"]
        assert store.accepted("", "monday", now=NOW) == once(f"req_{won[0]}")


class TestList:
    def test_requests_come_newest_first_a_page_at_a_time(self, store: Store) -> None:
        # Some are made at the same moment: then the ids decide, and none is left out.
        for number in range(7):
            store.add_request(made(f"req_{number}", at=NOW + number // 3))
        pages = []
        last = None
        while page := store.requests("", before=last, limit=2):
            pages.append([request.id for request in page])
            last = page[-1]
        assert pages == [["req_6", "req_5"], ["req_4", "req_3"], ["req_2", "req_1"], ["req_0"]]

    def test_two_owners_never_see_each_other(self, store: Store) -> None:
        for number in range(4):
            store.add_request(made(f"req_{number}", owner="ab"[number % 2]))
        seen = {
            owner: {request.id for request in store.requests(owner)} for owner in ("a", "b", "")
        }
        assert seen == {"a": {"req_0", "req_2"}, "b": {"req_1", "req_3"}, "": set()}
        assert store.request("req_1").owner == "b"

    def test_requests_can_be_asked_for_by_status(self, store: Store) -> None:
        ingested(store, "req_at_work")
        for number in range(3):
            store.add_request(made(f"req_{number}", at=NOW + 1))
        pending = store.requests("", status=RequestStatus.PENDING, limit=2)
        rest = store.requests("", status=RequestStatus.PENDING, before=pending[-1])
        assert [request.id for request in pending + rest] == ["req_2", "req_1", "req_0"]
        at_work = store.requests("", status=RequestStatus.PROCESSING)
        assert [request.id for request in at_work] == ["req_at_work"]
        assert store.requests("", status=RequestStatus.FAILED) == []

    def test_a_page_may_begin_after_a_request_that_is_gone(self, store: Store) -> None:
        first, second = made("req_a", at=NOW), made("req_b", at=NOW + 1)
        store.add_request(first)
        store.add_request(second)
        store.delete_request("req_b", now=NOW, purge_at=NOW)
        assert store.requests("", before=second) == [first]


class TestCensus:
    def test_an_empty_store_counts_nothing_of_anything(self, store: Store) -> None:
        census = store.census()
        assert census.requests == dict.fromkeys(RequestStatus, 0)
        counts = (census.processed_images, census.failed_images, census.pending_images)
        assert counts == (0, 0, 0)

    def test_it_counts_requests_by_status_and_their_images(self, store: Store) -> None:
        ingested(store, "req_done", urls=3)
        shard = claimed(store, Work.SHARD)
        store.record_outcomes({shard: [done(1), failed(2), done(3)]}, now=NOW)
        store.close_request(finishing(store, [shard]), now=NOW)
        ingested(store, "req_at_work", urls=5)
        store.record_outcomes({claimed(store, Work.SHARD): [done(1), failed(2)]}, now=NOW)
        store.add_request(a_request("req_new", images=7))
        store.add_request(a_request("req_cancelled", images=11))
        store.cancel_request("req_cancelled", now=NOW)
        store.add_request(a_request("req_deleted", images=13))
        store.delete_request("req_deleted", now=NOW, purge_at=NOW)
        census = store.census()
        assert census.requests == {
            RequestStatus.PENDING: 1,
            RequestStatus.PROCESSING: 1,
            RequestStatus.COMPLETED: 1,
            RequestStatus.FAILED: 0,
            RequestStatus.CANCELLED: 1,
        }
        counts = (census.processed_images, census.failed_images, census.pending_images)
        assert counts == (3, 2, 3 + 7)


class TestWait:
    def claim(self, store: Store, now: float) -> Lease | None:
        return store.claim("w1", now=now, lease_seconds=30)

    def test_nobody_waits_where_nothing_is_open(self, store: Store) -> None:
        assert store.longest_wait(now=NOW) == 0
        store.add_request(made("req_a"))
        self.claim(store, NOW)
        assert store.longest_wait(now=LATE) == 0

    def test_a_new_request_waits_since_it_was_made(self, store: Store) -> None:
        store.add_request(made("req_a", at=NOW))
        store.add_request(made("req_b", at=NOW + 10))
        assert store.longest_wait(now=NOW + 15) == 15
        claim = self.claim(store, NOW + 15)
        assert claim is not None
        assert claim.request_id == "req_a"
        assert store.longest_wait(now=NOW + 15) == 5

    def test_being_served_in_turn_is_not_waiting(self, store: Store) -> None:
        ingested(store, "req_a", urls=100)
        ingested(store, "req_b", urls=100)
        for tick in range(1, 9):
            self.claim(store, NOW + tick)
            assert store.longest_wait(now=NOW + tick) <= 1

    def test_nobody_overtakes_who_waits_longer(self, store: Store) -> None:
        store.add_request(made("req_z", at=NOW))
        for number in range(5):
            store.add_request(made(f"req_{number}", at=NOW + 1))
        claim = self.claim(store, NOW + 2)
        assert claim is not None
        assert claim.request_id == "req_z"

    def test_work_that_was_long_in_hand_does_not_count_as_having_waited(self, store: Store) -> None:
        ingested(store, urls=1)
        shard = claimed(store, Work.SHARD)
        store.record_outcomes({shard: [failed(1)]}, now=LATE)
        store.complete_shard(shard, now=LATE)
        assert store.longest_wait(now=LATE + 3) == 3
        store.close_request(claimed(store, Work.FINISH, now=LATE), now=LATE)
        store.retry_failed("req_a", now=LATE * 2)
        assert store.longest_wait(now=LATE * 2 + 4) == 4

    def test_lost_work_waits_since_it_was_taken_back(self, store: Store) -> None:
        ingested(store)
        claimed(store, Work.SHARD)
        lose(store, now=LATE)
        assert store.longest_wait(now=LATE + 6) == 6

    def test_a_purge_waits_since_it_may_be_done(self, store: Store) -> None:
        store.add_request(made("req_a"))
        store.delete_request("req_a", now=NOW, purge_at=NOW + 30)
        assert store.longest_wait(now=NOW + 20) == 0
        assert store.longest_wait(now=NOW + 37) == 7


class TestAge:
    def test_open_work_ages_however_much_of_it_is_done(self, store: Store) -> None:
        assert store.oldest_work(now=NOW) == 0
        ingested(store, "req_a", urls=100)
        for tick in range(1, 9):
            store.claim("w1", now=NOW + tick, lease_seconds=30)
            assert store.oldest_work(now=NOW + tick) == tick

    def test_work_in_hand_does_not_count(self, store: Store) -> None:
        store.add_request(made("req_a", at=NOW))
        store.add_request(made("req_b", at=NOW + 10))
        assert store.oldest_work(now=NOW + 15) == 15
        store.claim("w1", now=NOW + 15, lease_seconds=30)
        assert store.oldest_work(now=NOW + 15) == 5
        store.claim("w1", now=NOW + 15, lease_seconds=30)
        assert store.oldest_work(now=LATE) == 0

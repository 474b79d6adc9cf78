"""What every store must hold about deleted requests: unseen at once, gone soon after."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pixmill.core.errors import LeaseLost, NotFound
from pixmill.core.leases import LOSSES_BEFORE_GIVING_UP, Work
from pixmill.core.model import Accepted, Once
from pixmill.ports import Store, Totals
from tests.contracts.records import (
    LATE,
    NOW,
    a_request,
    claimed,
    done,
    finishing,
    ingested,
    lose,
)


class TestDelete:
    def test_a_deleted_request_is_seen_by_nobody(self, store: Store) -> None:
        ingested(store)
        shard = claimed(store, Work.SHARD)
        store.record_outcomes({shard: [done(1)]}, now=NOW)
        digest = store.request("req_a").digest
        store.delete_request("req_a", now=NOW, purge_at=NOW + 30)
        for ask in (
            lambda: store.request("req_a"),
            lambda: store.cancel_request("req_a", now=NOW),
            lambda: store.retry_failed("req_a", now=NOW),
            lambda: store.delete_request("req_a", now=NOW, purge_at=NOW),
        ):
            with pytest.raises(NotFound):
                ask()
        assert store.requests("") == []
        assert store.latest_request(digest) is None
        assert store.products("req_a") == []
        assert store.images("req_a") == []
        assert store.images("req_a", sequences=[1]) == []
        assert store.totals("req_a") == Totals()

    def test_during_processing_every_lease_is_lost(self, store: Store) -> None:
        ingested(store, urls=20)
        shard, other = claimed(store, Work.SHARD), claimed(store, Work.SHARD)
        store.delete_request("req_a", now=NOW, purge_at=NOW + 30)
        assert store.record_outcomes({shard: [done(1)]}, now=NOW) == {shard.token}
        assert store.renew([shard, other], until=LATE) == {shard.token, other.token}
        store.release(shard)
        for write in (
            lambda: store.complete_shard(shard, now=NOW),
            lambda: store.mark_trying(shard, 1),
        ):
            with pytest.raises(LeaseLost):
                write()
        assert store.lost_leases(now=LATE) == []

    def test_during_the_ingest_the_ingester_is_fenced_off(self, store: Store) -> None:
        store.add_request(a_request())
        lease = claimed(store, Work.INGEST)
        store.begin_ingest(lease)
        store.delete_request("req_a", now=NOW, purge_at=NOW + 30)
        for write in (
            lambda: store.add_images(lease, {"http://a/1": 1}),
            lambda: store.add_products(lease, []),
            lambda: store.finish_ingest(lease, now=NOW),
            lambda: store.fail_request(lease, "no", now=NOW),
        ):
            with pytest.raises(LeaseLost):
                write()

    def test_a_finish_under_way_is_fenced_off(self, store: Store) -> None:
        ingested(store, urls=1)
        finish = finishing(store, [claimed(store, Work.SHARD)])
        store.delete_request("req_a", now=NOW, purge_at=NOW + 30)
        with pytest.raises(LeaseLost):
            store.close_request(finish, now=NOW)

    def test_its_idempotency_key_is_free_again(self, store: Store) -> None:
        once = Once("monday", "fingerprint", Accepted("req_a", 3, 3))
        store.add_request(a_request("req_a"), once)
        store.delete_request("req_a", now=NOW, purge_at=NOW)
        assert store.accepted("", "monday", now=NOW) is None
        again = replace(once, accepted=Accepted("req_b", 3, 3))
        store.add_request(a_request("req_b"), again)
        assert store.accepted("", "monday", now=NOW) == again

    def test_what_does_not_exist_cannot_be_deleted(self, store: Store) -> None:
        with pytest.raises(NotFound):
            store.delete_request("req_a", now=NOW, purge_at=NOW)


class TestPurge:
    def test_it_cannot_be_claimed_before_its_time(self, store: Store) -> None:
        ingested(store)
        store.delete_request("req_a", now=NOW, purge_at=NOW + 30)
        assert store.claim("w1", now=NOW + 29.9, lease_seconds=30) is None
        purge = claimed(store, Work.PURGE, now=NOW + 30)
        assert purge.request_id == "req_a"
        assert store.claim("w2", now=NOW + 30, lease_seconds=30) is None

    def test_one_that_is_not_due_holds_up_nobody(self, store: Store) -> None:
        store.add_request(a_request("req_a"))
        store.delete_request("req_a", now=NOW, purge_at=NOW + 30)
        store.add_request(a_request("req_b"))
        assert claimed(store, Work.INGEST, now=NOW + 1).request_id == "req_b"

    def test_it_takes_its_turn_among_requests_at_work(self, store: Store) -> None:
        ingested(store, "req_a", urls=100)
        store.add_request(a_request("req_b"))
        store.delete_request("req_b", now=NOW, purge_at=NOW + 2)
        works = [
            lease.work
            for tick in range(5)
            if (lease := store.claim("w1", now=NOW + 1 + tick, lease_seconds=30))
        ]
        assert works.count(Work.PURGE) == 1

    def test_a_purge_behaves_like_other_work(self, store: Store) -> None:
        ingested(store)
        store.delete_request("req_a", now=NOW, purge_at=NOW)
        purge = claimed(store, Work.PURGE)
        assert store.renew([purge], until=LATE + 30) == set()
        assert store.lost_leases(now=LATE) == []
        store.release(purge)
        again = claimed(store, Work.PURGE)
        with pytest.raises(LeaseLost):
            store.forget(purge)
        assert store.forget(again)

    def test_it_is_never_given_up(self, store: Store) -> None:
        ingested(store)
        store.delete_request("req_a", now=NOW, purge_at=NOW)
        for losses in range(LOSSES_BEFORE_GIVING_UP * 3):
            assert not claimed(store, Work.PURGE, now=NOW + 100 * losses).alone
            lose(store, now=NOW + 100 * losses + 50)

    def test_records_are_forgotten_in_slices(self, store: Store) -> None:
        ingested(store, urls=50)  # with as many products
        ingested(store, "req_b", urls=5)
        store.delete_request("req_a", now=NOW, purge_at=NOW)
        purge = claimed(store, Work.PURGE)
        slices = 1
        while not store.forget(purge, limit=30):
            slices += 1
        assert slices == 4
        with pytest.raises(LeaseLost):
            store.forget(purge)
        assert store.lost_leases(now=LATE) == []
        assert len(store.images("req_b")) == len(store.products("req_b")) == 5

    def test_what_is_forgotten_may_come_again(self, store: Store) -> None:
        ingested(store)
        store.delete_request("req_a", now=NOW, purge_at=NOW)
        assert store.forget(claimed(store, Work.PURGE))
        ingested(store, urls=2)
        assert len(store.images("req_a")) == 2

"""What every store must hold, whatever it is made of."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from pixmill.core.errors import ImageErrorCode, LeaseLost, NotFound
from pixmill.core.leases import Work
from pixmill.core.model import ImageStatus, Notice, RequestStatus
from pixmill.ports import Store
from tests.contracts.records import LATE, NOW, a_request, claimed, done, failed, ingested, lose


class TestRequests:
    def test_a_request_comes_back_as_it_was_added(self, store: Store) -> None:
        request = a_request()
        store.add_request(request)
        assert store.request("req_a") == request

    def test_an_unknown_request_is_not_found(self, store: Store) -> None:
        with pytest.raises(NotFound):
            store.request("req_unknown")

    def test_the_latest_of_several_equal_submissions_is_found(self, store: Store) -> None:
        older = replace(a_request("req_old"), digest="same")
        newer = replace(
            a_request("req_new"), digest="same", created_at=older.created_at.replace(year=2040)
        )
        store.add_request(newer)
        store.add_request(older)
        found = store.latest_request("same")
        assert found is not None
        assert found.id == "req_new"
        assert store.latest_request("another") is None


class TestIngest:
    def test_a_url_named_twice_is_one_image_with_two_references(self, store: Store) -> None:
        store.add_request(a_request())
        lease = claimed(store, Work.INGEST)
        store.begin_ingest(lease)
        first = store.add_images(lease, {"http://a/1": 1, "http://a/2": 2})
        second = store.add_images(lease, {"http://a/2": 1, "http://a/3": 1})
        store.finish_ingest(lease, now=NOW)
        assert first == {"http://a/1": 1, "http://a/2": 2}
        assert second == {"http://a/2": 2, "http://a/3": 3}
        assert [image.references for image in store.images("req_a")] == [1, 3, 1]

    def test_nothing_can_be_claimed_before_the_ingest_is_done(self, store: Store) -> None:
        store.add_request(a_request())
        lease = claimed(store, Work.INGEST)
        store.begin_ingest(lease)
        store.add_images(lease, {"http://a/1": 1})
        assert store.claim("w2", now=NOW, lease_seconds=30) is None

    def test_an_ingest_that_was_cut_short_starts_over_with_the_same_result(
        self, store: Store
    ) -> None:
        store.add_request(a_request())
        lease = claimed(store, Work.INGEST)
        store.begin_ingest(lease)
        store.add_images(lease, {"http://a/1": 1, "http://a/2": 1})
        lose(store)
        again = claimed(store, Work.INGEST, now=LATE)
        store.begin_ingest(again)
        assert store.add_images(again, {"http://a/1": 1}) == {"http://a/1": 1}
        store.finish_ingest(again, now=LATE)
        assert [image.references for image in store.images("req_a")] == [1]

    def test_a_late_ingester_is_fenced_off(self, store: Store) -> None:
        store.add_request(a_request())
        lease = claimed(store, Work.INGEST)
        store.begin_ingest(lease)
        lose(store)
        for write in (
            lambda: store.begin_ingest(lease),
            lambda: store.add_images(lease, {"http://a/1": 1}),
            lambda: store.add_products(lease, []),
            lambda: store.finish_ingest(lease, now=LATE),
            lambda: store.fail_request(lease, "no", now=LATE),
        ):
            with pytest.raises(LeaseLost):
                write()

    def test_shards_cover_every_image_once(self, store: Store) -> None:
        ingested(store, urls=100)
        covered: Counter[int] = Counter()
        while lease := store.claim("w1", now=NOW, lease_seconds=30):
            covered.update(range(lease.first, lease.last + 1))
        assert covered == Counter(range(1, 101))

    def test_a_request_that_cannot_be_ingested_fails_with_its_reason(self, store: Store) -> None:
        store.add_request(a_request())
        store.fail_request(claimed(store, Work.INGEST), "It is no CSV.", now=NOW + 1)
        request = store.request("req_a")
        assert request.status is RequestStatus.FAILED
        assert request.error == "It is no CSV."
        assert request.finished_at is not None
        assert store.claim("w1", now=NOW, lease_seconds=30) is None

    def test_a_request_that_cannot_be_ingested_keeps_no_half_of_its_images(
        self, store: Store
    ) -> None:
        store.add_request(a_request())
        lease = claimed(store, Work.INGEST)
        store.begin_ingest(lease)
        store.add_images(lease, {"http://a/1": 1})
        store.fail_request(lease, "It is no CSV.", now=NOW + 1)
        assert store.images("req_a") == []
        assert store.retry_failed("req_a", now=NOW + 2) == 3
        request = store.request("req_a")
        assert (request.status, request.error) == (RequestStatus.PENDING, None)
        claimed(store, Work.INGEST)

    def test_an_ingest_that_kills_worker_after_worker_fails_its_request(self, store: Store) -> None:
        store.add_request(a_request())
        rounds = 0
        while ingest := store.claim("w1", now=NOW, lease_seconds=30):
            rounds += 1
            assert rounds < 10
            store.begin_ingest(ingest)
            store.add_images(ingest, {"http://a/1": 1})
            lose(store)
        assert store.request("req_a").status is RequestStatus.FAILED
        assert store.images("req_a") == []
        assert store.retry_failed("req_a", now=NOW) == 3
        claimed(store, Work.INGEST)

    def test_products_are_paged_in_order(self, store: Store) -> None:
        ingested(store, urls=5)
        first = store.products("req_a", limit=2)
        rest = store.products("req_a", after=first[-1].sequence, limit=10)
        assert [product.serial_number for product in first + rest] == ["S1", "S2", "S3", "S4", "S5"]
        assert first[0].written == ("http://shop.example/1.jpg",)
        assert first[0].images == (1,)


class TestOutcomes:
    def test_outcomes_are_kept_and_counted_by_reference(self, store: Store) -> None:
        store.add_request(a_request(images=4))
        lease = claimed(store, Work.INGEST)
        store.begin_ingest(lease)
        store.add_images(lease, {"http://a/1": 3, "http://a/2": 1})
        store.finish_ingest(lease, now=NOW)
        shard = claimed(store, Work.SHARD)
        assert store.record_outcomes({shard: [done(1), failed(2)]}, now=NOW) == set()
        request = store.request("req_a")
        assert (request.processed_images, request.failed_images) == (3, 1)
        assert [image.outcome for image in store.images("req_a")] == [done(1), failed(2)]

    def test_an_image_keeps_its_first_outcome(self, store: Store) -> None:
        ingested(store, urls=1)
        shard = claimed(store, Work.SHARD)
        store.record_outcomes({shard: [done(1)]}, now=NOW)
        assert store.record_outcomes({shard: [failed(1), done(1)]}, now=NOW) == set()
        request = store.request("req_a")
        assert (request.processed_images, request.failed_images) == (1, 0)
        assert store.images("req_a")[0].outcome == done(1)

    def test_a_late_writer_is_told_and_nothing_is_written(self, store: Store) -> None:
        ingested(store, urls=2)
        shard = claimed(store, Work.SHARD)
        lose(store)
        assert store.record_outcomes({shard: [done(1)]}, now=LATE) == {shard.token}
        assert store.images("req_a")[0].outcome is None
        with pytest.raises(LeaseLost):
            store.complete_shard(shard, now=LATE)

    def test_pending_images_are_those_without_an_outcome(self, store: Store) -> None:
        ingested(store, urls=3)
        shard = claimed(store, Work.SHARD)
        store.record_outcomes({shard: [done(2)]}, now=NOW)
        assert [image.sequence for image in store.pending_images(shard)] == [1, 3]

    def test_images_can_be_asked_for_by_sequence_and_by_status(self, store: Store) -> None:
        ingested(store, urls=4)
        shard = claimed(store, Work.SHARD)
        store.record_outcomes({shard: [done(1), failed(2), failed(4)]}, now=NOW)
        by_sequence = store.images("req_a", sequences=[4, 1])
        failures = store.images("req_a", status=ImageStatus.FAILED, after=2)
        assert [image.sequence for image in by_sequence] == [1, 4]
        assert [image.sequence for image in failures] == [4]

    def test_totals_sum_up(self, store: Store) -> None:
        ingested(store, urls=4)
        shard = claimed(store, Work.SHARD)
        noticed = done(2, notices=(Notice.KEPT_ORIGINAL, Notice.DAMAGED))
        store.record_outcomes({shard: [done(1), noticed, failed(3)]}, now=NOW)
        totals = store.totals("req_a")
        assert (totals.images, totals.bytes_in, totals.bytes_out) == (3, 2000, 800)
        assert (totals.kept, totals.damaged) == (1, 1)
        assert totals.failures == {ImageErrorCode.HTTP_ERROR: 1}

    def test_totals_of_a_request_without_outcomes_are_zero(self, store: Store) -> None:
        ingested(store, urls=4)
        assert store.totals("req_a").images == 0

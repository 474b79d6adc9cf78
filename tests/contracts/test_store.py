"""What every store must hold, whatever it is made of."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from pixmill.core.errors import ImageErrorCode, LeaseLost, NotFound, WrongState
from pixmill.core.leases import LOSSES_BEFORE_ALONE, STRIKES_BEFORE_CRASH, Lease, Work, judge
from pixmill.core.model import Failure, ImageStatus, Notice, RequestStatus
from pixmill.ports import Store
from tests.contracts.records import NOW, a_request, claimed, done, failed, ingested

LATE = NOW + 1000


def lose(store: Store, now: float = LATE) -> None:
    """Let all leases run out and take their work back."""
    for lost in store.lost_leases(now=now):
        store.take_back(lost, judge(lost), now=now)


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

    def test_an_ingest_that_kills_worker_after_worker_fails_its_request(self, store: Store) -> None:
        store.add_request(a_request())
        rounds = 0
        while store.claim("w1", now=NOW, lease_seconds=30):
            rounds += 1
            assert rounds < 10
            lose(store)
        assert store.request("req_a").status is RequestStatus.FAILED

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


class TestLeases:
    def test_work_is_claimed_once(self, store: Store) -> None:
        ingested(store, urls=3)
        claimed(store, Work.SHARD)
        assert store.claim("w2", now=NOW, lease_seconds=30) is None

    def test_many_claimers_at_once_never_share_work(self, store: Store) -> None:
        ingested(store, urls=800)
        start = threading.Barrier(8)

        def claim_all(worker: str) -> list[int]:
            start.wait()
            numbers = []
            while lease := store.claim(worker, now=NOW, lease_seconds=30):
                numbers.append(lease.number)
            return numbers

        with ThreadPoolExecutor(8) as pool:
            numbers = [number for found in pool.map(claim_all, "abcdefgh") for number in found]
        assert sorted(numbers) == list(range(1, 33))

    def test_requests_take_turns(self, store: Store) -> None:
        ingested(store, "req_a", urls=50)
        ingested(store, "req_b", urls=50)
        claims = [store.claim("w1", now=NOW + tick, lease_seconds=99) for tick in range(1, 7)]
        turns = [lease.request_id for lease in claims if lease]
        assert sorted(turns[:2]) == sorted(turns[2:4]) == sorted(turns[4:]) == ["req_a", "req_b"]

    def test_a_renewed_lease_does_not_run_out(self, store: Store) -> None:
        ingested(store)
        shard = claimed(store, Work.SHARD)
        assert store.renew([shard], until=LATE + 1) == set()
        assert store.lost_leases(now=LATE) == []

    def test_renewing_tells_which_leases_are_lost(self, store: Store) -> None:
        ingested(store)
        shard = claimed(store, Work.SHARD)
        lose(store)
        assert store.renew([shard], until=LATE) == {shard.token}

    def test_a_lease_that_ran_out_can_be_renewed_until_it_is_taken_back(self, store: Store) -> None:
        ingested(store)
        shard = claimed(store, Work.SHARD)
        (lost,) = store.lost_leases(now=LATE)
        store.renew([shard], until=LATE + 30)
        store.take_back(lost, judge(lost), now=LATE)
        assert store.claim("w2", now=LATE, lease_seconds=30) is None

    def test_released_work_is_offered_again_without_a_loss(self, store: Store) -> None:
        ingested(store)
        store.release(claimed(store, Work.SHARD))
        shard = claimed(store, Work.SHARD)
        (lost,) = store.lost_leases(now=LATE)
        assert lost.lease == shard
        assert lost.losses == 0

    def test_the_leases_of_a_dead_worker_run_out_at_once(self, store: Store) -> None:
        ingested(store, urls=50)
        dead = claimed(store, Work.SHARD, worker="dead")
        claimed(store, Work.SHARD, worker="alive")
        store.expire_leases("dead")
        assert [lost.lease.number for lost in store.lost_leases(now=NOW)] == [dead.number]

    def test_a_worker_that_was_called_dead_is_fenced_off_even_if_it_lives(
        self, store: Store
    ) -> None:
        ingested(store, urls=3)
        shard = claimed(store, Work.SHARD)
        store.expire_leases()
        assert store.renew([shard], until=LATE) == {shard.token}
        assert store.record_outcomes({shard: [failed(1)]}, now=NOW) == {shard.token}
        (lost,) = store.lost_leases(now=NOW)
        store.take_back(lost, judge(lost), now=NOW)
        assert len(store.pending_images(claimed(store, Work.SHARD))) == 3

    def test_two_who_take_back_the_same_loss_count_it_once(self, store: Store) -> None:
        ingested(store)
        claimed(store, Work.SHARD)
        (lost,) = store.lost_leases(now=LATE)
        store.take_back(lost, judge(lost), now=LATE)
        store.take_back(lost, judge(lost), now=LATE)
        claimed(store, Work.SHARD, now=LATE)
        assert store.lost_leases(now=LATE * 2)[0].losses == 1

    def test_a_shard_lost_three_times_is_offered_alone(self, store: Store) -> None:
        ingested(store)
        for _ in range(LOSSES_BEFORE_ALONE):
            assert not claimed(store, Work.SHARD).alone
            lose(store)
        assert claimed(store, Work.SHARD).alone

    def test_the_image_in_hand_at_three_deaths_is_the_one_that_fails(self, store: Store) -> None:
        ingested(store, urls=3)
        for _ in range(LOSSES_BEFORE_ALONE):
            claimed(store, Work.SHARD)
            lose(store)
        for _ in range(STRIKES_BEFORE_CRASH):
            store.mark_trying(claimed(store, Work.SHARD), 2)
            lose(store)
        culprit = store.images("req_a", sequences=[2])[0].outcome
        assert culprit is not None
        assert isinstance(culprit.result, Failure)
        assert culprit.result.code is ImageErrorCode.WORKER_CRASH
        neighbours = store.pending_images(claimed(store, Work.SHARD))
        assert [image.sequence for image in neighbours] == [1, 3]
        assert store.request("req_a").failed_images == 1


class TestFinish:
    def finish(self, store: Store, shards: list[Lease]) -> Lease:
        for shard in shards:
            store.complete_shard(shard, now=NOW)
        return claimed(store, Work.FINISH)

    def test_the_finish_is_offered_when_the_last_shard_is_complete(self, store: Store) -> None:
        ingested(store, urls=16)
        first, second = claimed(store, Work.SHARD), claimed(store, Work.SHARD)
        store.complete_shard(first, now=NOW)
        assert store.claim("w1", now=NOW, lease_seconds=30) is None
        store.complete_shard(second, now=NOW)
        claimed(store, Work.FINISH)

    def test_a_closed_request_has_the_counters_of_its_outcomes(self, store: Store) -> None:
        ingested(store, urls=3)
        shard = claimed(store, Work.SHARD)
        store.record_outcomes({shard: [done(1), failed(2), done(3)]}, now=NOW)
        request = store.close_request(self.finish(store, [shard]), now=NOW + 9)
        assert request.status is RequestStatus.COMPLETED
        assert (request.processed_images, request.failed_images) == (2, 1)
        assert request.finished_at is not None
        assert request.finished_at.timestamp() == NOW + 9

    def test_a_request_without_any_success_ends_as_failed(self, store: Store) -> None:
        ingested(store, urls=1)
        shard = claimed(store, Work.SHARD)
        store.record_outcomes({shard: [failed(1)]}, now=NOW)
        request = store.close_request(self.finish(store, [shard]), now=NOW)
        assert request.status is RequestStatus.FAILED

    def test_a_request_is_closed_once(self, store: Store) -> None:
        ingested(store, urls=1)
        shard = claimed(store, Work.SHARD)
        store.record_outcomes({shard: [done(1)]}, now=NOW)
        finish = self.finish(store, [shard])
        store.close_request(finish, now=NOW)
        with pytest.raises(LeaseLost):
            store.close_request(finish, now=NOW + 5)
        assert store.claim("w1", now=NOW, lease_seconds=30) is None

    def test_a_finish_that_was_lost_is_offered_again(self, store: Store) -> None:
        ingested(store, urls=1)
        late = self.finish(store, [claimed(store, Work.SHARD)])
        lose(store)
        again = claimed(store, Work.FINISH, now=LATE)
        with pytest.raises(LeaseLost):
            store.close_request(late, now=LATE)
        assert store.close_request(again, now=LATE).status.terminal

    def test_retrying_reopens_the_failed_images_only(self, store: Store) -> None:
        ingested(store, urls=20)
        shards = [claimed(store, Work.SHARD) for _ in range(3)]
        for shard in shards:
            made = [done(number) for number in range(shard.first, shard.last + 1)]
            store.record_outcomes({shard: [failed(10)] if 10 in _span(shard) else made}, now=NOW)
            store.record_outcomes({shard: made}, now=NOW)
        store.close_request(self.finish(store, shards), now=NOW)
        assert store.retry_failed("req_a", now=NOW) == 1
        request = store.request("req_a")
        assert request.status is RequestStatus.PROCESSING
        assert (request.processed_images, request.failed_images) == (19, 0)
        again = claimed(store, Work.SHARD)
        assert [image.sequence for image in store.pending_images(again)] == [10]
        store.record_outcomes({again: [done(10)]}, now=NOW)
        closed = store.close_request(self.finish(store, [again]), now=NOW)
        assert (closed.processed_images, closed.failed_images) == (20, 0)

    def test_a_request_at_work_cannot_be_retried(self, store: Store) -> None:
        ingested(store, urls=1)
        shard = claimed(store, Work.SHARD)
        store.record_outcomes({shard: [failed(1)]}, now=NOW)
        with pytest.raises(WrongState):
            store.retry_failed("req_a", now=NOW)
        assert store.request("req_a").failed_images == 1


def _span(shard: Lease) -> range:
    return range(shard.first, shard.last + 1)

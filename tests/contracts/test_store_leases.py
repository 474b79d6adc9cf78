"""What every store must hold about who works on what, and how that ends."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pixmill.core.errors import ImageErrorCode, LeaseLost, WrongState
from pixmill.core.leases import LOSSES_BEFORE_ALONE, STRIKES_BEFORE_CRASH, Lease, Work, judge
from pixmill.core.model import Failure, RequestStatus
from pixmill.ports import Store
from tests.contracts.records import (
    LATE,
    NOW,
    claimed,
    done,
    failed,
    finishing,
    ingested,
    lose,
)


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

    def test_work_handed_back_while_others_look_for_some_is_never_overlooked(
        self, store: Store
    ) -> None:
        ingested(store, "req_a", urls=16)
        ingested(store, "req_b", urls=16)  # in two shards each
        start = threading.Barrier(6)

        def take_and_hand_back(worker: str) -> None:
            start.wait()
            for _ in range(30):
                if lease := store.claim(worker, now=NOW, lease_seconds=30):
                    store.release(lease)

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(take_and_hand_back, "abcdef"))
        left = [claimed(store, Work.SHARD) for _ in range(4)]
        assert len({(lease.request_id, lease.number) for lease in left}) == 4

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

    def test_however_often_work_is_lost_no_image_is_blamed_that_was_not_noted_before(
        self, store: Store
    ) -> None:
        """As when nothing can be written for hours: neither what is in hand, nor a hand-back."""
        ingested(store, urls=3)
        for _ in range(LOSSES_BEFORE_ALONE + 3 * 3 * STRIKES_BEFORE_CRASH):
            claimed(store, Work.SHARD)
            lose(store)
        assert [image.outcome for image in store.images("req_a")] == [None] * 3
        assert [image.strikes for image in store.images("req_a")] == [0] * 3

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
        request = store.close_request(finishing(store, [shard]), now=NOW + 9)
        assert request.status is RequestStatus.COMPLETED
        assert (request.processed_images, request.failed_images) == (2, 1)
        assert request.finished_at is not None
        assert request.finished_at.timestamp() == NOW + 9

    def test_a_request_without_any_success_ends_as_failed(self, store: Store) -> None:
        ingested(store, urls=1)
        shard = claimed(store, Work.SHARD)
        store.record_outcomes({shard: [failed(1)]}, now=NOW)
        request = store.close_request(finishing(store, [shard]), now=NOW)
        assert request.status is RequestStatus.FAILED

    def test_a_request_is_closed_once(self, store: Store) -> None:
        ingested(store, urls=1)
        shard = claimed(store, Work.SHARD)
        store.record_outcomes({shard: [done(1)]}, now=NOW)
        finish = finishing(store, [shard])
        store.close_request(finish, now=NOW)
        with pytest.raises(LeaseLost):
            store.close_request(finish, now=NOW + 5)
        assert store.claim("w1", now=NOW, lease_seconds=30) is None

    def test_a_finish_that_was_lost_is_offered_again(self, store: Store) -> None:
        ingested(store, urls=1)
        late = finishing(store, [claimed(store, Work.SHARD)])
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
        store.close_request(finishing(store, shards), now=NOW)
        assert store.retry_failed("req_a", now=NOW) == 1
        request = store.request("req_a")
        assert request.status is RequestStatus.PROCESSING
        assert (request.processed_images, request.failed_images) == (19, 0)
        again = claimed(store, Work.SHARD)
        assert [image.sequence for image in store.pending_images(again)] == [10]
        store.record_outcomes({again: [done(10)]}, now=NOW)
        closed = store.close_request(finishing(store, [again]), now=NOW)
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

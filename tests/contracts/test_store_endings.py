"""What every store must hold about cancelling, retrying and deleting requests."""

from __future__ import annotations

import threading

import pytest

from pixmill.core.errors import ImageErrorCode, LeaseLost, NotFound, WrongState
from pixmill.core.leases import (
    LOSSES_BEFORE_ALONE,
    LOSSES_BEFORE_GIVING_UP,
    STRIKES_BEFORE_CRASH,
    Lease,
    Work,
    judge,
)
from pixmill.core.model import Failure, ImageStatus, Outcome, Request, RequestStatus
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


def counted(request: Request) -> tuple[int, int]:
    """The counters of a request."""
    return request.processed_images, request.failed_images


def references(store: Store, request_id: str, status: ImageStatus) -> int:
    """References of a request's images of a status."""
    return sum(image.references for image in store.images(request_id, status=status))


def sequences(store: Store, status: ImageStatus) -> list[int]:
    """The images of a status of the only request."""
    return [image.sequence for image in store.images("req_a", status=status)]


def outcomes_of(shard: Lease) -> list[Outcome]:
    """A success for each image of a shard."""
    return [done(sequence) for sequence in range(shard.first, shard.last + 1)]


def work_off(store: Store, now: float) -> Request:
    """Give every pending image of the only request a success, and close it."""
    while (lease := store.claim("w9", now=now, lease_seconds=30)) and lease.work is Work.SHARD:
        pending = [done(image.sequence) for image in store.pending_images(lease)]
        assert pending
        store.record_outcomes({lease: pending}, now=now)
        store.complete_shard(lease, now=now)
    assert lease is not None
    assert lease.work is Work.FINISH
    return store.close_request(lease, now=now)


class TestCancel:
    def test_what_is_done_stays_and_what_is_pending_fails_as_cancelled(self, store: Store) -> None:
        ingested(store, urls=3)
        shard = claimed(store, Work.SHARD)
        store.record_outcomes({shard: [done(1), failed(2)]}, now=NOW)
        cancelled = store.cancel_request("req_a", now=NOW + 5)
        assert cancelled == store.request("req_a")
        assert cancelled.status is RequestStatus.CANCELLED
        assert cancelled.finished_at is not None
        assert cancelled.finished_at.timestamp() == NOW + 5
        assert counted(cancelled) == (1, 2)
        first, second, third = (image.outcome for image in store.images("req_a"))
        assert (first, second) == (done(1), failed(2))
        assert third is not None
        assert (third.attempts, third.duration) == (0, 0)
        assert isinstance(third.result, Failure)
        assert third.result.code is ImageErrorCode.CANCELLED
        assert third.result.message
        assert store.totals("req_a").failures[ImageErrorCode.CANCELLED] == 1

    def test_what_is_asked_for_by_status_is_what_the_cancel_made_of_it(self, store: Store) -> None:
        ingested(store, urls=5)
        shard = claimed(store, Work.SHARD)
        store.record_outcomes({shard: [done(1), failed(2)]}, now=NOW)
        store.cancel_request("req_a", now=NOW)
        assert sequences(store, ImageStatus.PENDING) == []
        assert sequences(store, ImageStatus.DONE) == [1]
        assert sequences(store, ImageStatus.FAILED) == [2, 3, 4, 5]
        page = store.images("req_a", status=ImageStatus.FAILED, after=2, limit=2)
        assert [image.sequence for image in page] == [3, 4]
        named = store.images("req_a", status=ImageStatus.FAILED, sequences=[1, 2, 5])
        assert [image.sequence for image in named] == [2, 5]
        totals = store.totals("req_a")
        assert totals.images == 5
        assert totals.failures == {ImageErrorCode.CANCELLED: 3, ImageErrorCode.HTTP_ERROR: 1}

    def test_every_lease_is_lost_and_nothing_more_can_be_claimed(self, store: Store) -> None:
        ingested(store, urls=20)
        shard = claimed(store, Work.SHARD)
        store.cancel_request("req_a", now=NOW)
        assert store.renew([shard], until=LATE) == {shard.token}
        assert store.record_outcomes({shard: outcomes_of(shard)}, now=NOW) == {shard.token}
        with pytest.raises(LeaseLost):
            store.complete_shard(shard, now=NOW)
        assert store.lost_leases(now=LATE) == []
        assert store.claim("w2", now=LATE, lease_seconds=30) is None
        assert counted(store.request("req_a")) == (0, 20)

    def test_a_finish_under_way_is_fenced_off(self, store: Store) -> None:
        ingested(store, urls=1)
        shard = claimed(store, Work.SHARD)
        store.record_outcomes({shard: [done(1)]}, now=NOW)
        finish = finishing(store, [shard])
        assert counted(store.cancel_request("req_a", now=NOW)) == (1, 0)
        with pytest.raises(LeaseLost):
            store.close_request(finish, now=NOW)
        assert store.request("req_a").status is RequestStatus.CANCELLED

    def test_during_the_ingest_no_image_is_kept_and_the_ingester_is_fenced_off(
        self, store: Store
    ) -> None:
        store.add_request(a_request())
        lease = claimed(store, Work.INGEST)
        store.begin_ingest(lease)
        store.add_images(lease, {"http://a/1": 1})
        cancelled = store.cancel_request("req_a", now=NOW)
        assert (cancelled.status, counted(cancelled)) == (RequestStatus.CANCELLED, (0, 0))
        for write in (
            lambda: store.add_images(lease, {"http://a/2": 1}),
            lambda: store.add_products(lease, []),
            lambda: store.finish_ingest(lease, now=NOW),
            lambda: store.fail_request(lease, "no", now=NOW),
        ):
            with pytest.raises(LeaseLost):
                write()
        assert store.images("req_a") == []
        assert store.request("req_a") == cancelled

    def test_only_what_is_not_terminal_can_be_cancelled(self, store: Store) -> None:
        with pytest.raises(NotFound):
            store.cancel_request("req_a", now=NOW)
        ingested(store)
        store.cancel_request("req_a", now=NOW)
        with pytest.raises(WrongState):
            store.cancel_request("req_a", now=NOW + 1)

    def test_counters_agree_with_the_outcomes_whenever_it_comes(self, store: Store) -> None:
        for number in range(8):
            request_id = f"req_{number}"
            ingested(store, request_id, urls=128)
            shards = [claimed(store, Work.SHARD) for _ in range(16)]
            begun = threading.Event()

            def record(shards: list[Lease] = shards, begun: threading.Event = begun) -> None:
                for place, shard in enumerate(shards):
                    store.record_outcomes({shard: outcomes_of(shard)[place % 3 :]}, now=NOW)
                    begun.set()

            recording = threading.Thread(target=record)
            recording.start()
            begun.wait(30)
            cancelled = store.cancel_request(request_id, now=NOW)
            recording.join()
            assert store.request(request_id) == cancelled
            done_now = references(store, request_id, ImageStatus.DONE)
            failed_now = references(store, request_id, ImageStatus.FAILED)
            assert (done_now, failed_now) == counted(cancelled)
            assert done_now + failed_now == 128
            assert references(store, request_id, ImageStatus.PENDING) == 0


class TestRetryAfterCancel:
    def test_exactly_the_failed_images_are_done_again(self, store: Store) -> None:
        ingested(store, urls=32)  # in four shards
        whole, flawed, begun, _ = (claimed(store, Work.SHARD) for _ in range(4))
        store.record_outcomes({whole: outcomes_of(whole)}, now=NOW)
        store.complete_shard(whole, now=NOW)
        store.record_outcomes({flawed: [failed(9), *outcomes_of(flawed)]}, now=NOW)
        store.complete_shard(flawed, now=NOW)
        store.record_outcomes({begun: [done(17)]}, now=NOW)
        assert counted(store.cancel_request("req_a", now=NOW)) == (8 + 7 + 1, 1 + 7 + 8)
        assert store.retry_failed("req_a", now=NOW + 1) == 16
        request = store.request("req_a")
        assert (request.status, request.finished_at) == (RequestStatus.PROCESSING, None)
        assert counted(request) == (16, 0)
        again = [image.sequence for image in store.images("req_a", status=ImageStatus.PENDING)]
        assert again == [9, *range(18, 33)]
        closed = work_off(store, NOW + 2)
        assert (closed.status, counted(closed)) == (RequestStatus.COMPLETED, (32, 0))
        assert store.claim("w1", now=LATE, lease_seconds=30) is None

    def test_nothing_is_left_of_failures_of_before(self, store: Store) -> None:
        ingested(store, urls=4)
        shard = claimed(store, Work.SHARD)
        store.record_outcomes({shard: [done(1), failed(2), failed(3)]}, now=NOW)
        store.cancel_request("req_a", now=NOW)
        store.retry_failed("req_a", now=NOW)
        assert sequences(store, ImageStatus.FAILED) == []
        assert sequences(store, ImageStatus.PENDING) == [2, 3, 4]
        assert [image.outcome for image in store.images("req_a")] == [done(1), None, None, None]
        assert (store.totals("req_a").images, store.totals("req_a").failures) == (1, {})
        again = claimed(store, Work.SHARD)
        timeout = failed(3, ImageErrorCode.TIMEOUT)
        store.record_outcomes({again: [done(2), timeout]}, now=NOW)
        assert store.record_outcomes({again: [failed(2), done(3)]}, now=NOW) == set()
        assert sequences(store, ImageStatus.FAILED) == [3]
        assert store.images("req_a", sequences=[3])[0].outcome == timeout
        assert store.totals("req_a").failures == {ImageErrorCode.TIMEOUT: 1}
        assert counted(store.request("req_a")) == (2, 1)

    def test_strikes_begin_anew(self, store: Store) -> None:
        ingested(store, urls=3)
        for _ in range(LOSSES_BEFORE_ALONE):
            claimed(store, Work.SHARD)
            lose(store)
        for _ in range(STRIKES_BEFORE_CRASH - 1):
            store.mark_trying(claimed(store, Work.SHARD), 2)
            lose(store)
        assert store.images("req_a", sequences=[2])[0].strikes == STRIKES_BEFORE_CRASH - 1
        store.cancel_request("req_a", now=NOW)
        store.retry_failed("req_a", now=NOW)
        assert store.images("req_a", sequences=[2])[0].strikes == 0
        shard = claimed(store, Work.SHARD)
        assert not shard.alone
        store.mark_trying(shard, 2)
        (lost,) = store.lost_leases(now=LATE)
        assert (lost.losses, lost.strikes) == (0, 0)
        store.take_back(lost, judge(lost), now=LATE)
        assert store.images("req_a", sequences=[2])[0].strikes == 1
        assert sequences(store, ImageStatus.PENDING) == [1, 2, 3]

    def test_a_worker_from_before_the_cancel_stays_fenced_off(self, store: Store) -> None:
        ingested(store, urls=8)
        stale = claimed(store, Work.SHARD)
        store.cancel_request("req_a", now=NOW)
        store.retry_failed("req_a", now=NOW)
        for _ in range(2):  # before and after somebody else has claimed the shard
            assert store.record_outcomes({stale: [failed(1)]}, now=NOW) == {stale.token}
            assert store.renew([stale], until=LATE) == {stale.token}
            store.release(stale)
            with pytest.raises(LeaseLost):
                store.complete_shard(stale, now=NOW)
            fresh = store.claim("w2", now=NOW, lease_seconds=30)
        assert fresh is None  # the release by the stale holder has freed nothing
        assert counted(store.request("req_a")) == (0, 0)

    def test_an_unfinished_ingest_is_done_anew(self, store: Store) -> None:
        store.add_request(a_request(images=2))
        stale = claimed(store, Work.INGEST)
        store.begin_ingest(stale)
        store.add_images(stale, {"http://a/1": 1})
        store.cancel_request("req_a", now=NOW)
        assert store.retry_failed("req_a", now=NOW) == 2
        request = store.request("req_a")
        assert (request.status, request.finished_at) == (RequestStatus.PENDING, None)
        lease = claimed(store, Work.INGEST)
        with pytest.raises(LeaseLost):
            store.add_images(stale, {"http://a/1": 1})
        store.begin_ingest(lease)
        store.add_images(lease, {"http://a/1": 1, "http://a/2": 1})
        store.finish_ingest(lease, now=NOW)
        assert counted(work_off(store, NOW)) == (2, 0)

    def test_it_can_be_cancelled_and_retried_again_and_again(self, store: Store) -> None:
        ingested(store, urls=20)
        for round_number in range(1, 4):
            shard = claimed(store, Work.SHARD)
            store.record_outcomes({shard: [done(round_number)]}, now=NOW)
            cancelled = store.cancel_request("req_a", now=NOW)
            assert counted(cancelled) == (round_number, 20 - round_number)
            assert store.retry_failed("req_a", now=NOW) == 20 - round_number
        assert counted(work_off(store, NOW)) == (20, 0)

    def test_a_retry_makes_an_error_of_before_forgotten(self, store: Store) -> None:
        ingested(store, urls=1)
        shard = claimed(store, Work.SHARD)
        store.record_outcomes({shard: [failed(1)]}, now=NOW)
        store.complete_shard(shard, now=NOW)
        for _ in range(LOSSES_BEFORE_GIVING_UP):
            claimed(store, Work.FINISH)
            lose(store)
        assert store.request("req_a").error
        assert store.retry_failed("req_a", now=NOW) == 1
        assert store.request("req_a").error is None

    @pytest.mark.parametrize("outcome", [done(1), failed(1)])
    def test_a_finish_that_was_given_up_ends_as_its_images_did_and_is_done_again(
        self, store: Store, outcome: Outcome
    ) -> None:
        ingested(store, urls=1)
        shard = claimed(store, Work.SHARD)
        store.record_outcomes({shard: [outcome]}, now=NOW)
        store.complete_shard(shard, now=NOW)
        for _ in range(LOSSES_BEFORE_GIVING_UP):
            claimed(store, Work.FINISH)
            lose(store)
        request = store.request("req_a")
        succeeded = outcome == done(1)
        assert request.status is (RequestStatus.COMPLETED if succeeded else RequestStatus.FAILED)
        assert request.error
        assert store.retry_failed("req_a", now=NOW) == (0 if succeeded else 1)
        assert store.request("req_a").status is RequestStatus.PROCESSING
        closed = work_off(store, NOW)
        assert (closed.status, counted(closed)) == (RequestStatus.COMPLETED, (1, 0))
        assert closed.error is None

    def test_a_request_cancelled_while_it_was_finished_is_finished_by_a_retry(
        self, store: Store
    ) -> None:
        ingested(store, urls=2)
        shard = claimed(store, Work.SHARD)
        store.record_outcomes({shard: [done(1), done(2)]}, now=NOW)
        finishing(store, [shard])
        store.cancel_request("req_a", now=NOW)
        assert store.retry_failed("req_a", now=NOW) == 0
        closed = store.close_request(claimed(store, Work.FINISH), now=NOW)
        assert (closed.status, counted(closed)) == (RequestStatus.COMPLETED, (2, 0))
        assert store.claim("w1", now=LATE, lease_seconds=30) is None

    def test_where_nothing_failed_a_retry_changes_nothing(self, store: Store) -> None:
        ingested(store, urls=1)
        shard = claimed(store, Work.SHARD)
        store.record_outcomes({shard: [done(1)]}, now=NOW)
        closed = store.close_request(finishing(store, [shard]), now=NOW)
        assert store.retry_failed("req_a", now=NOW + 1) == 0
        assert store.request("req_a") == closed

    def test_what_does_not_exist_cannot_be_retried(self, store: Store) -> None:
        with pytest.raises(NotFound):
            store.retry_failed("req_a", now=NOW)

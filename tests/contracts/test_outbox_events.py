"""A request makes the deliveries that it asked for: with the change, once, and in order."""

from __future__ import annotations

import random

import pytest

from pixmill.core.errors import LeaseLost
from pixmill.core.events import USUAL_EVENTS, Event, steps_forward
from pixmill.core.leases import Work
from pixmill.core.model import RequestStatus
from pixmill.ports import Outbox, Store
from tests.contracts.letters import ALL_EVENTS, HOOK, add, completed, events, ingest, work_off
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


def progress(outbox: Outbox) -> list[int]:
    """How far each progress event says that the request is."""
    return [
        delivery.processed_images + delivery.failed_images
        for delivery in outbox.deliveries("req_a")
        if delivery.event is Event.PROGRESS
    ]


class TestLife:
    def test_a_request_tells_of_its_life_in_order(self, store: Store, outbox: Outbox) -> None:
        add(store, images=3)
        assert store.request("req_a").webhook is not None
        ingest(store, 3)
        assert events(outbox) == [Event.PROCESSING]
        shard = claimed(store, Work.SHARD)
        for sequence in (1, 2, 3):
            store.record_outcomes({shard: [done(sequence)]}, now=NOW)
        assert events(outbox) == [Event.PROCESSING, Event.PROGRESS, Event.PROGRESS]
        store.close_request(finishing(store, [shard]), now=NOW)
        assert events(outbox)[3:] == [Event.COMPLETED]
        told = outbox.deliveries("req_a")
        assert [one.status for one in told] == [RequestStatus.PROCESSING] * 3 + ["COMPLETED"]
        assert [one.processed_images for one in told] == [0, 1, 2, 3]
        assert len({one.id for one in told}) == 4

    def test_only_the_events_that_were_asked_for_are_told(
        self, store: Store, outbox: Outbox
    ) -> None:
        add(store, events=(Event.COMPLETED,))
        completed(store)
        assert events(outbox) == [Event.COMPLETED]
        add(store, "req_b", events=(Event.COMPLETED,))
        store.cancel_request("req_b", now=NOW)
        assert events(outbox, "req_b") == []

    def test_a_request_without_a_webhook_tells_nobody(self, store: Store, outbox: Outbox) -> None:
        ingested(store, urls=1)
        shard = claimed(store, Work.SHARD)
        store.record_outcomes({shard: [done(1)]}, now=NOW)
        store.close_request(finishing(store, [shard]), now=NOW)
        assert store.request("req_a").webhook is None
        assert events(outbox) == []

    def test_the_webhook_of_a_request_is_kept(self, store: Store) -> None:
        add(store, url=HOOK, events=USUAL_EVENTS)
        webhook = store.request("req_a").webhook
        assert webhook is not None
        assert (webhook.url, webhook.events) == (HOOK, USUAL_EVENTS)

    def test_who_no_longer_holds_the_work_tells_nothing(self, store: Store, outbox: Outbox) -> None:
        add(store, images=3)
        lease = claimed(store, Work.INGEST)
        lose(store)
        with pytest.raises(LeaseLost):
            store.finish_ingest(lease, now=NOW)
        ingest(store, 3)
        shard = claimed(store, Work.SHARD)
        lose(store)
        assert store.record_outcomes({shard: [done(1)]}, now=NOW) == {shard.token}
        assert events(outbox) == [Event.PROCESSING]


class TestEndings:
    def test_a_csv_that_cannot_be_ingested_fails_once(self, store: Store, outbox: Outbox) -> None:
        add(store)
        store.fail_request(claimed(store, Work.INGEST), "It is no CSV.", now=NOW)
        assert events(outbox) == [Event.FAILED]

    def test_a_request_without_any_success_fails(self, store: Store, outbox: Outbox) -> None:
        add(store, images=1)
        ingest(store, 1)
        shard = claimed(store, Work.SHARD)
        store.record_outcomes({shard: [failed(1)]}, now=NOW)
        store.close_request(finishing(store, [shard]), now=NOW)
        assert events(outbox) == [Event.PROCESSING, Event.FAILED]
        assert outbox.deliveries("req_a")[1].failed_images == 1

    def test_work_that_is_given_up_fails_its_request_once(
        self, store: Store, outbox: Outbox
    ) -> None:
        add(store)
        while store.claim("w1", now=NOW, lease_seconds=1):
            lose(store)
        assert store.request("req_a").status is RequestStatus.FAILED
        assert events(outbox) == [Event.FAILED]

    def test_a_cancelled_request_is_told_once_and_nothing_after(
        self, store: Store, outbox: Outbox
    ) -> None:
        add(store, images=3)
        ingest(store, 3)
        shard = claimed(store, Work.SHARD)
        store.record_outcomes({shard: [done(1)]}, now=NOW)
        store.cancel_request("req_a", now=NOW)
        store.record_outcomes({shard: [done(2), done(3)]}, now=NOW)
        assert events(outbox) == [Event.PROCESSING, Event.PROGRESS, Event.CANCELLED]
        last = outbox.deliveries("req_a")[-1]
        assert (last.processed_images, last.failed_images) == (1, 2)

    def test_every_ending_of_a_retried_request_is_told_under_an_id_of_its_own(
        self, store: Store, outbox: Outbox
    ) -> None:
        add(store, images=2, events=USUAL_EVENTS)
        ingest(store, 2)
        shard = claimed(store, Work.SHARD)
        store.record_outcomes({shard: [done(1), failed(2)]}, now=NOW)
        store.close_request(finishing(store, [shard]), now=NOW)
        assert store.retry_failed("req_a", now=NOW) == 1
        shard = claimed(store, Work.SHARD)
        store.record_outcomes({shard: [done(2)]}, now=NOW)
        store.close_request(finishing(store, [shard]), now=NOW)
        told = outbox.deliveries("req_a")
        assert [one.event for one in told] == [Event.COMPLETED] * 2
        assert [one.failed_images for one in told] == [1, 0]
        assert told[0].id != told[1].id


class TestProgress:
    @pytest.mark.parametrize("batch", [1, 3, 7, 20])
    def test_each_tenth_is_told_once_at_any_size_of_batch(
        self, store: Store, outbox: Outbox, batch: int
    ) -> None:
        images = 97
        add(store, images=images, events=ALL_EVENTS)
        ingest(store, images)
        random.seed(4)
        settled = 0
        crossed = []
        while lease := store.claim("w1", now=NOW, lease_seconds=30):
            if lease.work is Work.FINISH:
                store.close_request(lease, now=NOW)
                break
            sequences = [image.sequence for image in store.pending_images(lease)]
            for start in range(0, len(sequences), batch):
                outcomes = [
                    random.choice([done, failed])(sequence)
                    for sequence in sequences[start : start + batch]
                ]
                before, settled = settled, settled + len(outcomes)
                if before * 10 // images < settled * 10 // images and settled < images:
                    crossed.append(settled)
                store.record_outcomes({lease: outcomes}, now=NOW)
                store.record_outcomes({lease: outcomes}, now=NOW)  # late: changes nothing
            store.complete_shard(lease, now=NOW)
        assert progress(outbox) == crossed
        assert len(crossed) == (9 if batch < 9 else len(crossed))
        assert events(outbox)[-1] is Event.COMPLETED

    def test_a_batch_that_passes_many_tenths_is_one_event(
        self, store: Store, outbox: Outbox
    ) -> None:
        add(store, images=20)
        ingest(store, 20)
        leases = []
        while (lease := store.claim("w1", now=NOW, lease_seconds=30)) and lease.work is Work.SHARD:
            leases.append(lease)
        batches = {
            lease: [done(image.sequence) for image in store.pending_images(lease)[:-1]]
            for lease in leases
        }
        store.record_outcomes(batches, now=NOW)
        assert 1 <= len(progress(outbox)) <= len(leases)  # a store may count them together

    def test_what_is_taken_back_and_done_again_is_told_once(
        self, store: Store, outbox: Outbox
    ) -> None:
        add(store, images=10)
        ingest(store, 10)
        shard = claimed(store, Work.SHARD)
        store.record_outcomes({shard: [done(1), done(2)]}, now=NOW)
        lose(store)
        shard = claimed(store, Work.SHARD, now=LATE)
        store.record_outcomes({shard: [done(1), done(2)]}, now=LATE)
        assert progress(outbox) == [2]
        store.record_outcomes({shard: [done(3)]}, now=LATE)
        assert progress(outbox) == [2, 3]

    def test_a_crash_that_is_blamed_on_an_image_counts_as_progress(
        self, store: Store, outbox: Outbox
    ) -> None:
        add(store, images=10)
        ingest(store, 10)
        while not progress(outbox):
            shard = claimed(store, Work.SHARD)
            if shard.alone:
                store.mark_trying(shard, 1)
            lose(store)
        assert progress(outbox) == [1]

    def test_a_retry_tells_of_what_is_done_anew_and_of_nothing_that_stayed(
        self, store: Store, outbox: Outbox
    ) -> None:
        add(store, images=10)
        ingest(store, 10)
        work_off(store, failing=8)
        assert progress(outbox) == list(range(1, 10))
        store.retry_failed("req_a", now=NOW)
        work_off(store)
        assert progress(outbox) == [*range(1, 10), 8, 9]

    def test_progress_is_of_references_not_of_images(self, store: Store, outbox: Outbox) -> None:
        add(store, images=10)
        lease = claimed(store, Work.INGEST)
        store.begin_ingest(lease)
        store.add_images(lease, {"http://a.example/1.jpg": 1, "http://a.example/2.jpg": 8})
        store.add_images(lease, {"http://a.example/3.jpg": 1})
        store.finish_ingest(lease, now=NOW)
        shard = claimed(store, Work.SHARD)
        store.record_outcomes({shard: [done(2)]}, now=NOW)
        assert progress(outbox) == [8]

    def test_the_request_of_another_is_not_counted(self, store: Store, outbox: Outbox) -> None:
        store.add_request(a_request("req_z"))
        assert events(outbox, "req_z") == []


@pytest.mark.parametrize(
    ("before", "after", "total", "told"),
    [
        (0, 1, 10, True),
        (0, 9, 100, False),
        (9, 10, 100, True),
        (10, 11, 100, False),
        (9, 35, 100, True),
        (99, 100, 100, False),
        (0, 100, 100, False),
        (5, 5, 100, False),
        (0, 0, 0, False),
        (0, 1, 3, True),
    ],
)
def test_a_step_is_each_tenth_but_the_last(before: int, after: int, total: int, told: bool) -> None:
    assert steps_forward(before, after, total) is told

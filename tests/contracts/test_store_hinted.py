"""What every store must hold about who may take the work that a hint names."""

from __future__ import annotations

import threading

import pytest

from pixmill.core.leases import Hint, Work
from pixmill.core.model import RequestStatus
from pixmill.ports import Store
from tests.contracts.hints import assert_each_once, take, taken, told
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
    def test_each_piece_is_given_to_one_of_many_claimers(self, store: Store) -> None:
        ingested(store, urls=16 * 8)
        hints = told(store)
        start = threading.Barrier(8)

        def take_all(_: int) -> list[list[str]]:
            start.wait()
            return [[str(hint) for hint in hints if take(store, hint)]]

        assert_each_once(take_all, sorted(map(str, hints)))

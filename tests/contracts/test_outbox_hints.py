"""What every outbox must hold about deliveries that a broker tells of, and who may take them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pixmill.core.errors import LeaseLost
from pixmill.core.webhooks import MOST_ENDPOINTS, MOST_TOLD, Delivery, DeliveryState
from pixmill.ports import Outbox, Store
from tests.contracts.letters import cancelled, fail_once, tried
from tests.contracts.letters import taken as next_taken
from tests.contracts.records import NOW


def told(outbox: Outbox, *, now: float = NOW, told_before: float = NOW - 60) -> list[str]:
    """What workers are told of; what they were told of at NOW counts unless asked otherwise."""
    return outbox.take_hints(now=now, told_before=told_before)


def take(
    outbox: Outbox, delivery_id: str, *, now: float = NOW, worker: str = "w1"
) -> Delivery | None:
    """Claim what a hint names."""
    return outbox.claim_hinted(delivery_id, worker, now=now, lease_seconds=60)


def taken(outbox: Outbox, delivery_id: str, *, now: float = NOW, worker: str = "w1") -> Delivery:
    """What a hint names, which must be there to be had."""
    delivery = take(outbox, delivery_id, now=now, worker=worker)
    assert delivery is not None
    return delivery


def made(store: Store, outbox: Outbox, name: str = "req_a", *, url: str | None = None) -> str:
    """The id of a new delivery, to an endpoint of its request's own unless a URL is given."""
    cancelled(store, name, url=url or f"https://{name.replace('_', '-')}.example/hook")
    (delivery,) = outbox.deliveries(name)
    return delivery.id


def deliver(outbox: Outbox, delivery: Delivery) -> None:
    """Record that it was taken."""
    attempt = tried(delivery.attempts + 1, status=204)
    outbox.record_attempt(delivery, attempt, DeliveryState.DELIVERED, next_at=None)


class TestWindow:
    def test_an_empty_outbox_tells_of_nothing(self, outbox: Outbox) -> None:
        assert told(outbox) == []

    def test_what_is_due_is_told_of_once(self, store: Store, outbox: Outbox) -> None:
        delivery_id = made(store, outbox)
        assert told(outbox, now=NOW - 1) == []
        assert told(outbox) == [delivery_id]
        assert told(outbox) == []

    def test_of_1000_that_are_due_to_one_endpoint_the_first_two_are_told_of(
        self, store: Store, outbox: Outbox
    ) -> None:
        for number in range(1000):
            cancelled(store, f"req_{number:03}")
        other = made(store, outbox, "req_other")
        hints = told(outbox)
        requests = {outbox.delivery(delivery_id).request_id for delivery_id in hints}
        assert requests == {"req_000", "req_001", "req_other"}
        assert told(outbox) == []
        taken(outbox, next(hint for hint in hints if hint != other))
        (more,) = told(outbox)
        assert outbox.delivery(more).request_id == "req_002"

    def test_those_that_are_due_longest_come_first(self, store: Store, outbox: Outbox) -> None:
        url = "https://shop.example/hook"
        ids = []
        for number, seconds in enumerate((3, 1, 2)):
            cancelled(store, f"req_{number}", url=url, now=NOW + seconds)
            ids += [delivery.id for delivery in outbox.deliveries(f"req_{number}")]
        cancelled(store, "req_x", url="https://unlike.example/hook", now=NOW)
        (first,) = outbox.deliveries("req_x")
        assert told(outbox, now=NOW + 9) == [first.id, ids[1], ids[2]]

    def test_a_few_endpoints_are_told_of_at_a_time_and_more_as_they_are_claimed(
        self, store: Store, outbox: Outbox
    ) -> None:
        ids = {made(store, outbox, f"req_{number}") for number in range(MOST_ENDPOINTS + 3)}
        hints = told(outbox)
        assert len(set(hints)) == MOST_ENDPOINTS
        assert told(outbox) == []
        for hint in hints[:3]:
            taken(outbox, hint)
        assert {*hints, *told(outbox)} == ids

    def test_other_endpoints_do_not_wait_for_one_that_has_been_told(
        self, store: Store, outbox: Outbox
    ) -> None:
        for number in range(4):
            cancelled(store, f"req_{number}")
        assert len(told(outbox)) == MOST_TOLD
        assert told(outbox) == []
        other = made(store, outbox, "req_other")
        assert told(outbox) == [other]


class TestAgain:
    def test_what_nobody_has_claimed_is_told_of_again_after_a_while(
        self, store: Store, outbox: Outbox
    ) -> None:
        delivery_id = made(store, outbox)
        told(outbox)
        assert told(outbox, now=NOW + 60, told_before=NOW) == []
        assert told(outbox, now=NOW + 61, told_before=NOW + 1) == [delivery_id]
        assert told(outbox, now=NOW + 62, told_before=NOW + 2) == []

    def test_what_is_held_is_told_of_when_its_lease_has_run_out(
        self, store: Store, outbox: Outbox
    ) -> None:
        delivery_id = made(store, outbox)
        told(outbox)
        taken(outbox, delivery_id)
        assert told(outbox, now=NOW + 59, told_before=NOW + 59) == []
        assert told(outbox, now=NOW + 60) == [delivery_id]
        assert told(outbox, now=NOW + 61) == []

    def test_what_a_dead_worker_held_is_told_of_at_once(self, store: Store, outbox: Outbox) -> None:
        delivery_id = made(store, outbox)
        told(outbox, now=NOW + 5)
        taken(outbox, delivery_id, now=NOW + 6, worker="dead")
        store.expire_leases("dead")
        assert told(outbox, now=NOW + 7) == [delivery_id]

    def test_what_failed_is_told_of_when_it_is_due_again(
        self, store: Store, outbox: Outbox
    ) -> None:
        delivery_id = made(store, outbox)
        told(outbox)
        fail_once(outbox, now=NOW, next_at=NOW + 5)
        assert told(outbox, now=NOW + 4.9, told_before=NOW + 4.9) == []
        assert told(outbox, now=NOW + 5) == [delivery_id]
        assert told(outbox, now=NOW + 6) == []

    def test_what_waits_for_its_next_attempt_is_in_nobodys_way(
        self, store: Store, outbox: Outbox
    ) -> None:
        for number in range(MOST_TOLD + 1):
            cancelled(store, f"req_{number}")
        waiting = [fail_once(outbox, now=NOW, next_at=NOW + 5).id for _ in range(MOST_TOLD)]
        (other,) = told(outbox, now=NOW + 1)
        deliver(outbox, taken(outbox, other, now=NOW + 1))
        assert told(outbox, now=NOW + 1) == []
        assert told(outbox, now=NOW + 5) == waiting

    def test_what_is_over_is_not_told_of(self, store: Store, outbox: Outbox) -> None:
        for name in ("req_a", "req_b"):
            made(store, outbox, name)
        one, other = (taken(outbox, hint) for hint in told(outbox))
        deliver(outbox, one)
        outbox.record_attempt(other, tried(), DeliveryState.FAILED, next_at=None)
        assert told(outbox, now=NOW + 999, told_before=NOW + 999) == []

    def test_what_is_gone_is_not_told_of(self, store: Store, outbox: Outbox) -> None:
        made(store, outbox)
        store.delete_request("req_a", now=NOW, purge_at=NOW)
        assert told(outbox) == []

    @pytest.mark.parametrize("before", ["waiting", "delivered", "told of and not claimed"])
    def test_a_replay_is_told_of_at_once(self, store: Store, outbox: Outbox, before: str) -> None:
        delivery_id = made(store, outbox)
        told(outbox)
        match before:
            case "waiting":
                fail_once(outbox, now=NOW, next_at=NOW + 300)
            case "delivered":
                deliver(outbox, taken(outbox, delivery_id))
        outbox.replay(delivery_id, now=NOW)
        assert told(outbox) == [delivery_id]
        assert taken(outbox, delivery_id).id == delivery_id

    @pytest.mark.parametrize("end", ["recorded", "lost"])
    def test_a_replay_of_what_is_in_hand_is_told_of_when_it_is_let_go(
        self, store: Store, outbox: Outbox, end: str
    ) -> None:
        delivery_id = made(store, outbox)
        told(outbox)
        held = taken(outbox, delivery_id)
        outbox.replay(delivery_id, now=NOW)
        assert told(outbox) == []
        if end == "recorded":
            deliver(outbox, held)
        else:
            store.expire_leases()
        assert told(outbox) == [delivery_id]
        deliver(outbox, taken(outbox, delivery_id))
        assert outbox.delivery(delivery_id).state is DeliveryState.DELIVERED


class TestClaims:
    def test_just_that_delivery_is_claimed(self, store: Store, outbox: Outbox) -> None:
        for number in range(3):
            cancelled(store, f"req_{number}")
        (last,) = outbox.deliveries("req_2")
        assert taken(outbox, last.id).request_id == "req_2"
        left = [next_taken(outbox).request_id for _ in range(2)]
        assert left == ["req_0", "req_1"]
        assert outbox.claim_delivery("w1", [], now=NOW, lease_seconds=60) is None

    def test_when_its_endpoint_is_due_next_is_noted(self, store: Store, outbox: Outbox) -> None:
        delivery_id = made(store, outbox)
        taken(outbox, delivery_id)
        assert outbox.claim_delivery("w2", [], now=NOW + 59, lease_seconds=60) is None
        assert next_taken(outbox, now=NOW + 60).id == delivery_id

    def test_a_doubled_hint_gives_it_once(self, store: Store, outbox: Outbox) -> None:
        delivery_id = made(store, outbox)
        taken(outbox, delivery_id)
        assert take(outbox, delivery_id, worker="w2") is None

    def test_what_waits_for_its_next_attempt_cannot_be_claimed(
        self, store: Store, outbox: Outbox
    ) -> None:
        delivery_id = made(store, outbox)
        fail_once(outbox, now=NOW, next_at=NOW + 5)
        assert take(outbox, delivery_id, now=NOW + 4.9) is None
        assert taken(outbox, delivery_id, now=NOW + 5).attempts == 1

    @pytest.mark.parametrize("end", [DeliveryState.DELIVERED, DeliveryState.FAILED])
    def test_what_is_over_cannot_be_claimed(
        self, store: Store, outbox: Outbox, end: DeliveryState
    ) -> None:
        delivery_id = made(store, outbox)
        outbox.record_attempt(taken(outbox, delivery_id), tried(), end, next_at=None)
        assert take(outbox, delivery_id, now=NOW + 999) is None

    def test_what_is_not_there_cannot_be_claimed(self, store: Store, outbox: Outbox) -> None:
        assert take(outbox, "msg_unknown") is None
        delivery_id = made(store, outbox)
        store.delete_request("req_a", now=NOW, purge_at=NOW)
        assert take(outbox, delivery_id) is None

    def test_who_lost_it_is_fenced_off(self, store: Store, outbox: Outbox) -> None:
        delivery_id = made(store, outbox)
        late = taken(outbox, delivery_id)
        again = taken(outbox, delivery_id, now=NOW + 60, worker="w2")
        with pytest.raises(LeaseLost):
            outbox.keep_body(late, "{}")
        with pytest.raises(LeaseLost):
            deliver(outbox, late)
        outbox.keep_body(again, "{}")
        deliver(outbox, again)

    def test_a_replay_is_done_by_the_claim_that_follows(self, store: Store, outbox: Outbox) -> None:
        delivery_id = made(store, outbox)
        taken(outbox, delivery_id)
        outbox.replay(delivery_id, now=NOW + 3)
        deliver(outbox, taken(outbox, delivery_id, now=NOW + 60))
        assert outbox.delivery(delivery_id).state is DeliveryState.DELIVERED


class TestAtOnce:
    def test_each_hint_and_each_delivery_is_given_to_one_of_many(
        self, store: Store, outbox: Outbox
    ) -> None:
        for number in range(20):
            url = f"https://e{number // MOST_TOLD}.example/hook"
            made(store, outbox, f"req_{number:02}", url=url)
        ids = sorted(told(outbox))
        assert len(ids) == 20
        start = threading.Barrier(8)

        def ask(_: int) -> list[list[str]]:
            found = []
            for number in range(1, 11):
                start.wait()
                found.append(told(outbox, now=NOW + number, told_before=NOW + number))
            start.wait()
            return [*found, [each for each in ids if take(outbox, each, now=NOW + 11)]]

        with ThreadPoolExecutor(8) as pool:
            rounds = zip(*pool.map(ask, range(8)), strict=True)
            given = [sorted(each for found in answers for each in found) for answers in rounds]
        assert given == [ids] * 11

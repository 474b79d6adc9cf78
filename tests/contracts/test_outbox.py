"""What every outbox must hold: deliveries are held by one at a time, tried, and sent again."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from pixmill.core.errors import LeaseLost, NotFound
from pixmill.core.events import Event
from pixmill.core.model import RequestStatus
from pixmill.core.webhooks import DeliveryState
from pixmill.ports import Outbox, Store
from tests.contracts.letters import HOOK, add, cancelled, completed, fail_once, taken, tried
from tests.contracts.records import NOW


class TestClaims:
    def test_a_delivery_tells_what_it_is_of(self, store: Store, outbox: Outbox) -> None:
        cancelled(store)
        delivery = taken(outbox)
        assert re.fullmatch(r"msg_[a-z2-7]{26}", delivery.id)
        assert (delivery.request_id, delivery.event) == ("req_a", Event.CANCELLED)
        assert (delivery.url, delivery.status) == (HOOK, RequestStatus.CANCELLED)
        assert delivery.created_at == datetime.fromtimestamp(NOW, UTC)
        assert (delivery.attempts, delivery.body) == (0, None)
        assert outbox.delivery(delivery.id).state is DeliveryState.PENDING

    def test_nothing_is_due_when_there_is_nothing(self, outbox: Outbox) -> None:
        assert outbox.claim_delivery("w1", [], now=NOW, lease_seconds=60) is None

    def test_what_somebody_holds_is_not_given_out_again(self, store: Store, outbox: Outbox) -> None:
        cancelled(store)
        taken(outbox)
        assert outbox.claim_delivery("w2", [], now=NOW + 59, lease_seconds=60) is None

    def test_a_lost_lease_is_due_again_under_the_same_id_and_its_holder_is_fenced_off(
        self, store: Store, outbox: Outbox
    ) -> None:
        cancelled(store)
        late = taken(outbox)
        again = taken(outbox, now=NOW + 60, worker="w2")
        assert (again.id, again.attempts) == (late.id, 0)
        with pytest.raises(LeaseLost):
            outbox.keep_body(late, "{}")
        with pytest.raises(LeaseLost):
            outbox.record_attempt(late, tried(status=204), DeliveryState.DELIVERED, next_at=None)
        outbox.record_attempt(again, tried(status=204), DeliveryState.DELIVERED, next_at=None)
        assert len(outbox.attempts(again.id)) == 1

    def test_an_attempt_can_be_recorded_once_only(self, store: Store, outbox: Outbox) -> None:
        cancelled(store)
        held = fail_once(outbox, now=NOW, next_at=NOW + 5)
        with pytest.raises(LeaseLost):
            outbox.record_attempt(held, tried(), DeliveryState.FAILED, next_at=None)

    def test_what_a_dead_worker_held_is_due_at_once(self, store: Store, outbox: Outbox) -> None:
        cancelled(store, "req_a")
        cancelled(store, "req_b", url="https://other.example/hook")
        one = taken(outbox, worker="w1")
        other = taken(outbox, worker="w2")
        store.expire_leases("w1")
        assert taken(outbox, worker="w3").id == one.id
        assert outbox.claim_delivery("w3", [], now=NOW, lease_seconds=60) is None
        outbox.record_attempt(other, tried(status=204), DeliveryState.DELIVERED, next_at=None)
        with pytest.raises(LeaseLost):
            outbox.keep_body(one, "{}")
        store.expire_leases()
        assert taken(outbox).id == one.id

    def test_what_is_handed_back_is_due_as_before_and_untried(
        self, store: Store, outbox: Outbox
    ) -> None:
        cancelled(store)
        held = taken(outbox)
        outbox.keep_body(held, "{}")
        outbox.release_delivery(held)
        again = taken(outbox, worker="w2")
        assert (again.id, again.attempts, again.body) == (held.id, 0, "{}")
        with pytest.raises(LeaseLost):
            outbox.record_attempt(held, tried(), DeliveryState.FAILED, next_at=None)

    def test_what_was_replayed_meanwhile_and_is_handed_back_is_due_since_then(
        self, store: Store, outbox: Outbox
    ) -> None:
        cancelled(store)
        fail_once(outbox, now=NOW, next_at=NOW + 500)
        held = taken(outbox, now=NOW + 501)
        outbox.replay(held.id, now=NOW + 502)
        outbox.release_delivery(held)
        again = taken(outbox, now=NOW + 503)
        assert again.id == held.id
        outbox.record_attempt(again, tried(2, status=204), DeliveryState.DELIVERED, next_at=None)
        assert outbox.delivery(held.id).state is DeliveryState.DELIVERED

    def test_only_who_holds_a_delivery_can_hand_it_back(self, store: Store, outbox: Outbox) -> None:
        cancelled(store)
        lost = taken(outbox)
        held = taken(outbox, now=NOW + 61, worker="w2")
        outbox.release_delivery(lost)
        assert outbox.claim_delivery("w3", [], now=NOW + 62, lease_seconds=60) is None
        outbox.record_attempt(held, tried(status=204), DeliveryState.DELIVERED, next_at=None)
        outbox.release_delivery(held)
        assert outbox.claim_delivery("w3", [], now=NOW + 200, lease_seconds=60) is None

    def test_the_one_that_is_due_longest_comes_first(self, store: Store, outbox: Outbox) -> None:
        for name in ("a", "b", "c"):
            cancelled(store, f"req_{name}", url=f"https://{name}.example/hook")
        first = fail_once(outbox, now=NOW, next_at=NOW + 5)
        second = fail_once(outbox, now=NOW, next_at=NOW + 4)
        assert taken(outbox, now=NOW + 9).id not in {first.id, second.id}
        assert taken(outbox, now=NOW + 9).id == second.id
        assert taken(outbox, now=NOW + 9).id == first.id

    def test_what_waits_for_its_next_attempt_is_not_given_out(
        self, store: Store, outbox: Outbox
    ) -> None:
        cancelled(store)
        fail_once(outbox, now=NOW, next_at=NOW + 5)
        assert outbox.claim_delivery("w1", [], now=NOW + 4.9, lease_seconds=60) is None
        assert taken(outbox, now=NOW + 5).attempts == 1

    def test_busy_endpoints_are_left_out_and_the_others_are_not(
        self, store: Store, outbox: Outbox
    ) -> None:
        for number in range(4):
            cancelled(store, f"req_{number}", url=f"https://slow.example/{number}")
        cancelled(store, "req_x", url="https://slow.example:8443/hook")
        busy = ["https://slow.example"]
        found = outbox.claim_delivery("w1", busy, now=NOW, lease_seconds=60)
        assert found is not None
        assert found.request_id == "req_x"
        assert outbox.claim_delivery("w1", busy, now=NOW, lease_seconds=60) is None
        assert taken(outbox).request_id == "req_0"

    def test_two_dispatchers_at_once_never_hold_the_same(
        self, store: Store, open_outbox: Callable[[], Outbox]
    ) -> None:
        for number in range(100):
            cancelled(store, f"req_{number}", url=f"https://e{number % 7}.example/hook")

        def take_all(outbox: Outbox) -> list[str]:
            held = []
            while delivery := outbox.claim_delivery("w", [], now=NOW, lease_seconds=60):
                held.append(delivery.id)
            return held

        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(take_all, [open_outbox(), open_outbox()]))
        assert len(found[0]) + len(found[1]) == len({*found[0], *found[1]}) == 100


class TestAttempts:
    def test_the_body_is_kept_for_every_attempt(self, store: Store, outbox: Outbox) -> None:
        cancelled(store)
        held = taken(outbox)
        outbox.keep_body(held, '{"name": "Stühle"}')
        outbox.record_attempt(held, tried(), DeliveryState.PENDING, next_at=NOW + 5)
        assert taken(outbox, now=NOW + 5).body == '{"name": "Stühle"}'

    def test_every_attempt_can_be_seen(self, store: Store, outbox: Outbox) -> None:
        cancelled(store)
        first = tried(1, status=None)
        held = taken(outbox)
        outbox.record_attempt(held, first, DeliveryState.PENDING, next_at=NOW + 5)
        waiting = outbox.delivery(held.id)
        assert waiting.state is DeliveryState.PENDING
        assert waiting.next_attempt_at == datetime.fromtimestamp(NOW + 5, UTC)
        second = tried(2, status=204, at=NOW + 5)
        again = taken(outbox, now=NOW + 5)
        outbox.record_attempt(again, second, DeliveryState.DELIVERED, next_at=None)
        delivered = outbox.delivery(held.id)
        assert (delivered.state, delivered.attempts) == (DeliveryState.DELIVERED, 2)
        assert delivered.next_attempt_at is None
        assert outbox.attempts(held.id) == [first, second]
        assert outbox.claim_delivery("w1", [], now=NOW + 1e9, lease_seconds=60) is None

    def test_while_it_is_in_hand_it_shows_when_it_was_due(
        self, store: Store, outbox: Outbox
    ) -> None:
        cancelled(store)
        held = taken(outbox, now=NOW + 3)
        assert outbox.delivery(held.id).next_attempt_at == datetime.fromtimestamp(NOW, UTC)

    def test_the_last_100_attempts_are_kept(self, store: Store, outbox: Outbox) -> None:
        cancelled(store)
        for number in range(103):
            held = fail_once(outbox, now=NOW + number, next_at=NOW + number + 1)
        assert [attempt.number for attempt in outbox.attempts(held.id)] == list(range(4, 104))
        assert outbox.delivery(held.id).attempts == 103

    def test_unknown_deliveries_have_no_attempts(self, outbox: Outbox) -> None:
        assert outbox.attempts("msg_unknown") == []
        with pytest.raises(NotFound, match="msg_unknown"):
            outbox.delivery("msg_unknown")


class TestReplay:
    @pytest.mark.parametrize("status", [204, 410])
    def test_a_replay_begins_the_schedule_anew_under_the_same_id(
        self, store: Store, outbox: Outbox, status: int
    ) -> None:
        cancelled(store)
        held = taken(outbox)
        outbox.keep_body(held, "{}")
        state = DeliveryState.DELIVERED if status == 204 else DeliveryState.FAILED
        outbox.record_attempt(held, tried(status=status), state, next_at=None)
        replayed = outbox.replay(held.id, now=NOW + 50)
        assert (replayed.state, replayed.earlier) == (DeliveryState.PENDING, 1)
        assert replayed.next_attempt_at == datetime.fromtimestamp(NOW + 50, UTC)
        again = taken(outbox, now=NOW + 50)
        assert (again.id, again.body, again.attempts, again.earlier) == (held.id, "{}", 1, 1)
        outbox.record_attempt(again, tried(2), DeliveryState.PENDING, next_at=NOW + 55)
        assert [attempt.number for attempt in outbox.attempts(held.id)] == [1, 2]

    @pytest.mark.parametrize(
        ("status", "state"),
        [
            (204, DeliveryState.DELIVERED),
            (410, DeliveryState.FAILED),
            (500, DeliveryState.PENDING),
        ],
    )
    def test_what_is_in_hand_is_replayed_once_its_attempt_is_recorded(
        self, store: Store, outbox: Outbox, status: int, state: DeliveryState
    ) -> None:
        cancelled(store)
        held = taken(outbox)
        replayed = outbox.replay(held.id, now=NOW + 3)
        assert replayed.next_attempt_at == datetime.fromtimestamp(NOW + 3, UTC)
        assert outbox.claim_delivery("w2", [], now=NOW + 59, lease_seconds=60) is None
        outbox.keep_body(held, "{}")
        next_at = NOW + 300 if state is DeliveryState.PENDING else None
        outbox.record_attempt(held, tried(status=status), state, next_at=next_at)
        assert outbox.attempts(held.id) == [tried(status=status)]
        again = taken(outbox, now=NOW + 4, worker="w2")
        assert (again.id, again.body, again.attempts, again.earlier) == (held.id, "{}", 1, 1)
        outbox.record_attempt(again, tried(2, status=204), DeliveryState.DELIVERED, next_at=None)
        assert outbox.delivery(held.id).state is DeliveryState.DELIVERED, "it was one replay"
        assert outbox.claim_delivery("w1", [], now=NOW + 999, lease_seconds=60) is None

    @pytest.mark.parametrize("how", ["it ran out", "its worker died"])
    def test_a_replay_is_done_too_if_the_lease_of_what_is_in_hand_is_lost(
        self, store: Store, outbox: Outbox, how: str
    ) -> None:
        cancelled(store)
        held = taken(outbox)
        outbox.replay(held.id, now=NOW + 3)
        if how == "its worker died":
            store.expire_leases("w1")
        again = taken(outbox, now=NOW + (4 if how == "its worker died" else 60), worker="w2")
        assert (again.id, again.attempts) == (held.id, 0)
        outbox.record_attempt(again, tried(status=204), DeliveryState.DELIVERED, next_at=None)
        assert outbox.delivery(held.id).state is DeliveryState.DELIVERED, "nothing is left to do"

    def test_what_is_unknown_cannot_be_sent_again(self, outbox: Outbox) -> None:
        with pytest.raises(NotFound, match="msg_unknown"):
            outbox.replay("msg_unknown", now=NOW)


class TestDeletion:
    def test_a_deleted_request_leaves_no_delivery(self, store: Store, outbox: Outbox) -> None:
        cancelled(store)
        cancelled(store, "req_b")
        held = fail_once(outbox, now=NOW, next_at=NOW + 5)
        again = taken(outbox, now=NOW + 5)  # the other one
        store.delete_request("req_a", now=NOW, purge_at=NOW)
        assert outbox.deliveries("req_a") == []
        assert outbox.attempts(held.id) == []
        with pytest.raises(NotFound):
            outbox.replay(held.id, now=NOW)
        assert again.request_id == "req_b"
        assert outbox.claim_delivery("w1", [], now=NOW + 9, lease_seconds=60) is None

    def test_who_holds_a_delivery_of_a_deleted_request_is_told(
        self, store: Store, outbox: Outbox
    ) -> None:
        cancelled(store)
        held = taken(outbox)
        store.delete_request("req_a", now=NOW, purge_at=NOW)
        with pytest.raises(LeaseLost):
            outbox.record_attempt(held, tried(), DeliveryState.FAILED, next_at=None)

    def test_a_request_can_be_forgotten_after_its_deliveries(
        self, store: Store, outbox: Outbox
    ) -> None:
        add(store)
        completed(store)
        fail_once(outbox, now=NOW, next_at=NOW + 5)
        store.delete_request("req_a", now=NOW, purge_at=NOW)
        purge = store.claim("w1", now=NOW, lease_seconds=30)
        assert purge is not None
        assert store.forget(purge)

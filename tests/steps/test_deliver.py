"""Deliveries: to real receivers, tried again as the contract has it, none lost, none held up."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import WebhookVerificationError

from pixmill.core.addresses import AddressPolicy
from pixmill.core.errors import LeaseLost, StorageFailure, StoreUnavailable
from pixmill.core.webhooks import Delivery, DeliveryState
from pixmill.io.post import Answer, Poster
from pixmill.steps.deliver import INTERNAL_ERROR, deliver
from pixmill.steps.dispatch import FOR_SLOW, THREADS
from pixmill.stores.sqlite import SqliteOutbox, SqliteStore
from tests.contracts.letters import cancelled
from tests.io.origins import Visit, origin
from tests.receivers import SECRET, Message, Reply, receiving
from tests.steps.desks import QUICK, a_desk, dispatching, settled

OTHER_SECRET = bytes(range(100, 124))


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[SqliteOutbox]:
    """The store's outbox."""
    with closing(SqliteOutbox(tmp_path / "pixmill.db")) as opened:
        yield opened


def due(store: SqliteStore, url: str, request_id: str = "req_a") -> None:
    """Make a delivery that is due now."""
    cancelled(store, request_id, url=url, now=time.time())


def send_once(store: SqliteStore, outbox: SqliteOutbox, **more: Any) -> Delivery:
    """Send what is due once; return how it stands then."""
    held = outbox.claim_delivery("w1", [], now=time.time(), lease_seconds=60)
    assert held is not None
    with a_desk(store, outbox, **more) as desk:
        deliver(desk, held)
    return outbox.delivery(held.id)


class Failing:
    """Answers with a failure so many times, then with success."""

    def __init__(self, times: int, failure: Reply = (500, {})) -> None:
        self._left = times
        self._failure = failure

    def __call__(self, _message: Message) -> Reply:
        self._left -= 1
        return self._failure if self._left >= 0 else (204, {})


class TestAttempts:
    def test_three_500s_then_204_are_four_attempts_under_one_id_each_verified(
        self, store: SqliteStore, outbox: SqliteOutbox
    ) -> None:
        with (
            receiving(Failing(3)) as receiver,
            a_desk(store, outbox) as desk,
            dispatching(desk),
        ):
            due(store, receiver.url("/hook?shop=1"))
            delivery = settled(outbox)
        assert (delivery.state, delivery.attempts) == (DeliveryState.DELIVERED, 4)
        assert [message.id for message in receiver.messages] == [delivery.id] * 4
        assert {message.path for message in receiver.messages} == {"/hook?shop=1"}
        assert len({message.body for message in receiver.messages}) == 1
        for message in receiver.messages:
            assert message.verified()["requestId"] == "req_a"
            assert message.headers["content-type".title()] == "application/json"
            with pytest.raises(WebhookVerificationError):
                message.verified(OTHER_SECRET)
        statuses = [attempt.http_status for attempt in outbox.attempts(delivery.id)]
        assert statuses == [500, 500, 500, 204]

    def test_each_attempt_is_stamped_with_its_own_time(
        self, store: SqliteStore, outbox: SqliteOutbox
    ) -> None:
        with receiving(Failing(1)) as receiver:
            due(store, receiver.url())
            send_once(store, outbox, delays=(0, 0))
            held = outbox.claim_delivery("w1", [], now=time.time(), lease_seconds=60)
            assert held is not None
            with a_desk(store, outbox) as desk:
                deliver(replace(desk, clock=lambda: time.time() + 100), held)
        first, second = receiver.messages
        apart = int(second.headers["webhook-timestamp"]) - int(first.headers["webhook-timestamp"])
        assert 99 <= apart <= 160
        assert second.verified()

    def test_it_is_given_up_after_the_last_attempt(
        self, store: SqliteStore, outbox: SqliteOutbox
    ) -> None:
        with (
            receiving(Failing(99)) as receiver,
            a_desk(store, outbox) as desk,
            dispatching(desk),
        ):
            due(store, receiver.url())
            delivery = settled(outbox)
        assert (delivery.state, delivery.attempts) == (DeliveryState.FAILED, len(QUICK))
        assert delivery.next_attempt_at is None
        assert len(receiver.messages) == len(QUICK)

    def test_the_next_attempt_waits_as_the_contract_has_it(
        self, store: SqliteStore, outbox: SqliteOutbox
    ) -> None:
        with receiving(Failing(1)) as receiver:
            due(store, receiver.url())
            before = time.time()
            delivery = send_once(store, outbox, delays=(0, 300))
        assert delivery.next_attempt_at is not None
        assert 300 <= delivery.next_attempt_at.timestamp() - before <= 330 + 30
        assert delivery.state is DeliveryState.PENDING

    def test_retry_after_makes_it_later(self, store: SqliteStore, outbox: SqliteOutbox) -> None:
        with receiving(Failing(1, (503, {"Retry-After": "1000"}))) as receiver:
            due(store, receiver.url())
            before = time.time()
            delivery = send_once(store, outbox, delays=(0, 5))
        assert delivery.next_attempt_at is not None
        assert 1000 <= delivery.next_attempt_at.timestamp() - before <= 1030
        assert outbox.attempts(delivery.id)[0].retry_after == 1000

    def test_410_ends_it(self, store: SqliteStore, outbox: SqliteOutbox) -> None:
        with receiving(Failing(9, (410, {}))) as receiver:
            due(store, receiver.url())
            delivery = send_once(store, outbox)
        assert (delivery.state, delivery.attempts) == (DeliveryState.FAILED, 1)

    @pytest.mark.parametrize("status", [301, 302, 307, 308])
    def test_a_redirect_is_a_failure_and_is_not_followed(
        self, store: SqliteStore, outbox: SqliteOutbox, status: int
    ) -> None:
        with receiving() as elsewhere:
            moved = (status, {"Location": elsewhere.url()})
            with receiving(lambda _: moved) as receiver:
                due(store, receiver.url())
                delivery = send_once(store, outbox)
            assert elsewhere.messages == []
        assert delivery.state is DeliveryState.PENDING
        assert [attempt.http_status for attempt in outbox.attempts(delivery.id)] == [status]

    def test_a_timeout_is_a_failure_that_is_told_in_words(
        self, store: SqliteStore, outbox: SqliteOutbox
    ) -> None:
        with origin(lambda visit: visit.wait()) as server:
            due(store, server.url("/hook"))
            held = outbox.claim_delivery("w1", [], now=time.time(), lease_seconds=60)
            assert held is not None
            policy = AddressPolicy.parse("127.0.0.0/8")
            with a_desk(store, outbox) as desk, closing(Poster(policy, "t", timeout=0.3)) as poster:
                deliver(replace(desk, post=poster.post), held)
        (attempt,) = outbox.attempts(held.id)
        assert (attempt.http_status, attempt.error) == (None, "127.0.0.1 did not answer in time.")
        assert outbox.delivery(held.id).state is DeliveryState.PENDING

    def test_a_forbidden_endpoint_is_not_dialled_at_any_attempt(
        self, store: SqliteStore, outbox: SqliteOutbox
    ) -> None:
        with receiving() as receiver:
            due(store, receiver.url())
            held = outbox.claim_delivery("w1", [], now=time.time(), lease_seconds=60)
            assert held is not None
            with a_desk(store, outbox) as desk, closing(Poster(AddressPolicy(), "t")) as poster:
                deliver(replace(desk, post=poster.post), held)
            assert receiver.messages == []
        assert "was not asked" in (outbox.attempts(held.id)[0].error or "")

    def test_every_attempt_sends_the_same_bytes_whatever_became_of_the_request(
        self, store: SqliteStore, outbox: SqliteOutbox
    ) -> None:
        written = iter(["{}", '{"told": "another story"}'])
        with receiving(Failing(1)) as receiver:
            due(store, receiver.url())
            first = send_once(store, outbox, delays=(0, 0), write_body=lambda _: next(written))
            again = send_once(store, outbox, write_body=lambda _: next(written))
        assert again.state is DeliveryState.DELIVERED
        assert [message.id for message in receiver.messages] == [first.id, first.id]
        assert receiver.messages[0].body == receiver.messages[1].body

    def test_a_replay_has_the_whole_schedule_again_and_its_log_goes_on(
        self, store: SqliteStore, outbox: SqliteOutbox
    ) -> None:
        with (
            receiving(Failing(12)) as receiver,
            a_desk(store, outbox) as desk,
            dispatching(desk),
        ):
            due(store, receiver.url())
            failed = settled(outbox)
            assert (failed.state, failed.attempts) == (DeliveryState.FAILED, 10)
            outbox.replay(failed.id, now=time.time())
            delivery = settled(outbox)
        assert (delivery.state, delivery.attempts) == (DeliveryState.DELIVERED, 13)
        assert {message.id for message in receiver.messages} == {failed.id}
        assert [attempt.number for attempt in outbox.attempts(failed.id)] == list(range(1, 14))

    def test_during_a_rotation_both_signatures_are_there_and_each_verifies(
        self, store: SqliteStore, outbox: SqliteOutbox
    ) -> None:
        with receiving() as receiver:
            due(store, receiver.url())
            send_once(store, outbox, secrets=[OTHER_SECRET, SECRET])
        (message,) = receiver.messages
        assert len(message.headers["webhook-signature"].split(" ")) == 2
        assert message.verified(SECRET) == message.verified(OTHER_SECRET)


class TestManyAtOnce:
    def test_two_dispatchers_on_one_outbox_deliver_each_of_200_once(
        self, store: SqliteStore, outbox: SqliteOutbox, tmp_path: Path
    ) -> None:
        with receiving() as receiver, receiving() as other:
            for number in range(200):
                due(store, (receiver if number % 2 else other).url(), f"req_{number}")
            with ExitStack() as running:
                for name in ("w1", "w2"):
                    own = running.enter_context(closing(SqliteOutbox(tmp_path / "pixmill.db")))
                    desk = running.enter_context(a_desk(store, own))
                    running.enter_context(dispatching(desk, name))
                receiver.wait_for(100)
                other.wait_for(100)
            sent = Counter(message.id for message in receiver.messages + other.messages)
        assert len(sent) == 200
        assert set(sent.values()) == {1}
        for number in range(200):
            (delivery,) = outbox.deliveries(f"req_{number}")
            assert (delivery.state, delivery.attempts) == (DeliveryState.DELIVERED, 1)

    def test_endpoints_that_hang_or_drip_do_not_hold_up_another(
        self, store: SqliteStore, outbox: SqliteOutbox
    ) -> None:
        def drip(visit: Visit) -> None:
            visit.send(b"HTTP/1.1 200 OK\r\n")
            while True:
                visit.send(b"x-drop: 1\r\n")
                visit.wait(0.2)

        with (
            origin(lambda visit: visit.wait()) as hanging,
            origin(drip) as dripping,
            receiving() as receiver,
            a_desk(store, outbox) as desk,
        ):
            for number in range(50):
                due(store, hanging.url(f"?order={number}"), f"req_h{number}")
                due(store, dripping.url(f"/{number}").upper(), f"req_d{number}")
            due(store, receiver.url())
            with dispatching(desk, grace_seconds=0):
                deadline = time.monotonic() + 10
                while len(hanging.visits) + len(dripping.visits) < 4:
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
                receiver.wait_for(1, timeout=10)
                due(store, receiver.url(), "req_b")  # and so does one that comes later
                receiver.wait_for(2, timeout=10)
                assert len(hanging.visits) + len(dripping.visits) == 4

    def test_many_endpoints_that_hang_leave_room_for_the_others(
        self, store: SqliteStore, outbox: SqliteOutbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pixmill.steps.dispatch.SLOW_SECONDS", 0.1)
        let_go, waiting, told = threading.Event(), threading.Semaphore(0), threading.Event()

        def post(url: str, _headers: Mapping[str, str], _body: bytes) -> Answer:
            if "quick" in url:
                told.set()
                return Answer(204, None, None, 0.0)
            if url in seen:  # from its second attempt on, it hangs
                waiting.release()
                let_go.wait(60)
            else:
                seen.append(url)
                time.sleep(0.2)
            return Answer(None, "It did not answer in time.", None, 15.0)

        seen: list[str] = []
        # That an endpoint is slow is noted a moment after its attempt: it is not due before that.
        with a_desk(store, outbox, delays=(1.0,) * 10) as desk:
            for number in range(THREADS * 2):
                due(store, f"http://slow{number}.example/", f"req_{number}")
            with dispatching(replace(desk, post=post), grace_seconds=30):
                for _ in range(FOR_SLOW):
                    assert waiting.acquire(timeout=60)
                due(store, "http://quick.example/", "req_quick")
                assert told.wait(60)
                settled(outbox, "req_quick")
                assert not waiting.acquire(timeout=1), "no more than half hang at once"
                let_go.set()

    def test_nobody_is_asked_more_than_a_few_times_a_second_while_nothing_is_due(
        self, store: SqliteStore, outbox: SqliteOutbox
    ) -> None:
        looks: list[float] = []

        class Watched:
            def claim_delivery(self, *given: Any, **more: Any) -> Delivery | None:
                looks.append(time.monotonic())
                return outbox.claim_delivery(*given, **more)

        with (
            a_desk(store, Watched()) as desk,  # type: ignore[arg-type]  # nothing else is called
            dispatching(desk),
        ):
            deadline = time.monotonic() + 30
            while len(looks) < 4:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        assert looks[3] - looks[0] >= 1.4


class TestTrouble:
    def test_an_internal_error_is_an_attempt_that_failed_and_stops_no_other(
        self, store: SqliteStore, outbox: SqliteOutbox
    ) -> None:
        def write_body(delivery: Delivery) -> str:
            if delivery.request_id == "req_a":
                raise RuntimeError("a mistake of ours")
            return "{}"

        with (
            receiving() as receiver,
            a_desk(store, outbox, write_body=write_body, delays=(0, 0)) as desk,
            dispatching(desk) as running,
        ):
            due(store, receiver.url())
            assert settled(outbox).state is DeliveryState.FAILED
            due(store, receiver.url(), "req_b")
            assert settled(outbox, "req_b").state is DeliveryState.DELIVERED
            assert running.failure is None
        told = [attempt.error for attempt in outbox.attempts(settled(outbox).id)]
        assert told == [INTERNAL_ERROR] * 2

    @pytest.mark.parametrize("failure", [StorageFailure("full"), RuntimeError("a mistake")])
    def test_an_outbox_that_needs_mending_ends_the_dispatcher_aloud(
        self,
        store: SqliteStore,
        outbox: SqliteOutbox,
        monkeypatch: pytest.MonkeyPatch,
        failure: Exception,
    ) -> None:
        def claim_delivery(*_: object, **__: object) -> None:
            raise failure

        monkeypatch.setattr(outbox, "claim_delivery", claim_delivery)
        with a_desk(store, outbox) as desk, dispatching(desk) as running:
            running.thread.join(10)
            assert running.failure is failure

    def test_a_store_that_is_away_for_a_moment_does_not(
        self, store: SqliteStore, outbox: SqliteOutbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real, calls = outbox.claim_delivery, []

        def claim_delivery(*given: Any, **more: Any) -> Delivery | None:
            calls.append(1)
            if len(calls) < 3:
                raise StoreUnavailable("locked")
            return real(*given, **more)

        monkeypatch.setattr(outbox, "claim_delivery", claim_delivery)
        with receiving() as receiver, a_desk(store, outbox) as desk, dispatching(desk):
            due(store, receiver.url())
            assert settled(outbox).state is DeliveryState.DELIVERED

    def test_an_attempt_that_nobody_could_record_is_made_again_under_the_same_id(
        self, store: SqliteStore, outbox: SqliteOutbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with receiving() as receiver:
            due(store, receiver.url())
            with monkeypatch.context() as patched:

                def record_attempt(*_: object, **__: object) -> None:
                    raise StoreUnavailable("locked")

                patched.setattr(outbox, "record_attempt", record_attempt)
                with pytest.raises(StoreUnavailable):
                    send_once(store, outbox)
            store.expire_leases("w1")
            delivery = send_once(store, outbox)
        assert (delivery.state, delivery.attempts) == (DeliveryState.DELIVERED, 1)
        assert [message.id for message in receiver.messages] == [delivery.id] * 2

    def test_a_request_that_is_deleted_while_it_is_told_of_is_let_go(
        self, store: SqliteStore, outbox: SqliteOutbox
    ) -> None:
        def reply(_message: Message) -> Reply:
            store.delete_request("req_a", now=time.time(), purge_at=time.time())
            return 204, {}

        with receiving(reply) as receiver:
            due(store, receiver.url())
            with pytest.raises(LeaseLost):
                send_once(store, outbox)
        assert outbox.deliveries("req_a") == []


class TestStop:
    def test_what_hangs_is_broken_off_at_the_end_of_the_grace_and_is_no_attempt(
        self, store: SqliteStore, outbox: SqliteOutbox
    ) -> None:
        with origin(lambda visit: visit.wait()) as hanging, a_desk(store, outbox) as desk:
            due(store, hanging.url())
            with dispatching(desk, grace_seconds=0.2) as running:
                deadline = time.monotonic() + 10
                while not hanging.visits:
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
                running.end(timeout=10)
        (delivery,) = outbox.deliveries("req_a")
        assert (delivery.state, delivery.attempts) == (DeliveryState.PENDING, 0)
        again = outbox.claim_delivery("w2", [], now=time.time(), lease_seconds=60)
        assert again is not None, "it waits for its lease to run out"
        assert again.id == delivery.id

    def test_what_is_answered_within_the_grace_is_recorded(
        self, store: SqliteStore, outbox: SqliteOutbox
    ) -> None:
        let_go = threading.Event()

        def reply(_message: Message) -> Reply:
            let_go.wait(30)
            return 204, {}

        with receiving(reply) as receiver, a_desk(store, outbox) as desk:
            due(store, receiver.url())
            with dispatching(desk, grace_seconds=30) as running:
                receiver.wait_for(1)
                running.stop.set()
                let_go.set()
                running.thread.join(30)
        assert settled(outbox).state is DeliveryState.DELIVERED

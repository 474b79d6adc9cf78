"""The dispatcher that is told of deliveries by messages: it sends each that it can have, once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from pixmill.core.webhooks import Delivery, DeliveryState
from pixmill.steps import dispatch
from pixmill.steps.deliver import Desk
from pixmill.steps.dispatch import LEASE_SECONDS, PER_ENDPOINT, Dispatcher
from pixmill.stores.sqlite import SqliteOutbox, SqliteStore
from tests.contracts.letters import cancelled
from tests.fleet import wait_until
from tests.receivers import Message, Receiver, Reply, receiving
from tests.steps.desks import a_desk, settled

NEVER = 3600.0


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[SqliteOutbox]:
    """The store's outbox."""
    with closing(SqliteOutbox(tmp_path / "pixmill.db")) as opened:
        yield opened


@contextmanager
def standing_by(
    desk: Desk, on_change: Callable[[], None] = lambda: None, *, grace_seconds: float = 5
) -> Iterator[Dispatcher]:
    """A dispatcher that waits for messages during the block."""
    stop = threading.Event()
    dispatcher = Dispatcher("told", desk, grace_seconds=grace_seconds, on_change=on_change)
    thread = threading.Thread(target=dispatcher.stand_by, args=(stop,))
    thread.start()
    try:
        yield dispatcher
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


def due(store: SqliteStore, receiver: Receiver, request_id: str = "req_a") -> None:
    """Make a delivery that is due now."""
    cancelled(store, request_id, url=receiver.url(), now=time.time())


def told(outbox: SqliteOutbox) -> list[str]:
    """What workers are to be told of now."""
    return outbox.take_hints(now=time.time(), told_before=0)


def held(outbox: SqliteOutbox, request_id: str) -> bool:
    """Whether somebody has the delivery of a request."""
    (delivery,) = outbox.deliveries(request_id)
    return delivery.state is not DeliveryState.PENDING


def test_a_delivery_is_sent_once_however_often_its_message_comes(
    store: SqliteStore, outbox: SqliteOutbox
) -> None:
    changes = threading.Semaphore(0)
    with receiving() as receiver, a_desk(store, outbox) as desk:
        due(store, receiver)
        (hint,) = told(outbox)
        with standing_by(desk, changes.release) as dispatcher:
            for _ in range(3):
                dispatcher.take(hint)
            assert settled(outbox).state is DeliveryState.DELIVERED
            assert changes.acquire(timeout=30), "there is room for another"
            dispatcher.take(hint)
            dispatcher.take("msg_unknown")
        assert len(receiver.messages) == 1
    assert told(outbox) == []


def test_an_endpoint_that_has_enough_in_hand_gets_no_more_for_now(
    store: SqliteStore, outbox: SqliteOutbox
) -> None:
    let_go = threading.Event()

    def reply(_message: Message) -> Reply:
        let_go.wait(30)
        return 204, {}

    with (
        receiving(reply) as slow,
        receiving() as quick,
        a_desk(store, outbox) as desk,
        standing_by(desk) as dispatcher,
    ):
        names = [f"req_{number}" for number in range(PER_ENDPOINT + 1)]
        for name in names:
            due(store, slow, name)
        hints = [outbox.deliveries(name)[0].id for name in names]
        for hint in hints:
            dispatcher.take(hint)
        slow.wait_for(PER_ENDPOINT)
        due(store, quick, "req_quick")
        dispatcher.take(outbox.deliveries("req_quick")[0].id)
        assert settled(outbox, "req_quick").state is DeliveryState.DELIVERED
        assert len(slow.messages) == PER_ENDPOINT
        let_go.set()
        for name in names:
            settled(outbox, name)


class SlowOutbox(SqliteOutbox):
    """One whose store answers a claim only after all have gone."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.asked, self.gone = threading.Event(), threading.Event()

    def claim_hinted(
        self, delivery_id: str, worker: str, *, now: float, lease_seconds: float
    ) -> Delivery | None:
        """Wait, then claim."""
        self.asked.set()
        assert self.gone.wait(30)
        return super().claim_hinted(delivery_id, worker, now=now, lease_seconds=lease_seconds)


def test_what_is_claimed_when_the_grace_is_over_is_left_to_others(
    store: SqliteStore, outbox: SqliteOutbox, tmp_path: Path
) -> None:
    with (
        closing(SlowOutbox(tmp_path / "pixmill.db")) as slow,
        receiving() as receiver,
        a_desk(store, slow) as desk,
    ):
        due(store, receiver)
        with standing_by(desk, grace_seconds=0) as dispatcher:
            hint = outbox.deliveries("req_a")[0].id
            taking = threading.Thread(target=dispatcher.take, args=(hint,))
            taking.start()
            assert slow.asked.wait(30)
        slow.gone.set()
        taking.join()
        assert receiver.messages == []
        later = time.time() + LEASE_SECONDS + 1
        assert outbox.claim_delivery("another", [], now=later, lease_seconds=60)


def test_nothing_is_taken_by_one_that_stops(store: SqliteStore, outbox: SqliteOutbox) -> None:
    with receiving() as receiver, a_desk(store, outbox) as desk:
        due(store, receiver)
        with standing_by(desk) as dispatcher:
            pass
        dispatcher.take(outbox.deliveries("req_a")[0].id)
        assert receiver.messages == []
        assert told(outbox), "it is left for others"


def test_a_delivery_that_is_gone_by_now_is_nobodys_trouble(
    store: SqliteStore, outbox: SqliteOutbox, caplog: pytest.LogCaptureFixture
) -> None:
    with receiving() as receiver, a_desk(store, outbox) as desk, standing_by(desk) as dispatcher:
        due(store, receiver)
        (hint,) = told(outbox)
        store.delete_request("req_a", now=time.time(), purge_at=time.time() + NEVER)
        dispatcher.take(hint)
        due(store, receiver, "req_b")
        dispatcher.take(told(outbox)[0])
        wait_until(lambda: held(outbox, "req_b"), why="the next one is sent")
        assert len(receiver.messages) == 1
    assert caplog.records == []


def test_what_no_message_tells_of_is_sent_as_well(
    store: SqliteStore, outbox: SqliteOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "ALONE_SECONDS", 0.1)
    with receiving() as receiver, a_desk(store, outbox) as desk, standing_by(desk):
        due(store, receiver)
        assert settled(outbox).state is DeliveryState.DELIVERED

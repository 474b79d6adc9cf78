"""Desks on a real outbox, and dispatchers that run beside a test."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pixmill.core.addresses import AddressPolicy
from pixmill.core.webhooks import Delivery, DeliveryState
from pixmill.io.post import Posters
from pixmill.ports import Outbox
from pixmill.steps.deliver import Desk
from pixmill.steps.dispatch import Dispatcher
from pixmill.steps.tell import event_body
from pixmill.stores.sqlite import SqliteOutbox, SqliteStore
from tests.receivers import SECRET

QUICK = (0.0,) * 10
"""As many attempts as the contract has, without its waits."""


@contextmanager
def a_desk(
    store: SqliteStore,
    outbox: Outbox,
    *,
    secrets: Sequence[bytes] = (SECRET,),
    delays: Sequence[float] = QUICK,
    write_body: Callable[[Delivery], str] | None = None,
) -> Iterator[Desk]:
    """A desk that posts to loopback."""
    posters = Posters(AddressPolicy.parse("127.0.0.0/8"), "pixmill/test", ca_file=None)

    def written(delivery: Delivery) -> str:
        return event_body(store, delivery, lambda key: key, "https://pixmill.example")

    yield Desk(
        outbox=outbox,
        post=posters.post,
        break_off=posters.break_off,
        write_body=write_body or written,
        secrets=lambda: list(secrets),
        clock=time.time,
        delays=delays,
    )
    posters.close()


@dataclass
class Running:
    """A dispatcher in a thread of its own."""

    thread: threading.Thread
    stop: threading.Event
    failure: BaseException | None = None

    def end(self, timeout: float = 30) -> None:
        """Stop it."""
        self.stop.set()
        self.thread.join(timeout)
        assert not self.thread.is_alive()


@contextmanager
def dispatching(desk: Desk, name: str = "w1", grace_seconds: float = 5) -> Iterator[Running]:
    """A dispatcher that runs until the end of the block."""
    stop = threading.Event()
    dispatcher = Dispatcher(name, desk, grace_seconds=grace_seconds)

    def run() -> None:
        try:
            dispatcher.run(stop)
        except Exception as error:  # for the test to look at
            running.failure = error

    running = Running(threading.Thread(target=run), stop)
    running.thread.start()
    try:
        yield running
    finally:
        running.end()


def settled(outbox: SqliteOutbox, request_id: str = "req_a", timeout: float = 60) -> Delivery:
    """The only delivery of a request, once its state is final."""
    deadline = time.monotonic() + timeout
    while True:
        (delivery,) = outbox.deliveries(request_id)
        if delivery.state is not DeliveryState.PENDING:
            return delivery
        assert time.monotonic() < deadline, f"still on its way: {delivery}"
        time.sleep(0.02)

"""Deliveries that messages tell of: sent at once, or as soon as their endpoint has room."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from pathlib import Path

from pixmill.core.webhooks import DeliveryState
from pixmill.steps.dispatch import PER_ENDPOINT, Dispatcher
from pixmill.stores.sqlite import SqliteOutbox, SqliteStore
from tests.contracts.letters import cancelled
from tests.fleet import wait_until
from tests.receivers import receiving
from tests.steps.desks import a_desk


def test_what_an_endpoint_has_no_room_for_is_sent_when_it_has_though_nobody_tells_again(
    store: SqliteStore, tmp_path: Path
) -> None:
    names = [f"req_{number:02}" for number in range(10 * PER_ENDPOINT)]
    stop = threading.Event()
    with (
        receiving() as receiver,
        closing(SqliteOutbox(tmp_path / "pixmill.db")) as outbox,
        a_desk(store, outbox) as desk,
    ):
        for name in names:
            cancelled(store, name, url=receiver.url(), now=time.time())
        dispatcher = Dispatcher("w1", desk, grace_seconds=5)
        standing_by = threading.Thread(target=dispatcher.stand_by, args=(stop,))
        standing_by.start()
        for name in names:
            dispatcher.take(outbox.deliveries(name)[0].id)

        def all_arrived() -> bool:
            states = {outbox.deliveries(name)[0].state for name in names}
            return states == {DeliveryState.DELIVERED}

        try:
            wait_until(all_arrived, 20)
        finally:
            stop.set()
            standing_by.join(20)
        assert len({message.id for message in receiver.messages}) == len(names)
        assert len(receiver.messages) == len(names)

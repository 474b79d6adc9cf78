"""The worker: it ends, with the reason, when it can no longer keep what it holds."""

from __future__ import annotations

import threading
import time

import pytest

from pixmill.blobs.folder import FolderBlobs
from pixmill.core.errors import StorageFailure
from pixmill.steps.pump import Pace, Pump
from pixmill.steps.work import Worker
from pixmill.stores.sqlite import SqliteStore
from tests.steps.workshops import ThreadedWorkshop


@pytest.mark.parametrize("failure", [StorageFailure("full"), RuntimeError("a mistake of ours")])
def test_a_worker_that_cannot_keep_its_leases_ends(
    store: SqliteStore,
    blobs: FolderBlobs,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
) -> None:
    def lost_leases(**_: object) -> None:
        raise failure

    monkeypatch.setattr(store, "lost_leases", lost_leases)
    pump = Pump(store, blobs, ThreadedWorkshop(), Pace(in_hand=2), time.time)
    worker = Worker("w1", store, pump, {}, clock=time.time, lease_seconds=0.4, grace_seconds=1)
    stop = threading.Event()
    running = threading.Thread(target=worker.run, args=(stop,))
    running.start()
    running.join(5)
    ended = not running.is_alive()
    stop.set()
    running.join()
    assert ended
    assert worker.failure
    assert str(failure) in worker.failure.message

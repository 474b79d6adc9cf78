"""The worker: it ends, with the reason, when it can no longer keep what it holds."""

from __future__ import annotations

import threading
import time

import pytest

from pixmill.blobs.folder import FolderBlobs
from pixmill.core.errors import StorageFailure
from pixmill.core.leases import Lease, Work
from pixmill.core.model import RequestStatus
from pixmill.steps.mill import Mill, Pace
from pixmill.steps.process import Tools
from pixmill.steps.work import Worker
from pixmill.stores.sqlite import SqliteStore
from tests.contracts.records import ingested
from tests.steps.test_mill import compress, found


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
    mill = Mill(store, Tools(found, compress, blobs), Pace(threads=2), time.time)
    worker = Worker("w1", store, mill, {}, clock=time.time, lease_seconds=0.4, grace_seconds=1)
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


def test_work_on_a_request_that_vanished_ends_that_work_only(
    store: SqliteStore, blobs: FolderBlobs
) -> None:
    """A request may be deleted between the claim of its work and the first look at it."""
    ingested(store, "req_a", urls=1)
    ingested(store, "req_b", urls=1)
    mill = Mill(store, Tools(found, compress, blobs), Pace(threads=2), time.time)

    def process(lease: Lease) -> None:
        if lease.request_id == "req_a":
            store.delete_request("req_a", now=time.time(), purge_at=time.time() + 3600)
        mill.process_shard(lease)

    over = threading.Event()

    def finish(lease: Lease) -> None:
        store.close_request(lease, now=time.time())
        over.set()

    duties = {Work.SHARD: process, Work.FINISH: finish}
    worker = Worker("w1", store, mill, duties, clock=time.time, lease_seconds=30, grace_seconds=1)
    stop = threading.Event()
    running = threading.Thread(target=worker.run, args=(stop,))
    running.start()
    finished = over.wait(30)
    stop.set()
    running.join()
    assert finished
    assert worker.failure is None
    assert store.request("req_b").status is RequestStatus.COMPLETED


@pytest.mark.parametrize("failure", [StorageFailure("full"), RuntimeError("a mistake of ours")])
def test_a_worker_ends_when_what_runs_beside_it_fails(
    store: SqliteStore, blobs: FolderBlobs, failure: Exception
) -> None:
    def beside(_stop: threading.Event) -> None:
        raise failure

    mill = Mill(store, Tools(found, compress, blobs), Pace(threads=2), time.time)
    worker = Worker(
        "w1",
        store,
        mill,
        {},
        clock=time.time,
        lease_seconds=30,
        grace_seconds=1,
        beside=beside,
    )
    stop = threading.Event()
    running = threading.Thread(target=worker.run, args=(stop,))
    running.start()
    running.join(10)
    ended = not running.is_alive()
    stop.set()
    running.join()
    assert ended
    assert worker.failure
    assert str(failure) in worker.failure.message


def test_what_runs_beside_a_worker_stops_with_it(store: SqliteStore, blobs: FolderBlobs) -> None:
    stopped = threading.Event()

    def beside(stop: threading.Event) -> None:
        assert stop.wait(30)
        stopped.set()

    mill = Mill(store, Tools(found, compress, blobs), Pace(threads=2), time.time)
    worker = Worker(
        "w1",
        store,
        mill,
        {},
        clock=time.time,
        lease_seconds=30,
        grace_seconds=1,
        beside=beside,
    )
    stop = threading.Event()
    running = threading.Thread(target=worker.run, args=(stop,))
    running.start()
    stop.set()
    running.join(30)
    assert stopped.is_set()
    assert worker.failure is None

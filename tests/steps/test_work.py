"""The worker: it ends, with the reason, when it can no longer keep what it holds."""

from __future__ import annotations

import threading
import time

import pytest

from pixmill.blobs.folder import FolderBlobs
from pixmill.core.errors import StorageFailure
from pixmill.core.leases import LOSSES_BEFORE_GIVING_UP, Lease, Work
from pixmill.core.model import RequestStatus
from pixmill.steps import work as work_module
from pixmill.steps.finish import finish_request
from pixmill.steps.ingest import ingest_csv
from pixmill.steps.job import Pace
from pixmill.steps.pump import Pump
from pixmill.steps.recover import recover
from pixmill.steps.work import Worker
from pixmill.stores.sqlite import SqliteStore
from tests.contracts.records import claimed, ingested
from tests.steps.test_life import submit
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


def test_work_on_a_request_that_vanished_ends_that_work_only(
    store: SqliteStore, blobs: FolderBlobs
) -> None:
    """A request may be deleted between the claim of its work and the first look at it."""
    ingested(store, "req_a", urls=1)
    ingested(store, "req_b", urls=1)
    pump = Pump(store, blobs, ThreadedWorkshop(), Pace(in_hand=2), time.time)

    def process(lease: Lease) -> None:
        if lease.request_id == "req_a":
            store.delete_request("req_a", now=time.time(), purge_at=time.time() + 3600)
        pump.process_shard(lease)

    over = threading.Event()

    def finish(lease: Lease) -> None:
        store.close_request(lease, now=time.time())
        over.set()

    duties = {Work.SHARD: process, Work.FINISH: finish}
    worker = Worker("w1", store, pump, duties, clock=time.time, lease_seconds=30, grace_seconds=1)
    stop = threading.Event()
    running = threading.Thread(target=worker.run, args=(stop,))
    running.start()
    finished = over.wait(30)
    stop.set()
    running.join()
    assert finished
    assert worker.failure is None
    assert store.request("req_b").status is RequestStatus.COMPLETED


@pytest.mark.parametrize("kind", [Work.INGEST, Work.FINISH])
def test_work_is_not_given_up_for_a_disk_that_stays_full(
    store: SqliteStore, blobs: FolderBlobs, kind: Work
) -> None:
    request = submit(store, blobs)
    if kind is Work.FINISH:
        ingest_csv(store, blobs, claimed(store, Work.INGEST, now=time.time()), time.time)
        while (shard := store.claim("w0", now=time.time(), lease_seconds=30)) is not None:
            if shard.work is Work.FINISH:
                store.release(shard)
                break
            store.complete_shard(shard, now=time.time())

    def full(_lease: Lease) -> None:
        raise StorageFailure("full")

    for _ in range(LOSSES_BEFORE_GIVING_UP):  # each is started when the one before has ended
        pump = Pump(store, blobs, ThreadedWorkshop(), Pace(in_hand=2), time.time)
        worker = Worker(
            "w1", store, pump, {kind: full}, clock=time.time, lease_seconds=30, grace_seconds=1
        )
        worker.run(threading.Event())
        assert worker.failure
        store.expire_leases("w1")
        recover(store, time.time)
    assert not store.request(request.id).status.terminal
    assert claimed(store, kind, now=time.time()).request_id == request.id


@pytest.mark.parametrize("failure", [StorageFailure("full"), RuntimeError("a mistake of ours")])
def test_a_worker_ends_when_what_runs_beside_it_fails(
    store: SqliteStore, blobs: FolderBlobs, failure: Exception
) -> None:
    def beside(_stop: threading.Event) -> None:
        raise failure

    pump = Pump(store, blobs, ThreadedWorkshop(), Pace(in_hand=2), time.time)
    worker = Worker(
        "w1",
        store,
        pump,
        {},
        clock=time.time,
        lease_seconds=30,
        grace_seconds=1,
        beside=(beside,),
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

    pump = Pump(store, blobs, ThreadedWorkshop(), Pace(in_hand=2), time.time)
    worker = Worker(
        "w1",
        store,
        pump,
        {},
        clock=time.time,
        lease_seconds=30,
        grace_seconds=1,
        beside=(beside,),
    )
    stop = threading.Event()
    running = threading.Thread(target=worker.run, args=(stop,))
    running.start()
    stop.set()
    running.join(30)
    assert stopped.is_set()
    assert worker.failure is None


def test_what_a_worker_opens_by_its_own_work_it_claims_at_once(
    store: SqliteStore, blobs: FolderBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_module, "IDLE_SECONDS", 60.0)
    request = submit(store, blobs)
    pump = Pump(store, blobs, ThreadedWorkshop(), Pace(in_hand=2), time.time)
    duties = {
        Work.INGEST: lambda lease: ingest_csv(store, blobs, lease, time.time),
        Work.SHARD: pump.process_shard,
        Work.FINISH: lambda lease: finish_request(store, blobs, lease, str, time.time),
    }
    worker = Worker("w1", store, pump, duties, clock=time.time, lease_seconds=60, grace_seconds=1)
    stop = threading.Event()
    running = threading.Thread(target=worker.run, args=(stop,))
    running.start()
    begun = time.monotonic()
    while not store.request(request.id).status.terminal and time.monotonic() - begun < 30:
        time.sleep(0.02)
    stop.set()
    worker._ended.set()
    running.join()
    assert store.request(request.id).status is RequestStatus.COMPLETED

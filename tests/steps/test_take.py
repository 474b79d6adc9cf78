"""The worker that is told of work by messages: each is followed once, late ones do no harm."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pixmill.blobs.folder import FolderBlobs
from pixmill.core.leases import Hint, Lease, Work
from pixmill.core.model import Fetched, Image, RequestStatus, SheetRules
from pixmill.steps import work as work_module
from pixmill.steps.finish import finish_request
from pixmill.steps.ingest import ingest_csv
from pixmill.steps.job import Pace
from pixmill.steps.pump import Pump
from pixmill.steps.work import Worker
from pixmill.stores.sqlite import SqliteStore
from tests.contracts.records import ingested
from tests.fleet import wait_until
from tests.steps.test_life import submit
from tests.steps.workshops import ThreadedWorkshop, found

NEVER = 3600.0


@pytest.fixture(autouse=True)
def _no_help(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is done but what messages tell of, unless a test says otherwise."""
    monkeypatch.setattr(work_module, "ALONE_SECONDS", NEVER)


@contextmanager
def standing_by(
    store: SqliteStore,
    blobs: FolderBlobs,
    fetch: Callable[[Image, SheetRules], Fetched] = found,
    on_change: Callable[[], None] = lambda: None,
    in_hand: int = 2,
) -> Iterator[Worker]:
    """A worker that waits for messages during the block."""
    pump = Pump(store, blobs, ThreadedWorkshop(fetch), Pace(in_hand=in_hand), time.time)
    duties: dict[Work, Callable[[Lease], None]] = {
        Work.INGEST: lambda lease: ingest_csv(store, blobs, lease, time.time),
        Work.SHARD: pump.process_shard,
        Work.FINISH: lambda lease: finish_request(store, blobs, lease, str, time.time),
    }
    worker = Worker(
        "told",
        store,
        pump,
        duties,
        clock=time.time,
        lease_seconds=30,
        grace_seconds=1,
        on_change=on_change,
    )
    with worker.standing_by():
        yield worker


def hints(store: SqliteStore) -> list[Hint]:
    """What workers are to be told of now."""
    return store.take_hints(now=time.time(), told_before=0)


def test_following_what_the_store_tells_of_takes_a_request_to_its_end(
    store: SqliteStore, blobs: FolderBlobs
) -> None:
    request = submit(store, blobs)
    followed = []
    with standing_by(store, blobs) as worker:
        while told := hints(store):
            for hint in told:
                worker.take(hint)
                followed.append(hint.work)
    assert followed == [Work.INGEST, Work.SHARD, Work.FINISH]
    assert store.request(request.id).status is RequestStatus.COMPLETED


def test_messages_that_come_twice_or_too_late_or_are_nonsense_change_nothing(
    store: SqliteStore, blobs: FolderBlobs
) -> None:
    request = submit(store, blobs)
    followed: list[Hint] = []
    with standing_by(store, blobs) as worker:
        while told := hints(store):
            for hint in (*told, *told, *followed, Hint(Work.SHARD, "req_unknown", 99)):
                worker.take(hint)
            followed += told
        assert worker.failure is None
    done = store.request(request.id)
    assert (done.status, done.processed_images) == (RequestStatus.COMPLETED, 5)


def test_a_worker_without_room_leaves_the_work_to_others_until_it_has(
    store: SqliteStore, blobs: FolderBlobs
) -> None:
    """It would otherwise hold leases on work that others could do."""
    ingested(store, urls=24)
    let_go = threading.Event()

    def fetch(image: Image, _rules: SheetRules) -> Fetched:
        assert let_go.wait(30)
        return found(image)

    with standing_by(store, blobs, fetch, in_hand=1) as worker:
        takes = [threading.Thread(target=worker.take, args=(hint,)) for hint in hints(store)]
        for take in takes:
            take.start()
        time.sleep(0.5)
        others = store.claim("w2", now=time.time(), lease_seconds=30)
        assert others, "some of three shards are left"
        store.release(others)
        let_go.set()
        for take in takes:
            take.join(30)
        assert store.images("req_a", status=None, limit=1)[0].outcome is not None


def test_a_worker_that_stops_takes_nothing_more_and_lets_go_of_those_who_wait(
    store: SqliteStore, blobs: FolderBlobs
) -> None:
    ingested(store, urls=24)
    told = hints(store)
    never = threading.Event()

    def fetch(image: Image, _rules: SheetRules) -> Fetched:
        never.wait(30)
        return found(image)

    with standing_by(store, blobs, fetch, in_hand=1) as worker:
        takes = [threading.Thread(target=worker.take, args=(hint,)) for hint in told]
        for take in takes:
            take.start()
        time.sleep(0.3)
    never.set()
    for take in takes:
        take.join(30)
        assert not take.is_alive()
    worker.take(told[0])
    assert not store.lost_leases(now=time.time() + NEVER), "nothing is held any more"
    left = store.take_hints(now=time.time(), told_before=time.time() + NEVER)
    assert {hint.number for hint in left} == {1, 2, 3}


def test_others_are_told_when_work_is_taken_and_when_it_is_over(
    store: SqliteStore, blobs: FolderBlobs
) -> None:
    submit(store, blobs)
    seen: list[bool] = []

    def changed() -> None:
        seen.append(store.lost_leases(now=time.time() + NEVER) != [])

    with standing_by(store, blobs, on_change=changed) as worker:
        worker.take(hints(store)[0])
        assert seen == [True, False]


def test_a_worker_that_no_message_reaches_looks_for_work_by_itself(
    store: SqliteStore, blobs: FolderBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_module, "ALONE_SECONDS", 0.05)
    request = submit(store, blobs)
    with standing_by(store, blobs):
        wait_until(lambda: store.request(request.id).status.terminal, why="it is done")
    assert store.request(request.id).status is RequestStatus.COMPLETED


def test_a_worker_that_messages_reach_leaves_it_to_them_what_comes_next(
    store: SqliteStore, blobs: FolderBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_module, "ALONE_SECONDS", 0.3)
    claims: list[str] = []
    claim = store.claim

    def noted(worker: str, *, now: float, lease_seconds: float) -> Lease | None:
        claims.append(worker)
        return claim(worker, now=now, lease_seconds=lease_seconds)

    monkeypatch.setattr(store, "claim", noted)
    with standing_by(store, blobs) as worker:
        until = time.monotonic() + 1.5
        number = 0
        while time.monotonic() < until:
            number += 1
            ingested_by_message(store, worker, f"req_{number}")
            time.sleep(0.05)
        assert "told" not in claims


def ingested_by_message(store: SqliteStore, worker: Worker, request_id: str) -> None:
    """Let a worker follow the message of a request that is deleted then."""
    ingested(store, request_id, urls=1)
    for hint in hints(store):
        worker.take(hint)
    store.delete_request(request_id, now=time.time(), purge_at=time.time() + NEVER)

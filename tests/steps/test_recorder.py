"""The recorder: each result is recorded or its shard is let go, and nobody waits in vain."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import replace

import pytest

from pixmill.blobs.folder import FolderBlobs
from pixmill.core.errors import ImageErrorCode, PixmillError, StorageFailure
from pixmill.core.leases import Work
from pixmill.core.model import Failure, Picture
from pixmill.steps import recorder as recorder_module
from pixmill.steps.process import Result
from pixmill.steps.recorder import BATCH_OUTCOMES, OpenShard, Recorder
from pixmill.stores.sqlite import SqliteStore
from tests.contracts.records import claimed, ingested


class GatedBlobs(FolderBlobs):
    """Blobs that keep the recorder waiting until ``gate`` opens, then do as they are told."""

    gate: threading.Event
    failure: Exception | None = None

    def put_all(self, files: Mapping[str, bytes]) -> None:
        """Wait, then fail or store."""
        self.gate.wait(10)
        if self.failure:
            raise self.failure
        super().put_all(files)


@pytest.fixture
def gated(blobs: FolderBlobs) -> GatedBlobs:
    """Blobs whose gate is still closed."""
    blobs.__class__ = GatedBlobs
    assert isinstance(blobs, GatedBlobs)
    blobs.gate = threading.Event()
    return blobs


def failures(store: SqliteStore, count: int) -> list[Result]:
    """A result for each of the first images."""
    failure = Failure(ImageErrorCode.EMPTY, "There is nothing in it.")
    return [Result(image, failure, 0, 1, 0.1) for image in store.images("req_a", limit=count)]


def opened(store: SqliteStore, urls: int) -> OpenShard:
    """The first shard of a request of so many images."""
    ingested(store, urls=urls)
    return OpenShard(claimed(store, Work.SHARD), urls)


def test_closing_records_all_that_was_handed_over(store: SqliteStore, gated: GatedBlobs) -> None:
    count = BATCH_OUTCOMES + 50
    shard = opened(store, count + 1)
    recorder = Recorder(store, gated, time.time, lambda _error: None)
    first, *others = failures(store, count + 1)
    recorder.add(shard, first)
    time.sleep(0.2)  # the first batch is being written; what follows makes more than one
    for result in others:
        recorder.add(shard, result)
    closing = threading.Thread(target=recorder.close)
    closing.start()
    time.sleep(0.1)
    gated.gate.set()
    closing.join(10)
    assert shard.missing == 0
    assert store.request("req_a").failed_images == count + 1


def test_pictures_wait_for_their_batch_only_up_to_so_many_bytes(
    store: SqliteStore, gated: GatedBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "MOST_WAITING_BYTES", 1000)
    shard = opened(store, 8)
    recorder = Recorder(store, gated, time.time, lambda _error: None)
    picture = Picture(b"x" * 600, "jpeg", 4, 3, "png", 8, 6)
    results = [replace(result, made=picture) for result in failures(store, 8)]
    recorder.add(shard, results.pop())
    time.sleep(0.2)
    adding = threading.Thread(target=lambda: [recorder.add(shard, result) for result in results])
    adding.start()
    adding.join(0.3)
    assert recorder._queue.qsize() == 2
    gated.gate.set()
    adding.join(5)
    recorder.close()
    assert shard.missing == 0
    assert recorder._bytes == 0


@pytest.mark.parametrize("failure", [StorageFailure("full"), RuntimeError("a mistake of ours")])
def test_whatever_ends_the_recorder_is_told_and_keeps_nobody_waiting(
    store: SqliteStore,
    gated: GatedBlobs,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    failure: Exception,
) -> None:
    monkeypatch.setattr(recorder_module, "MOST_WAITING", 2)
    told: list[PixmillError] = []
    shard = opened(store, 8)
    recorder = Recorder(store, gated, time.time, told.append)
    gated.failure = failure
    results = failures(store, 8)
    recorder.add(shard, results.pop())
    time.sleep(0.2)
    adding = [threading.Thread(target=recorder.add, args=(shard, result)) for result in results]
    for thread in adding:
        thread.start()
    time.sleep(0.1)
    gated.gate.set()
    for thread in adding:
        thread.join(5)
    recorder.close()
    assert not any(thread.is_alive() for thread in adding)
    assert len(told) == 1
    assert ("a mistake of ours" in caplog.text) is isinstance(failure, RuntimeError)

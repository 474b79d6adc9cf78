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
from pixmill.steps.recorder import Gathering, OpenShard, Recorder
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


def wait_until_taken(recorder: Recorder) -> None:
    """Until what was handed over is in work: it waits no more."""
    deadline = time.monotonic() + 20
    while recorder._results:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_first_result_says_until_when_others_may_join_it(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "BATCH_SECONDS", 0.5)
    shard = opened(store, 8)
    first, second = failures(store, 2)
    gathering = Gathering()
    assert gathering.due is None
    gathering.add(shard, first, now=10.0)
    gathering.add(shard, second, now=10.4)
    assert gathering.due == 10.5
    assert gathering.take() == [(shard, first), (shard, second)]
    assert gathering.due is None


def test_many_bytes_do_not_wait_for_more(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits is held in memory."""
    monkeypatch.setattr(recorder_module, "BATCH_BYTES", 1000)
    shard = opened(store, 8)
    picture = Picture(b"x" * 600, "jpeg", 4, 3, "png", 8, 6)
    first, second, third = (replace(result, made=picture) for result in failures(store, 3))
    gathering = Gathering()
    gathering.add(shard, first, now=10.0)
    assert gathering.due != 10.0
    gathering.add(shard, second, now=10.1)
    assert gathering.due == 10.1
    gathering.take()
    gathering.add(shard, third, now=10.2)
    assert gathering.due is not None
    assert gathering.due > 10.2


def test_closing_records_all_that_was_handed_over(store: SqliteStore, gated: GatedBlobs) -> None:
    shard = opened(store, 60)
    recorder = Recorder(store, gated, time.time, lambda _error: None)
    results = [(shard, result) for result in failures(store, 60)]
    for start in range(0, 60, 20):  # the first is being written while the others come
        recorder.add(results[start : start + 20])
        time.sleep(0.1)
    closing = threading.Thread(target=recorder.close)
    closing.start()
    time.sleep(0.1)
    gated.gate.set()
    closing.join(10)
    assert shard.missing == 0
    assert store.request("req_a").failed_images == 60


@pytest.mark.parametrize("field", ["made", "original"])
def test_the_recorder_is_full_once_so_many_bytes_wait(
    store: SqliteStore, gated: GatedBlobs, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    monkeypatch.setattr(recorder_module, "MOST_WAITING_BYTES", 1000)
    shard = opened(store, 8)
    recorder = Recorder(store, gated, time.time, lambda _error: None)
    picture = Picture(b"x" * 600, "jpeg", 4, 3, "png", 8, 6)
    made = picture if field == "made" else replace(picture, data=b"")
    original = b"x" * 600 if field == "original" else None
    first, second, third = (
        [(shard, replace(result, made=made, original=original))] for result in failures(store, 3)
    )
    recorder.add(first)
    wait_until_taken(recorder)
    recorder.add(second)
    assert not recorder.full
    recorder.add(third)
    assert recorder.full
    gated.gate.set()
    recorder.close()
    assert not recorder.full
    assert shard.missing == 5


def test_the_recorder_is_full_once_so_many_results_wait(
    store: SqliteStore, gated: GatedBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "MOST_WAITING", 5)
    shard = opened(store, 8)
    recorder = Recorder(store, gated, time.time, lambda _error: None)
    first, *others = [(shard, result) for result in failures(store, 8)]
    recorder.add([first])
    wait_until_taken(recorder)
    recorder.add(others[:5])
    assert not recorder.full
    recorder.add(others[5:])
    assert recorder.full
    gated.gate.set()
    recorder.close()
    assert shard.missing == 0


@pytest.mark.parametrize("failure", [StorageFailure("full"), RuntimeError("a mistake of ours")])
def test_whatever_ends_the_recorder_is_told_and_keeps_nobody_waiting(
    store: SqliteStore,
    gated: GatedBlobs,
    caplog: pytest.LogCaptureFixture,
    failure: Exception,
) -> None:
    told: list[PixmillError] = []
    shard = opened(store, 8)
    recorder = Recorder(store, gated, time.time, told.append)
    gated.failure = failure
    for result in failures(store, 8):
        recorder.add([(shard, result)])
    gated.gate.set()
    recorder.close()
    recorder.add([(shard, failures(store, 1)[0])])  # nobody takes it, nobody waits
    assert len(told) == 1
    assert ("a mistake of ours" in caplog.text) is isinstance(failure, RuntimeError)

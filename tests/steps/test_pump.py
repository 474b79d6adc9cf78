"""The pump: every image one outcome, whatever happens to its neighbours."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest

from pixmill.blobs.folder import FolderBlobs
from pixmill.core.errors import (
    ImageError,
    ImageErrorCode,
    NotFound,
    PixelsUnavailable,
    StorageFailure,
    StoreUnavailable,
)
from pixmill.core.leases import LOSSES_BEFORE_ALONE, Lease, Work, judge
from pixmill.core.model import Failure, Fetched, Image, Picture, Request, SheetRules, Stored
from pixmill.core.options import Options
from pixmill.steps import recorder as recorder_module
from pixmill.steps.job import Job, Pace
from pixmill.steps.pump import Pump
from pixmill.steps.recorder import Recorder
from pixmill.stores.sqlite import SqliteStore
from tests.contracts.records import NOW, a_request, claimed, ingested
from tests.steps.workshops import Ended, Fetch, ThreadedWorkshop, found


def failing(at: int, error: Exception) -> Fetch:
    """Sources are found, but for the image with this sequence."""

    def fetch(image: Image, _rules: SheetRules) -> Fetched:
        if image.sequence == at:
            raise error
        return found(image)

    return fetch


@contextmanager
def pumping(
    store: SqliteStore,
    blobs: FolderBlobs,
    fetch: Fetch = found,
    *,
    in_hand: int = 4,
    originals: int = 0,
) -> Iterator[Pump]:
    """A pump that is stopped at the end."""
    pace = Pace(in_hand, originals=originals)
    pump = Pump(store, blobs, ThreadedWorkshop(fetch), pace, time.time)
    try:
        yield pump
    finally:
        pump.stop(grace=5)


def codes(store: SqliteStore) -> list[str]:
    """The images' results in order: done, an error code, or pending."""
    found_codes = []
    for image in store.images("req_a"):
        result = image.outcome.result if image.outcome else None
        failed = result.code if isinstance(result, Failure) else None
        found_codes.append(failed or ("done" if result else "pending"))
    return found_codes


def test_every_image_of_a_shard_is_stored_and_recorded(
    store: SqliteStore, blobs: FolderBlobs
) -> None:
    ingested(store, urls=8)
    with pumping(store, blobs, found) as pump:
        pump.process_shard(claimed(store, Work.SHARD))
    assert codes(store) == ["done"] * 8
    for image in store.images("req_a"):
        assert image.outcome
        assert isinstance(image.outcome.result, Stored)
        with blobs.open(image.outcome.result.key) as file:
            assert file.read() == image.url.encode()[-20:-10]
        assert image.outcome.result.bytes_in == 20
        assert image.outcome.result.bytes_out == 10
    claimed(store, Work.FINISH)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ImageError(ImageErrorCode.HTTP_ERROR, "404", http_status=404), "http_error"),
        (ValueError("a mistake of ours"), "worker_crash"),
    ],
)
def test_a_bad_image_never_fails_its_neighbours(
    store: SqliteStore,
    blobs: FolderBlobs,
    error: Exception,
    code: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ingested(store, urls=3)
    with pumping(store, blobs, failing(2, error)) as pump:
        pump.process_shard(claimed(store, Work.SHARD))
    assert codes(store) == ["done", code, "done"]
    assert ("a mistake of ours" in caplog.text) is (code == "worker_crash")


def test_a_failure_worth_a_retry_is_tried_again_and_counted(
    store: SqliteStore, blobs: FolderBlobs
) -> None:
    asked = []

    def fetch(image: Image, _rules: SheetRules) -> Fetched:
        asked.append(image.sequence)
        if asked.count(2) == 1 and image.sequence == 2:
            raise ImageError(
                ImageErrorCode.HTTP_ERROR, "503", retryable=True, http_status=503, retry_after=0.1
            )
        return found(image)

    ingested(store, urls=3)
    with pumping(store, blobs, fetch) as pump:
        pump.process_shard(claimed(store, Work.SHARD))
    assert codes(store) == ["done"] * 3
    second = store.images("req_a", sequences=[2])[0].outcome
    assert second
    assert second.attempts == 2
    assert sorted(asked) == [1, 2, 2, 3]


def test_the_first_sources_are_kept_for_the_report(store: SqliteStore, blobs: FolderBlobs) -> None:
    ingested(store, urls=3)
    with pumping(store, blobs, found, originals=2) as pump:
        pump.process_shard(claimed(store, Work.SHARD))
    for sequence in (1, 2):
        with blobs.open(f".pixmill/originals/req_a/{sequence:07d}") as file:
            assert file.read() == found(store.images("req_a", sequences=[sequence])[0]).body
    with pytest.raises(NotFound):
        blobs.open(".pixmill/originals/req_a/0000003")


def test_a_spilled_source_is_removed_when_its_image_is_done(
    store: SqliteStore, blobs: FolderBlobs, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("spill")

    def fetch(image: Image, _rules: SheetRules) -> Fetched:
        path = folder / str(image.sequence)
        path.write_bytes(b"x" * 20)
        return Fetched(path, 20)

    def refuse(_fetched: Fetched, _options: Options) -> Picture:
        raise ImageError(ImageErrorCode.NOT_AN_IMAGE, "It is a web page.")

    ingested(store, urls=3)
    pump = Pump(store, blobs, ThreadedWorkshop(fetch, refuse), Pace(in_hand=2), time.time)
    pump.process_shard(claimed(store, Work.SHARD))
    pump.stop(grace=5)
    assert codes(store) == ["not_an_image"] * 3
    assert list(folder.iterdir()) == []


def test_when_nothing_can_be_stored_the_pump_stops_and_no_image_fails(
    store: SqliteStore, blobs: FolderBlobs
) -> None:
    ingested(store, urls=50)
    with pumping(store, blobs, failing(3, StorageFailure("The disk is full."))) as pump:
        pump.process_shard(claimed(store, Work.SHARD))
        assert pump.failure
        assert pump.failure.message == "The disk is full."
    assert "pending" in codes(store)
    assert set(codes(store)) <= {"done", "pending"}


def test_a_stopped_pump_finishes_what_is_in_hand_and_hands_the_rest_back(
    store: SqliteStore, blobs: FolderBlobs
) -> None:
    in_hand = threading.Semaphore(0)
    go_on = threading.Event()

    def fetch(image: Image, _rules: SheetRules) -> Fetched:
        in_hand.release()
        assert go_on.wait(10)
        return found(image)

    ingested(store, urls=8)
    pump = Pump(store, blobs, ThreadedWorkshop(fetch), Pace(in_hand=2), time.time)
    lease = claimed(store, Work.SHARD)
    thread = threading.Thread(target=pump.process_shard, args=(lease,), daemon=True)
    thread.start()
    in_hand.acquire()
    in_hand.acquire()
    threading.Timer(0.2, go_on.set).start()
    pump.stop(grace=5)
    thread.join(10)
    assert codes(store).count("done") == 2
    again = claimed(store, Work.SHARD)
    assert (again.number, len(store.pending_images(again))) == (lease.number, 6)


def test_an_abandoned_shard_is_left_to_its_new_holder(
    store: SqliteStore, blobs: FolderBlobs
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def fetch(image: Image, _rules: SheetRules) -> Fetched:
        begun.set()
        assert go_on.wait(20)
        return found(image)

    ingested(store, urls=8)
    with pumping(store, blobs, fetch, in_hand=1) as pump:
        lease = claimed(store, Work.SHARD)
        thread = threading.Thread(target=pump.process_shard, args=(lease,), daemon=True)
        thread.start()
        assert begun.wait(10)  # before, nobody would know what to abandon
        _lose_all(store)
        again = claimed(store, Work.SHARD, now=NOW + 1000)
        pump.abandon(lease.token)
        thread.join(10)
        assert not thread.is_alive()
        go_on.set()
        pump.process_shard(again)
    assert codes(store) == ["done"] * 8


def test_a_shard_that_lost_its_lease_unawares_is_fenced_off(
    store: SqliteStore, blobs: FolderBlobs
) -> None:
    ingested(store, urls=3)
    lease = claimed(store, Work.SHARD)
    _lose_all(store)
    with pumping(store, blobs, found) as pump:
        pump.process_shard(lease)
    assert codes(store) == ["pending"] * 3


def test_work_that_must_be_alone_is_done_one_image_at_a_time(
    store: SqliteStore, blobs: FolderBlobs
) -> None:
    ingested(store, urls=16)
    busy: list[int] = []
    most = []

    def fetch(image: Image, _rules: SheetRules) -> Fetched:
        busy.append(image.sequence)
        time.sleep(0.01)
        most.append(len(busy))
        busy.remove(image.sequence)
        return found(image)

    for _ in range(LOSSES_BEFORE_ALONE):
        claimed(store, Work.SHARD)
        claimed(store, Work.SHARD)
        _lose_all(store)
    leases = [claimed(store, Work.SHARD), claimed(store, Work.SHARD)]
    assert all(lease.alone for lease in leases)
    with pumping(store, blobs, fetch) as pump:
        _all_at_once([lambda lease=lease: pump.process_shard(lease) for lease in leases])
    assert most == [1] * 16
    assert codes(store) == ["done"] * 16


def test_an_image_tried_alone_may_be_over_before_anybody_waits_for_it(
    store: SqliteStore, blobs: FolderBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = Pump._add

    def add_and_dawdle(pump: Pump, jobs: list[Job]) -> None:
        add(pump, jobs)
        time.sleep(0.2)

    monkeypatch.setattr(Pump, "_add", add_and_dawdle)
    ingested(store, urls=2)
    lease = replace(claimed(store, Work.SHARD), alone=True)
    with pumping(store, blobs, found) as pump:
        processing = threading.Thread(target=pump.process_shard, args=(lease,), daemon=True)
        processing.start()
        processing.join(5)
        assert not processing.is_alive()
    assert codes(store) == ["done"] * 2


def test_a_slow_host_does_not_hold_up_another(store: SqliteStore, blobs: FolderBlobs) -> None:
    """One host never answers until the other host's images are all done."""
    fast_done = threading.Event()
    fast: list[str] = []

    def fetch(image: Image, _rules: SheetRules) -> Fetched:
        if "slow" in image.url:
            assert fast_done.wait(10)
        else:
            fast.append(image.url)
            if len(fast) == 20:
                fast_done.set()
        return found(image)

    store.add_request(a_request(images=40))
    lease = claimed(store, Work.INGEST)
    store.begin_ingest(lease)
    named = [f"http://slow.example/{number}.jpg" for number in range(20)]
    named += [f"http://fast.example/{number}.jpg" for number in range(20)]
    store.add_images(lease, dict.fromkeys(named, 1))
    store.finish_ingest(lease, now=NOW)
    pace = Pace(in_hand=6, downloads_per_host=4)
    pump = Pump(store, blobs, ThreadedWorkshop(fetch), pace, time.time)
    shards = []
    while shard := store.claim("w1", now=NOW, lease_seconds=900):
        shards.append(shard)
    _all_at_once([lambda shard=shard: pump.process_shard(shard) for shard in shards])
    pump.stop(grace=5)
    assert codes(store) == ["done"] * 40


def test_while_nothing_more_can_be_recorded_nothing_more_is_begun(
    store: SqliteStore, blobs: FolderBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "MOST_WAITING", 3)
    monkeypatch.setattr(recorder_module, "BATCH_SECONDS", 0.001)
    gate = threading.Event()
    put_all = blobs.put_all

    def wait_and_put(files: Mapping[str, bytes]) -> None:
        assert gate.wait(10)
        put_all(files)

    monkeypatch.setattr(blobs, "put_all", wait_and_put)
    ingested(store, urls=40)
    workshop = ThreadedWorkshop()
    pump = Pump(store, blobs, workshop, Pace(in_hand=2), time.time)
    shards = [claimed(store, Work.SHARD) for _ in range(5)]
    processing = threading.Thread(
        target=_all_at_once,
        args=([lambda shard=shard: pump.process_shard(shard) for shard in shards],),
    )
    processing.start()
    begun = -1
    while begun != workshop.begun:
        begun = workshop.begun
        time.sleep(0.3)
    assert begun < 40
    gate.set()
    processing.join(10)
    pump.stop(grace=5)
    assert codes(store) == ["done"] * 40


def test_a_full_recorder_keeps_the_pump_from_beginning_anything(
    store: SqliteStore, blobs: FolderBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = threading.Event()
    full.set()
    monkeypatch.setattr(Recorder, "full", property(lambda _: full.is_set()))
    ingested(store, urls=8)
    workshop = ThreadedWorkshop()
    pump = Pump(store, blobs, workshop, Pace(), time.time)
    processing = threading.Thread(
        target=pump.process_shard, args=(claimed(store, Work.SHARD),), daemon=True
    )
    processing.start()
    time.sleep(0.3)
    assert workshop.begun == 0
    full.clear()
    processing.join(10)
    pump.stop(grace=5)
    assert codes(store) == ["done"] * 8


def test_what_was_kept_back_goes_on_whenever_the_recorder_has_room_again(
    store: SqliteStore, blobs: FolderBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recorder is full for a source, and for the next turn's first look, and then no more."""
    kept_back = drained = False

    def full(_: Recorder) -> bool:
        nonlocal kept_back, drained
        looker = sys._getframe(1).f_code.co_name
        if drained or (looker != "_compress" and not kept_back):
            return False
        drained = kept_back and looker == "_turn"
        kept_back = True
        return True

    monkeypatch.setattr(Recorder, "full", property(full))
    ingested(store, urls=8)
    with pumping(store, blobs, in_hand=1) as pump:
        processing = threading.Thread(
            target=pump.process_shard, args=(claimed(store, Work.SHARD),), daemon=True
        )
        processing.start()
        processing.join(10)
        assert not processing.is_alive()
    assert codes(store) == ["done"] * 8


@pytest.mark.parametrize("mistake", [RuntimeError("a mistake of ours"), PixelsUnavailable("none")])
def test_whatever_breaks_the_pump_is_told_and_keeps_nobody_waiting(
    store: SqliteStore, blobs: FolderBlobs, mistake: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    class BrokenWorkshop(ThreadedWorkshop):
        def wait(self, seconds: float | None) -> Sequence[Ended]:
            if self.begun:
                raise mistake
            return super().wait(seconds)

    ingested(store, urls=8)
    pump = Pump(store, blobs, BrokenWorkshop(), Pace(in_hand=2), time.time)
    processing = threading.Thread(
        target=pump.process_shard, args=(claimed(store, Work.SHARD),), daemon=True
    )
    processing.start()
    processing.join(20)
    assert not processing.is_alive()
    pump.stop(grace=5)
    assert pump.failure
    assert str(mistake) in pump.failure.message
    assert ("a mistake of ours" in caplog.text) is isinstance(mistake, RuntimeError)
    assert codes(store) == ["pending"] * 8
    assert claimed(store, Work.SHARD)  # it was handed back


def test_what_is_still_in_hand_when_the_grace_is_over_is_handed_back(
    store: SqliteStore, blobs: FolderBlobs
) -> None:
    never = threading.Event()

    def fetch(image: Image, _rules: SheetRules) -> Fetched:
        if image.sequence == 1:
            never.wait(30)
        return found(image)

    ingested(store, urls=3)
    pump = Pump(store, blobs, ThreadedWorkshop(fetch), Pace(), time.time)
    processing = threading.Thread(
        target=pump.process_shard, args=(claimed(store, Work.SHARD),), daemon=True
    )
    processing.start()
    while codes(store).count("done") < 2:
        time.sleep(0.02)
    asked = time.monotonic()
    pump.stop(grace=0.3)
    assert time.monotonic() - asked < 15
    processing.join(5)
    assert codes(store) == ["pending", "done", "done"]
    assert len(store.pending_images(claimed(store, Work.SHARD))) == 1
    never.set()


def test_results_wait_for_their_batch_only_while_others_may_join_them(
    store: SqliteStore, blobs: FolderBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "BATCH_SECONDS", 30.0)
    ingested(store, urls=3)
    begun = time.monotonic()
    with pumping(store, blobs) as pump:
        pump.process_shard(claimed(store, Work.SHARD))
    assert time.monotonic() - begun < 15


class Stumbling(SqliteStore):
    """A store that is away the first time that each of these is asked of it."""

    stumbled: set[str]

    def _stumble(self, over: str) -> None:
        if over not in self.stumbled:
            self.stumbled.add(over)
            raise StoreUnavailable("The database is locked.")

    def request(self, request_id: str) -> Request:
        """Away at first."""
        self._stumble("request")
        return super().request(request_id)

    def pending_images(self, lease: Lease) -> list[Image]:
        """Away at first."""
        self._stumble("pending_images")
        return super().pending_images(lease)

    def mark_trying(self, lease: Lease, sequence: int) -> None:
        """Away at first."""
        self._stumble("mark_trying")
        super().mark_trying(lease, sequence)

    def complete_shard(self, lease: Lease, *, now: float) -> None:
        """Away at first."""
        self._stumble("complete_shard")
        super().complete_shard(lease, now=now)

    def release(self, lease: Lease) -> None:
        """Away at first."""
        self._stumble("release")
        super().release(lease)


ASKED = {"request", "pending_images", "mark_trying", "complete_shard", "release"}


@pytest.fixture
def stumbling(store: SqliteStore) -> Stumbling:
    """The store, which does not stumble until it is told to."""
    store.__class__ = Stumbling
    assert isinstance(store, Stumbling)
    store.stumbled = set(ASKED)
    return store


def test_a_store_that_is_away_for_a_moment_ends_no_shard(
    stumbling: Stumbling, blobs: FolderBlobs
) -> None:
    ingested(stumbling, urls=2)
    lease = replace(claimed(stumbling, Work.SHARD), alone=True)
    stumbling.stumbled.clear()
    with pumping(stumbling, blobs) as pump:
        pump.process_shard(lease)
    assert stumbling.stumbled == ASKED - {"release"}
    assert codes(stumbling) == ["done"] * 2
    claimed(stumbling, Work.FINISH)


def test_a_store_that_is_away_for_a_moment_gets_back_what_was_not_done(
    stumbling: Stumbling, blobs: FolderBlobs
) -> None:
    ingested(stumbling, urls=2)
    lease = claimed(stumbling, Work.SHARD)
    stumbling.stumbled.clear()
    with pumping(stumbling, blobs) as pump:
        pump.stop(grace=0)
        pump.process_shard(lease)
    assert "release" in stumbling.stumbled
    assert len(stumbling.pending_images(claimed(stumbling, Work.SHARD))) == 2


def _all_at_once(calls: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def _lose_all(store: SqliteStore) -> None:
    for lost in store.lost_leases(now=NOW + 1000):
        store.take_back(lost, judge(lost), now=NOW + 1000)

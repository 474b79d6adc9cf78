"""Store pictures and record outcomes in batches: one flush and one commit for many images."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pixmill.core.errors import PixmillError, StoreUnavailable
from pixmill.core.leases import Lease
from pixmill.core.model import Outcome
from pixmill.ports import Blobs, Clock, Store
from pixmill.steps.process import Result

log = logging.getLogger(__name__)

BATCH_SECONDS = 0.05
BATCH_OUTCOMES = 256
MOST_WAITING = 512
MOST_WAITING_BYTES = 64 * 1024 * 1024
"""Results, and bytes of their pictures, that may wait before those who bring more wait too."""

PATIENCE_SECONDS = 60.0
"""How long a store may be away before the worker stops; its leases then bring the work back."""


@dataclass(eq=False, slots=True)
class OpenShard:
    """A shard in work: how many images still lack a recorded outcome, and whether it ended."""

    lease: Lease
    missing: int
    over: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)

    def settle(self, count: int) -> None:
        """Note that ``count`` more images have a recorded outcome."""
        with self.changed:
            self.missing -= count
            self.changed.notify_all()

    def abandon(self) -> None:
        """Give up on what is missing: the lease is lost, or the worker stops."""
        with self.changed:
            self.over = True
            self.changed.notify_all()

    def wait(self, *, until_missing: int) -> None:
        """Wait until only so many images lack a recorded outcome, or the shard is over."""
        with self.changed:
            self.changed.wait_for(lambda: self.over or self.missing <= until_missing)


class Recorder:
    """A thread that stores pictures and writes outcomes, many in one step.

    ``failed`` is called once, with the reason, when nothing can be stored or the store stays away.
    """

    def __init__(
        self, store: Store, blobs: Blobs, clock: Clock, failed: Callable[[PixmillError], None]
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._failed = failed
        self._queue: queue.SimpleQueue[tuple[OpenShard, Result] | None] = queue.SimpleQueue()
        self._counting = threading.Lock()
        self._bytes = 0  # of the pictures in the queue
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def add(self, shard: OpenShard, result: Result) -> None:
        """Hand over a result. Its shard is settled once the outcome is durable."""
        while self._full() and self._thread.is_alive():
            time.sleep(BATCH_SECONDS)
        self._count(result.bytes_out)
        self._queue.put((shard, result))

    def close(self) -> None:
        """Write what was handed over and stop."""
        self._queue.put(None)
        self._thread.join()

    def _full(self) -> bool:
        return self._queue.qsize() > MOST_WAITING or self._bytes > MOST_WAITING_BYTES

    def _count(self, size: int) -> None:
        with self._counting:
            self._bytes += size

    def _run(self) -> None:
        going_on = True
        while going_on:
            batch, going_on = self._collect()
            try:
                if batch:
                    self._write(batch)
            except PixmillError as error:
                self._failed(error)
                return
            except Exception as error:  # a mistake of ours: without this thread, all would wait
                log.exception("outcomes could not be recorded")
                self._failed(PixmillError(f"An internal error stopped the worker: {error!r}"))
                return

    def _collect(self) -> tuple[dict[OpenShard, list[Result]], bool]:
        """Wait for a first result, then sleep while a batch comes together, and take it.

        Waiting for each result in turn would wake this thread for every image, and code that has
        slept runs at half its speed.
        """
        batch: dict[OpenShard, list[Result]] = {}
        entry = self._queue.get()
        if entry is not None:
            time.sleep(BATCH_SECONDS)
        taken = 0
        while entry is not None:
            shard, result = entry
            batch.setdefault(shard, []).append(result)
            self._count(-result.bytes_out)
            taken += 1
            if taken == BATCH_OUTCOMES or self._queue.empty():
                return batch, True
            entry = self._queue.get()  # the only reader: what is there stays there
        return batch, False

    def _write(self, batch: dict[OpenShard, list[Result]]) -> None:
        """Store the pictures of a batch, then record its outcomes."""
        files: dict[str, bytes] = {}
        outcomes: dict[Lease, list[Outcome]] = {}
        for shard, results in batch.items():
            recorded = outcomes.setdefault(shard.lease, [])
            for result in results:
                outcome, file = result.stored()
                recorded.append(outcome)
                files |= file
        self._blobs.put_all(files)
        lost = self._record(outcomes)
        for shard, results in batch.items():
            if shard.lease.token in lost:
                shard.abandon()
            else:
                shard.settle(len(results))

    def _record(self, outcomes: dict[Lease, list[Outcome]]) -> set[str]:
        """Record outcomes, trying again while the store is away."""
        give_up = time.monotonic() + PATIENCE_SECONDS
        pause = 0.1
        while True:
            try:
                return self._store.record_outcomes(outcomes, now=self._clock())
            except StoreUnavailable:
                if time.monotonic() + pause > give_up:
                    raise
                time.sleep(pause)
                pause = min(5.0, pause * 2)

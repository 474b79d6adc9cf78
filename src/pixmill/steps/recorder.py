"""Store pictures and record outcomes in batches: one flush and one commit for many images."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pixmill.core.errors import PixmillError
from pixmill.core.leases import Lease
from pixmill.core.model import Outcome
from pixmill.ports import Blobs, Clock, Store
from pixmill.steps.patience import patiently
from pixmill.steps.process import Result

log = logging.getLogger(__name__)

BATCH_SECONDS = 0.2
"""How long results come together: one flush and one commit cost as much for few as for many."""

BATCH_BYTES = 8 * 1024 * 1024
"""Bytes of pictures that are not kept waiting for more."""

MOST_WAITING = 512
MOST_WAITING_BYTES = 64 * 1024 * 1024
"""Results, and bytes of their pictures, that may wait before no more are brought."""


@dataclass(eq=False, slots=True)
class OpenShard:
    """A shard in work: how many images still lack a recorded outcome, and whether it ended."""

    lease: Lease
    missing: int
    awaited: int = 0
    over: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)

    def settle(self, count: int) -> None:
        """Note that ``count`` more images have a recorded outcome."""
        with self.changed:
            self.missing -= count
            if self.missing <= self.awaited:  # nobody is woken for nothing
                self.changed.notify_all()

    def abandon(self) -> None:
        """Give up on what is missing: the lease is lost, or the worker stops."""
        with self.changed:
            self.over = True
            self.changed.notify_all()

    def wait(self, *, until_missing: int) -> None:
        """Wait until only so many images lack a recorded outcome, or the shard is over."""
        with self.changed:
            self.awaited = until_missing
            self.changed.wait_for(lambda: self.over or self.missing <= until_missing)


Batch = Sequence[tuple[OpenShard, Result]]


class Gathering:
    """Results that come together, to be recorded in one step; for one thread.

    ``due`` is the time by which they are to be handed over; None while there are none.
    """

    def __init__(self) -> None:
        self._results: list[tuple[OpenShard, Result]] = []
        self._bytes = 0
        self.due: float | None = None

    def add(self, shard: OpenShard, result: Result, now: float) -> None:
        """Add a result. The first one sets the time; many bytes wait no longer."""
        self._results.append((shard, result))
        self._bytes += result.bytes_held
        if self._bytes >= BATCH_BYTES:
            self.due = now
        elif self.due is None:
            self.due = now + BATCH_SECONDS

    def take(self) -> Batch:
        """What has come together; the next ones begin anew."""
        results, self._results = self._results, []
        self._bytes, self.due = 0, None
        return results


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
        self._queue: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._counting = threading.Lock()
        self._results = self._bytes = 0  # in the queue
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def add(self, batch: Batch) -> None:
        """Hand over results, without waiting. Shards are settled once outcomes are durable."""
        self._count(1, batch)
        self._queue.put(batch)

    @property
    def full(self) -> bool:
        """Whether so much waits that those who bring more should bring it later."""
        return self._results > MOST_WAITING or self._bytes > MOST_WAITING_BYTES

    def close(self) -> None:
        """Write what was handed over and stop."""
        self._queue.put(None)
        self._thread.join()

    def _count(self, sign: int, batch: Batch) -> None:
        with self._counting:
            self._results += sign * len(batch)
            self._bytes += sign * sum(result.bytes_held for _, result in batch)

    def _run(self) -> None:
        try:
            while (batch := self._queue.get()) is not None:
                self._count(-1, batch)
                self._write(batch)
        except PixmillError as error:
            self._failed(error)
        except Exception as error:  # a mistake of ours: without this thread, all would wait
            log.exception("outcomes could not be recorded")
            self._failed(PixmillError(f"An internal error stopped the worker: {error!r}"))

    def _write(self, batch: Batch) -> None:
        """Store the pictures of a batch, then record its outcomes."""
        files: dict[str, bytes] = {}
        outcomes: dict[OpenShard, list[Outcome]] = {}
        for shard, result in batch:
            outcome, its_files = result.stored()
            outcomes.setdefault(shard, []).append(outcome)
            files |= its_files
        self._blobs.put_all(files)
        by_lease = {shard.lease: recorded for shard, recorded in outcomes.items()}
        lost = patiently(lambda: self._store.record_outcomes(by_lease, now=self._clock()))
        for shard, recorded in outcomes.items():
            if shard.lease.token in lost:
                shard.abandon()
            else:
                shard.settle(len(recorded))

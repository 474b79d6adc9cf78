"""Record outcomes in batches: durability costs one flush and one commit for many images."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pixmill.core.errors import PixmillError, StoreUnavailable
from pixmill.core.leases import Lease
from pixmill.core.model import Outcome
from pixmill.ports import Blobs, Clock, Store

BATCH_SECONDS = 0.05
BATCH_OUTCOMES = 256
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
    """A thread that writes outcomes to the store, many in one step.

    ``failed`` is called once, with the reason, when the store cannot be written or stays away.
    """

    def __init__(
        self, store: Store, blobs: Blobs, clock: Clock, failed: Callable[[PixmillError], None]
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._failed = failed
        self._queue: queue.SimpleQueue[tuple[OpenShard, Outcome] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def add(self, shard: OpenShard, outcome: Outcome) -> None:
        """Hand over an outcome. Its shard is settled once the outcome is durable."""
        self._queue.put((shard, outcome))

    def close(self) -> None:
        """Write what was handed over and stop."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        going_on = True
        while going_on:
            batch, going_on = self._collect()
            if not batch:
                continue
            try:
                self._write(batch)
            except PixmillError as error:
                self._failed(error)
                return

    def _collect(self) -> tuple[dict[OpenShard, list[Outcome]], bool]:
        """Wait for a first outcome, then gather what comes within the batch's time."""
        batch: dict[OpenShard, list[Outcome]] = {}
        entry = self._queue.get()
        deadline = time.monotonic() + BATCH_SECONDS
        for _ in range(BATCH_OUTCOMES):
            if entry is None:
                return batch, False
            shard, outcome = entry
            batch.setdefault(shard, []).append(outcome)
            try:
                entry = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return batch, True
        self._queue.put(entry)
        return batch, True

    def _write(self, batch: dict[OpenShard, list[Outcome]]) -> None:
        """Record a batch, its files made durable before; try again while the store is away."""
        self._blobs.flush()
        outcomes = {shard.lease: made for shard, made in batch.items()}
        give_up = time.monotonic() + PATIENCE_SECONDS
        pause = 0.1
        while True:
            try:
                lost = self._store.record_outcomes(outcomes, now=self._clock())
                break
            except StoreUnavailable:
                if time.monotonic() + pause > give_up:
                    raise
                time.sleep(pause)
                pause = min(5.0, pause * 2)
        for shard, made in batch.items():
            if shard.lease.token in lost:
                shard.abandon()
            else:
                shard.settle(len(made))

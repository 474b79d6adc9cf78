"""The mill: threads that take the images of all open shards along their way."""

from __future__ import annotations

import logging
import random
import threading
import time
from dataclasses import dataclass

from pixmill.core.addresses import host_of
from pixmill.core.errors import (
    ImageError,
    ImageErrorCode,
    PixmillError,
)
from pixmill.core.leases import Lease
from pixmill.core.model import Failure, Fetched, Image, Picture, Request
from pixmill.core.retry import retry_delay
from pixmill.core.schedule import Schedule
from pixmill.ports import Clock, Store
from pixmill.steps.gate import Gate
from pixmill.steps.process import Result, Tools, compress
from pixmill.steps.recorder import OpenShard, Recorder

log = logging.getLogger(__name__)

OVERLOADED = {429, 503}
"""HTTP statuses by which a host asks for fewer requests (RFC 6585, RFC 9110)."""

MOST_OPEN_SHARDS = 16
"""Shards a worker holds at once: enough to go on while a few wait for retries, yet no hoard."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How hard a worker works: its threads, downloads per host, seconds it waits for a retry."""

    threads: int = 80
    downloads_per_host: int = 32
    longest_wait: float = 120.0


@dataclass(eq=False, slots=True)
class _Job:
    """An image on its way: the shard it belongs to, and what was spent on it so far."""

    shard: OpenShard
    image: Image
    request: Request
    host: str
    attempts: int = 0
    seconds: float = 0.0


class Mill:
    """Takes the images of shards from fetch to recorded outcome, many at once.

    ``process_shard`` is called from one thread a shard and blocks until that shard is over. All
    shards share the mill's threads and its schedule, so one slow host or one image that waits for
    its next attempt holds up nobody else. ``failure`` is set when the mill stopped by itself,
    because images or outcomes could not be stored.
    """

    def __init__(self, store: Store, tools: Tools, pace: Pace, clock: Clock) -> None:
        self._store = store
        self._tools = tools
        self._pace = pace
        self._clock = clock
        self._schedule: Schedule[_Job] = Schedule(
            pace.downloads_per_host, longest_pause=pace.longest_wait
        )
        self._lock = threading.Lock()  # guards the schedule and what follows
        self._changed = threading.Condition(self._lock)
        self._in_hand = 0
        self._open: dict[str, OpenShard] = {}
        self._stopping = False
        self.failure: PixmillError | None = None
        self._gate = Gate()
        self._recorder = Recorder(store, tools.blobs, clock, self._break_down)
        self._threads = [
            threading.Thread(target=self._work, name=f"mill-{number}", daemon=True)
            for number in range(pace.threads)
        ]
        for thread in self._threads:
            thread.start()

    # --- shards -----------------------------------------------------------------------------

    def process_shard(self, lease: Lease) -> None:
        """Give every pending image of a shard its outcome, then close the shard.

        A shard whose lease is lost is left to its new holder. When the mill stops, what has no
        outcome yet is handed back.
        """
        request = self._store.request(lease.request_id)
        images = self._store.pending_images(lease)
        shard = OpenShard(lease, len(images))
        jobs = [_Job(shard, image, request, host_of(image.url)) for image in images]
        with self._lock:
            self._open[lease.token] = shard
        try:
            with self._gate.entered(alone=lease.alone) as admitted:
                if admitted and lease.alone:
                    self._one_by_one(shard, jobs)
                elif admitted:
                    self._add(jobs)
                    shard.wait(until_missing=0)
        finally:
            with self._lock:
                del self._open[lease.token]
        if not shard.missing:
            self._store.complete_shard(lease, now=self._clock())
        elif self._stopping:
            self._store.release(lease)

    def hungry(self) -> bool:
        """Whether the threads could use another shard."""
        with self._lock:
            busy = len(self._schedule) >= self._pace.threads and self._in_hand >= self._pace.threads
            return not (busy or self._gate.reserved or len(self._open) >= MOST_OPEN_SHARDS)

    def abandon(self, token: str) -> None:
        """Drop a shard whose lease is lost; it is its new holder's now."""
        with self._lock:
            if shard := self._open.get(token):
                shard.abandon()

    def stop(self, grace: float) -> None:
        """Start nothing new, let what is in hand end for ``grace`` seconds, record it."""
        with self._lock:
            self._stopping = True
            self._schedule.drain()
            self._changed.notify_all()
        self._gate.close()
        deadline = time.monotonic() + grace
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._recorder.close()
        with self._lock:
            for shard in self._open.values():
                shard.abandon()

    def _one_by_one(self, shard: OpenShard, jobs: list[_Job]) -> None:
        """Try images singly, each noted in the store before, so that a death tells which it was.

        Images that were in hand at a death come last: the others need not wait for the next one.
        """
        for job in sorted(jobs, key=lambda job: job.image.strikes):
            self._store.mark_trying(shard.lease, job.image.sequence)
            left = shard.missing - 1  # counted first: the image may be over before _add returns
            self._add([job])
            shard.wait(until_missing=left)
            if shard.over:
                return

    def _add(self, jobs: list[_Job]) -> None:
        with self._lock:
            if self._stopping:
                for job in jobs:
                    job.shard.abandon()
                return
            for job in jobs:
                self._schedule.add(job, job.host)
            self._changed.notify(len(jobs))

    # --- images -----------------------------------------------------------------------------

    def _work(self) -> None:
        while job := self._next():
            try:
                result = self._attempt(job)
            except PixmillError as error:
                self._break_down(error)
            else:
                if result:
                    self._recorder.add(job.shard, result)
            with self._lock:
                self._in_hand -= 1

    def _next(self) -> _Job | None:
        """Wait for an image that may be fetched now; None when the mill stops."""
        with self._lock:
            while not self._stopping:
                now = time.monotonic()
                job = self._schedule.take(now)
                if job is None:
                    self._changed.wait(self._schedule.next_ready(now))
                elif job.shard.over:
                    self._schedule.finish(job.host, overloaded=False, now=now)
                else:
                    self._in_hand += 1
                    return job
        return None

    def _attempt(self, job: _Job) -> Result | None:
        """Try an image once; None if it is to be tried again later."""
        job.attempts += 1
        started = time.monotonic()
        size = 0
        try:
            fetched = self._fetch(job)
            size = fetched.size
            made: Picture | Failure = compress(self._tools, job.image, fetched, job.request.options)
        except ImageError as error:
            if self._try_again(job, error):
                return None
            made = Failure(error.code, error.message)
        except PixmillError:
            raise
        except Exception:  # the boundary of an image: a mistake of ours costs this image alone
            log.exception("image %s/%s failed", job.image.request_id, job.image.sequence)
            made = Failure(ImageErrorCode.WORKER_CRASH, INTERNAL_ERROR)
        finally:
            job.seconds += time.monotonic() - started
        return Result(job.image, made, size, job.attempts, job.seconds)

    def _fetch(self, job: _Job) -> Fetched:
        """Fetch, and tell the schedule how the host took it."""
        overloaded, retry_after = False, None
        try:
            return self._tools.fetch(job.image, job.request.rules)
        except ImageError as error:
            overloaded, retry_after = error.http_status in OVERLOADED, error.retry_after
            raise
        finally:
            with self._lock:
                now = time.monotonic()
                self._schedule.finish(
                    job.host, overloaded=overloaded, now=now, retry_after=retry_after
                )
                self._changed.notify()

    def _try_again(self, job: _Job, error: ImageError) -> bool:
        jitter = random.random()  # noqa: S311  # spreads retries; nothing secret hangs on it
        delay = retry_delay(error, job.attempts, jitter, longest_wait=self._pace.longest_wait)
        if delay is None:
            return False
        with self._lock:
            if not self._stopping:
                self._schedule.add(job, job.host, time.monotonic() + delay)
                self._changed.notify()
        return True

    def _break_down(self, error: PixmillError) -> None:
        """Stop everything: nothing can be stored, and going on would only waste downloads."""
        with self._lock:
            if self.failure is None:
                self.failure = error
                log.error("stopping: %s", error)
            self._stopping = True
            self._schedule.drain()
            for shard in self._open.values():
                shard.abandon()
            self._changed.notify_all()
        self._gate.close()


INTERNAL_ERROR = "An internal error stopped this image; the worker's log has the details."

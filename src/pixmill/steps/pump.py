"""The pump: one thread that takes the images of all open shards along their way."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar, assert_never

from pixmill.core.addresses import host_of
from pixmill.core.errors import ImageError, ImageErrorCode, PixmillError
from pixmill.core.leases import Lease
from pixmill.core.model import Failure, Fetched, Picture
from pixmill.core.retry import retry_delay
from pixmill.core.schedule import Schedule
from pixmill.ports import Blobs, Clock, Store, Workshop
from pixmill.steps.gate import Gate
from pixmill.steps.job import Job, Pace, plea
from pixmill.steps.patience import patiently
from pixmill.steps.recorder import Gathering, OpenShard, Recorder

log = logging.getLogger(__name__)

R = TypeVar("R")

MOST_OPEN_SHARDS = 16
"""Shards a worker holds at once: enough to go on while a few wait for retries, yet no hoard."""

LOOK_SECONDS = 0.05
"""How often it is looked whether the recorder has room again, which it tells nobody."""

CUT_SECONDS = 5.0
"""How long the pump may take to notice that it is over, when nothing in hand counts any more."""

INTERNAL_ERROR = "An internal error stopped this image; the worker's log has the details."


class Pump:
    """Takes the images of shards from fetch to recorded outcome, many at once.

    ``process_shard`` is called from one thread a shard and blocks until that shard is over. The
    images of all shards are in the hands of the pump's one thread, so that nothing of them needs a
    lock, and one slow host or one image that waits for its next attempt holds up nobody else.
    ``failure`` is set when the pump stopped by itself: images or outcomes could not be stored.
    """

    def __init__(
        self, store: Store, blobs: Blobs, workshop: Workshop[Job], pace: Pace, clock: Clock
    ) -> None:
        self._store = store
        self._workshop = workshop
        self._pace = pace
        self._clock = clock
        self._lock = threading.Lock()  # guards the next three
        self._inbox: list[Job] = []
        self._open: dict[str, OpenShard] = {}
        self._stopping = False
        self._cut = False
        self.failure: PixmillError | None = None
        self._gate = Gate()
        self._recorder = Recorder(store, blobs, clock, self._break_down)
        # What follows is the pump thread's own.
        self._schedule: Schedule[Job] = Schedule(
            pace.downloads_per_host, longest_pause=pace.longest_wait
        )
        self._in_hand = 0
        self._kept_back: list[tuple[Job, Fetched]] = []  # fetched while the recorder was full
        self._gathering = Gathering()
        self._thread = threading.Thread(target=self._run, name="pump", daemon=True)
        self._thread.start()

    # --- what other threads call ------------------------------------------------------------

    def process_shard(self, lease: Lease) -> None:
        """Give every pending image of a shard its outcome, then close the shard.

        A shard whose lease is lost is left to its new holder. When the pump stops, what has no
        outcome yet is handed back.
        """
        request = self._patiently(lambda: self._store.request(lease.request_id))
        images = self._patiently(lambda: self._store.pending_images(lease))
        shard = OpenShard(lease, len(images))
        jobs = [Job(shard, image, request, host_of(image.url)) for image in images]
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
            self._patiently(lambda: self._store.complete_shard(lease, now=self._clock()))
        elif self._stopping:
            self._patiently(lambda: self._store.release(lease))

    def hungry(self) -> bool:
        """Whether the pump could use another shard."""
        waiting = len(self._schedule) + len(self._inbox)
        busy = waiting >= self._pace.in_hand and self._in_hand >= self._pace.in_hand
        full = busy or len(self._open) >= MOST_OPEN_SHARDS
        return not (full or self._gate.reserved or self._stopping)

    def abandon(self, token: str) -> None:
        """Drop a shard whose lease is lost; it is its new holder's now."""
        with self._lock:
            if shard := self._open.get(token):
                shard.abandon()

    def stop(self, grace: float) -> None:
        """Start nothing new, let what is in hand end for ``grace`` seconds, record it."""
        with self._lock:
            self._stopping = True
        self._workshop.wake()
        self._gate.close()
        self._thread.join(grace)
        self._cut = True
        self._workshop.wake()
        self._thread.join(CUT_SECONDS)
        self._recorder.close()
        with self._lock:
            for shard in self._open.values():
                shard.abandon()

    def _one_by_one(self, shard: OpenShard, jobs: list[Job]) -> None:
        """Try images singly, each noted in the store before, so that a death tells which it was.

        Images that were in hand at a death come last: the others need not wait for the next one.
        """
        for job in sorted(jobs, key=lambda job: job.image.strikes):
            self._patiently(partial(self._store.mark_trying, shard.lease, job.image.sequence))
            left = shard.missing - 1  # counted first: the image may be over before _add returns
            self._add([job])
            shard.wait(until_missing=left)
            if shard.over:
                return

    def _patiently(self, call: Callable[[], R]) -> R:
        """Ask the store, which may be away for a moment."""
        return patiently(call, hurried=lambda: self._stopping)

    def _add(self, jobs: list[Job]) -> None:
        with self._lock:
            if self._stopping:
                for job in jobs:
                    job.shard.abandon()
                return
            self._inbox += jobs
        self._workshop.wake()

    def _break_down(self, error: PixmillError) -> None:
        """Stop everything: nothing can be stored, and going on would only waste downloads."""
        with self._lock:
            if self.failure is None:
                self.failure = error
                log.error("stopping: %s", error)
            self._stopping = self._cut = True
            for shard in self._open.values():
                shard.abandon()
        self._workshop.wake()
        self._gate.close()

    # --- the pump thread --------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._cut and (self._in_hand or not self._stopping):
                self._turn()
            if self._gathering.due is not None:
                self._recorder.add(self._gathering.take())
        except PixmillError as error:
            self._break_down(error)
        except Exception as error:  # a mistake of ours: without this thread, all would wait
            log.exception("the pump broke")
            self._break_down(PixmillError(f"An internal error stopped the worker: {error!r}"))

    def _turn(self) -> None:
        """Begin what may begin, wait until something ends, see to it."""
        self._take_in()
        now = time.monotonic()
        if not self._recorder.full:
            self._go_on_with_kept_back()
            self._begin(now)
        self._hand_over(now)
        for job, ended in self._workshop.wait(self._patience(now)):
            try:
                self._see_to(job, ended)
            except PixmillError:
                raise
            except Exception as error:  # the boundary of an image: our mistake costs it alone
                self._own_up(job, error)

    def _take_in(self) -> None:
        with self._lock:
            added, self._inbox = self._inbox, []
        for job in added:
            self._schedule.add(job, job.host)
        if self._stopping:
            self._schedule.drain()

    def _begin(self, now: float) -> None:
        """Fetch what may be fetched now."""
        while self._in_hand < self._pace.in_hand and (job := self._schedule.take(now)):
            if job.shard.over:
                self._schedule.finish(job.host, overloaded=False, now=now)
                continue
            self._in_hand += 1
            job.attempts += 1
            job.started = now
            self._workshop.fetch(job, job.image, job.request.rules)

    def _go_on_with_kept_back(self) -> None:
        kept_back, self._kept_back = self._kept_back, []
        for job, source in kept_back:
            self._compress(job, source)

    def _patience(self, now: float) -> float | None:
        """Seconds until there is something to do though nothing ends; None if there is not."""
        if self._kept_back or self._recorder.full:
            return LOOK_SECONDS
        due = self._gathering.due
        waits = [] if due is None else [due - now]
        if self._in_hand < self._pace.in_hand:
            ready = self._schedule.next_ready(now)
            waits += [] if ready is None else [ready]
        return max(0.0, min(waits)) if waits else None

    def _see_to(self, job: Job, ended: Fetched | Picture | Exception) -> None:
        """Take a job one step further. Raises PixmillError when the worker cannot go on.

        Any other exception is a mistake of ours, here or in the workshop.
        """
        if job.source is None:
            self._leave_host(job, ended)
        match ended:
            case Fetched():
                job.source = ended
                self._compress(job, ended)
            case Picture():
                self._settle(job, ended)
            case ImageError():
                self._try_again_or_settle(job, ended)
            case Exception():
                raise ended
            case _:
                assert_never(ended)

    def _leave_host(self, job: Job, ended: Fetched | Picture | Exception) -> None:
        """Tell the schedule how the host took a fetch."""
        overloaded, retry_after = plea(ended)
        now = time.monotonic()
        self._schedule.finish(job.host, overloaded=overloaded, now=now, retry_after=retry_after)

    def _compress(self, job: Job, source: Fetched) -> None:
        if job.shard.over:
            self._drop(job)
        elif self._recorder.full:
            self._kept_back.append((job, source))
        else:
            self._workshop.compress(job, source, job.request.options)

    def _try_again_or_settle(self, job: Job, error: ImageError) -> None:
        jitter = random.random()  # noqa: S311  # spreads retries; nothing secret hangs on it
        delay = retry_delay(error, job.attempts, jitter, longest_wait=self._pace.longest_wait)
        if delay is None:
            self._settle(job, Failure(error.code, error.message))
            return
        now = time.monotonic()
        job.seconds += now - job.started
        self._drop(job)
        if not self._stopping:
            self._schedule.add(job, job.host, now + delay)

    def _settle(self, job: Job, made: Picture | Failure) -> None:
        """Put what came of an image to what is to be recorded."""
        now = time.monotonic()
        self._gathering.add(job.shard, job.result(made, now, originals=self._pace.originals), now)
        self._drop(job)

    def _own_up(self, job: Job, mistake: Exception) -> None:
        """End an image that met a mistake of ours."""
        log.error("image %s failed", job, exc_info=mistake)
        self._settle(job, Failure(ImageErrorCode.WORKER_CRASH, INTERNAL_ERROR))

    def _drop(self, job: Job) -> None:
        """Let go of an image and its source."""
        self._in_hand -= 1
        job.let_go()

    def _hand_over(self, now: float) -> None:
        """Have results recorded when their time has come, or nothing else is to come."""
        due = self._gathering.due
        if due is not None and (now >= due or not (self._in_hand or self._schedule)):
            self._recorder.add(self._gathering.take())

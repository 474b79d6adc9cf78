"""What a worker does: claim work, do it, keep its leases alive, take back what others lost."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

from pixmill.core.errors import (
    LeaseLost,
    NotFound,
    PixmillError,
    StorageFailure,
    StoreUnavailable,
)
from pixmill.core.leases import Hint, Lease, Work
from pixmill.ports import Clock, Store
from pixmill.steps.pump import MOST_OPEN_SHARDS, Pump
from pixmill.steps.recover import recover

log = logging.getLogger(__name__)

LOOK_AGAIN_SECONDS = 0.05
IDLE_SECONDS = 0.25
RECOVER_SECONDS = 2.0
ALONE_SECONDS = 1.0
"""How long no message came when a worker with nothing to do looks for work by itself."""

LAST_WORD_SECONDS = 3.0
"""What writing the last outcomes may take beyond the grace."""

Beside = Callable[[threading.Event], None]
"""Runs until the event is set, and returns soon after."""


class Worker:
    """Does the work of a store: claimed by itself (``run``), or as messages tell (``standing_by``).

    ``duties`` say what is done for each kind of work. A duty that raises PixmillError ends the
    worker, with the reason in ``failure``; LeaseLost and NotFound only end that piece of work.
    ``beside`` is what else runs, each in a thread of its own, until the worker stops; should one
    fail, the worker ends as well. ``on_change`` is called, from any thread, when what can be
    claimed has changed: something was taken, or has ended and may have opened more.
    """

    def __init__(
        self,
        name: str,
        store: Store,
        pump: Pump,
        duties: Mapping[Work, Callable[[Lease], None]],
        *,
        clock: Clock,
        lease_seconds: float,
        grace_seconds: float,
        beside: Sequence[Beside] = (),
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._name = name
        self._store = store
        self._pump = pump
        self._duties = duties
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._grace_seconds = grace_seconds
        self._beside = beside
        self._on_change = on_change
        self._held: dict[str, Lease] = {}
        self._taken = 0  # what messages brought
        self._room = threading.Lock()  # one shard after the other, so that none takes too much
        self._claiming = threading.Lock()
        self._closing = threading.Event()
        self._ended = threading.Event()  # something this worker did, which may have opened more
        self._failure: PixmillError | None = None

    @property
    def failure(self) -> PixmillError | None:
        """Why the worker stopped by itself; None if it did not."""
        return self._failure or self._pump.failure

    @contextmanager
    def _at_work(self, *more_beside: Beside) -> Iterator[None]:
        """Keep leases alive and run what is beside; at the end, hand back what is in hand."""
        over = threading.Event()
        keeper = threading.Thread(target=self._keep, args=(over,), name="keeper", daemon=True)
        beside = [
            threading.Thread(target=self._run_beside, args=(run,), name="beside")
            for run in (*self._beside, *more_beside)
        ]
        for thread in (keeper, *beside):
            thread.start()
        try:
            yield
        finally:
            self._closing.set()
            with self._claiming:  # whoever claims now has noted it then
                deadline = time.monotonic() + self._grace_seconds + LAST_WORD_SECONDS
            self._pump.stop(self._grace_seconds)
            self._on_change()
            self._let_end(deadline)
            for thread in beside:
                thread.join()
            over.set()
            keeper.join()

    def _let_end(self, deadline: float) -> None:
        """Wait for what is in hand: the pump's last words, an ingest, a finish; then hand it back.

        Whoever still works on it then is fenced off.
        """
        while self._held and time.monotonic() < deadline:
            self._ended.wait(LOOK_AGAIN_SECONDS)
            self._ended.clear()
        for lease in list(self._held.values()):
            self._hand_back(lease)

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set or nothing can be stored any more; then hand back the rest."""
        with ThreadPoolExecutor(MOST_OPEN_SHARDS + 2, "lane") as lanes, self._at_work():
            while not stop.is_set() and self.failure is None:
                if not self._pump.hungry() or len(self._held) > MOST_OPEN_SHARDS:
                    stop.wait(LOOK_AGAIN_SECONDS)
                elif lease := self._claim():
                    lanes.submit(self._do, lease)
                else:
                    self._ended.wait(IDLE_SECONDS)
                    self._ended.clear()

    @contextmanager
    def standing_by(self) -> Iterator[None]:
        """Be there for ``take`` during the block; at its end, hand back what is in hand."""
        with self._at_work(self._help_out):
            yield

    def take(self, hint: Hint) -> None:
        """Claim what a message tells of, and do it; return when it is over.

        Nothing happens if it cannot be claimed: it is done, or with somebody else. A shard is
        claimed when the pump has room for it.
        """
        with self._room if hint.work is Work.SHARD else nullcontext():
            while hint.work is Work.SHARD and not self._pump.hungry():
                if self._closing.wait(LOOK_AGAIN_SECONDS):
                    return
            if (lease := self._claim(hint)) is None:
                return
            self._taken += 1
        self._on_change()
        self._do(lease)

    def _help_out(self, stop: threading.Event) -> None:
        """Claim work by itself while there is room for it and no message brings any.

        Hints may be lost, their broker away, or lie with workers that are busy while this one is
        not.
        """
        taken = 0
        with ThreadPoolExecutor(MOST_OPEN_SHARDS, "lane") as lanes:
            while not stop.wait(ALONE_SECONDS):
                idle, taken = self._taken == taken, self._taken
                while idle and self._has_room() and (lease := self._claim()):
                    lanes.submit(self._do, lease)

    def _has_room(self) -> bool:
        return self._pump.hungry() and len(self._held) < MOST_OPEN_SHARDS

    def _claim(self, hint: Hint | None = None) -> Lease | None:
        """Claim the next work, or that of a hint; None as well once the worker ends."""
        terms = {"now": self._clock(), "lease_seconds": self._lease_seconds}
        try:
            with self._claiming:
                if self._closing.is_set() or self.failure:
                    return None
                if hint:
                    lease = self._store.claim_hinted(hint, self._name, **terms)
                else:
                    lease = self._store.claim(self._name, **terms)
                if lease:
                    self._held[lease.token] = lease
                return lease
        except StoreUnavailable as error:
            log.warning("cannot claim work: %s", error)
        except PixmillError as error:
            self._failure = error
        return None

    def _run_beside(self, run: Beside) -> None:
        try:
            run(self._closing)
        except PixmillError as error:
            self._failure = error
        except Exception as error:  # a mistake of ours: nobody would notice what no longer runs
            log.exception("stopping: what runs beside the worker failed")
            self._failure = PixmillError(f"An internal error stopped the worker: {error!r}")

    def _do(self, lease: Lease) -> None:
        try:
            self._duties[lease.work](lease)
        except (LeaseLost, NotFound) as over:  # cancelled, deleted, or with somebody else by now
            log.warning("%s of %s: %s", lease.work, lease.request_id, over)
        except PixmillError as error:
            log.error("stopping: %s", error)  # noqa: TRY400  # the message says it all
            self._failure = error
            if isinstance(error, StorageFailure | StoreUnavailable):
                self._hand_back(lease)
        except Exception as error:  # the boundary of a duty: a mistake of ours ends the worker
            log.exception("stopping: %s of %s failed", lease.work, lease.request_id)
            self._failure = PixmillError(f"An internal error stopped the worker: {error!r}")
        finally:
            del self._held[lease.token]
            self._ended.set()
            self._on_change()

    def _hand_back(self, lease: Lease) -> None:
        """Give up work that could not be stored, without a loss: it would be given up for good.

        Nothing is wrong with it, however often this happens: a disk may be full for hours.
        """
        try:
            self._store.release(lease)
        except PixmillError as error:  # its lease runs out then
            log.warning("cannot hand back the %s of %s: %s", lease.work, lease.request_id, error)

    def _keep(self, over: threading.Event) -> None:
        """Prolong leases well before they run out, and look for those that others let run out."""
        beat = min(RECOVER_SECONDS, self._lease_seconds / 4)
        while not over.wait(beat):
            try:
                if held := list(self._held.values()):
                    until = self._clock() + self._lease_seconds
                    for token in self._store.renew(held, until=until):
                        self._pump.abandon(token)
                recover(self._store, self._clock)
            except StoreUnavailable as error:
                log.warning("cannot renew leases: %s", error)
            except PixmillError as error:
                self._failure = error
                return
            except Exception as error:  # a mistake of ours: leases would run out unnoticed
                log.exception("stopping: leases cannot be kept")
                self._failure = PixmillError(f"An internal error stopped the worker: {error!r}")
                return

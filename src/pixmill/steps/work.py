"""What a worker does: claim work, do it, keep its leases alive, take back what others lost."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from pixmill.core.errors import (
    LeaseLost,
    NotFound,
    PixmillError,
    StorageFailure,
    StoreUnavailable,
)
from pixmill.core.leases import Lease, Work
from pixmill.ports import Clock, Store
from pixmill.steps.pump import MOST_OPEN_SHARDS, Pump
from pixmill.steps.recover import recover

log = logging.getLogger(__name__)

LOOK_AGAIN_SECONDS = 0.05
IDLE_SECONDS = 0.25
RECOVER_SECONDS = 2.0


class Worker:
    """Claims work from the store until it is told to stop.

    ``duties`` say what is done for each kind of work. A duty that raises PixmillError ends the
    worker, with the reason in ``failure``; LeaseLost and NotFound only end that piece of work.
    ``beside`` is what else runs in a thread of its own until the worker stops; should that fail,
    the worker ends as well.
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
        beside: Callable[[threading.Event], None] | None = None,
    ) -> None:
        self._name = name
        self._store = store
        self._pump = pump
        self._duties = duties
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._grace_seconds = grace_seconds
        self._beside = beside
        self._held: dict[str, Lease] = {}
        self._ended = threading.Event()  # something this worker did, which may have opened more
        self._failure: PixmillError | None = None

    @property
    def failure(self) -> PixmillError | None:
        """Why the worker stopped by itself; None if it did not."""
        return self._failure or self._pump.failure

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set or nothing can be stored any more; then hand back the rest."""
        closing, over = threading.Event(), threading.Event()
        keeper = threading.Thread(target=self._keep, args=(over,), name="keeper", daemon=True)
        keeper.start()
        beside = threading.Thread(target=self._run_beside, args=(closing,), name="beside")
        beside.start()
        with ThreadPoolExecutor(MOST_OPEN_SHARDS + 2, "lane") as lanes:
            while not stop.is_set() and self.failure is None:
                if not self._pump.hungry() or len(self._held) > MOST_OPEN_SHARDS:
                    stop.wait(LOOK_AGAIN_SECONDS)
                elif lease := self._claim():
                    self._held[lease.token] = lease
                    lanes.submit(self._do, lease)
                else:
                    self._ended.wait(IDLE_SECONDS)
                    self._ended.clear()
            closing.set()
            self._pump.stop(self._grace_seconds)
        beside.join()
        over.set()
        keeper.join()

    def _claim(self) -> Lease | None:
        try:
            return self._store.claim(
                self._name, now=self._clock(), lease_seconds=self._lease_seconds
            )
        except StoreUnavailable as error:
            log.warning("cannot claim work: %s", error)
        except PixmillError as error:
            self._failure = error
        return None

    def _run_beside(self, closing: threading.Event) -> None:
        try:
            if self._beside:
                self._beside(closing)
        except PixmillError as error:
            self._failure = error
        except Exception as error:  # a mistake of ours: nobody would notice what no longer runs
            log.exception("stopping: webhooks can no longer be sent")
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

"""Dispatch webhooks: take what is due from the outbox, and deliver many at once."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pixmill.core.errors import LeaseLost, NotFound, PixmillError, StoreUnavailable
from pixmill.core.webhooks import Delivery
from pixmill.steps.deliver import Desk, deliver, record_internal_error

log = logging.getLogger(__name__)

LEASE_SECONDS = 60.0
"""How long a delivery may be in hand: well above the timeout of a POST."""

THREADS = 32
PER_ENDPOINT = 2
"""Deliveries at once, in all and to one endpoint: one that hangs holds up only itself."""

FOR_SLOW = THREADS // 2
SLOW_SECONDS = 5.0
MOST_SLOW = 1000
"""Deliveries at once to all endpoints that took so long last time: many that hang leave room for
the others. So many slow ones are remembered, those that were slow last."""

LOOK_SECONDS = 0.5
ALONE_SECONDS = 5.0
"""How often one looks for what is due, and how often if messages should tell it."""


class Dispatcher:
    """Sends what is due, many at once, from any number of processes on one outbox.

    It looks for that by itself (``run``), or takes what messages tell of (``take``) while it stands
    by. ``on_change`` is called when a delivery is over, so that there may be room for another.
    """

    def __init__(
        self,
        name: str,
        desk: Desk,
        *,
        grace_seconds: float,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._name = name
        self._desk = desk
        self._grace_seconds = grace_seconds
        self._on_change = on_change
        self._threads = ThreadPoolExecutor(THREADS, "delivery")
        self._closed = False
        self._claiming = threading.Lock()  # one at a time, so that none is overlooked by another
        self._lock = threading.Lock()
        self._in_hand: Counter[str] = Counter()  # deliveries by endpoint
        self._slow: dict[str, None] = {}  # endpoints, the one that was slow last at the end
        self._freed = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Send until ``stop`` is set; what is in hand then has the grace to end.

        Raises what makes going on impossible, such as StorageFailure.
        """
        try:
            while not stop.is_set():
                self._freed.clear()  # before the look, so that no hand that frees is missed
                delivery = self._claim()
                if delivery is None:
                    self._freed.wait(LOOK_SECONDS)
                else:
                    self._threads.submit(self._send, delivery)
        finally:
            self._let_end()

    def stand_by(self, stop: threading.Event) -> None:
        """Be there for ``take`` until ``stop`` is set; what is in hand then has the grace.

        Of what ``take`` had no room for, nobody is told again soon. So whenever something has
        ended here, what is due is looked for; and now and then in any case, as hints may be lost.
        """
        looked = time.monotonic()
        try:
            while not stop.is_set():
                freed = self._freed.wait(LOOK_SECONDS)
                if freed or time.monotonic() - looked > ALONE_SECONDS:
                    self._freed.clear()  # before the look, so that no hand that frees is missed
                    self._send_what_is_due(stop)
                    looked = time.monotonic()
        finally:
            self._let_end()

    def take(self, delivery_id: str) -> None:
        """Send what a message tells of, if it can be claimed; returns when that has begun.

        A delivery to an endpoint that has enough in hand here is left for others, or until there is
        room.
        """
        try:
            endpoint = self._desk.outbox.delivery(delivery_id).endpoint
            with self._claiming:
                delivery = self._claim_hinted(delivery_id, endpoint)
        except NotFound:  # deleted by now
            return
        except PixmillError as error:
            log.warning("cannot take delivery %s: %s", delivery_id, error)
            return
        if delivery:
            try:
                self._threads.submit(self._send, delivery)
            except RuntimeError:  # claiming took longer than the grace: the threads are gone
                log.warning("delivery %s waits until its lease runs out", delivery_id)

    def _send_what_is_due(self, stop: threading.Event) -> None:
        while not stop.is_set() and (delivery := self._claim()):
            self._threads.submit(self._send, delivery)

    def _claim_hinted(self, delivery_id: str, endpoint: str) -> Delivery | None:
        """Claim this delivery if its endpoint has not enough in hand here."""
        with self._lock:
            full = self._closed or self._in_hand.total() >= THREADS
            if full or endpoint in self._busy_endpoints():
                return None
            self._in_hand[endpoint] += 1
        delivery = None
        try:
            delivery = self._desk.outbox.claim_hinted(
                delivery_id, self._name, now=self._desk.clock(), lease_seconds=LEASE_SECONDS
            )
        finally:
            if delivery is None:
                with self._lock:
                    self._let_go(endpoint)
        return delivery

    def _let_end(self) -> None:
        with self._lock:
            self._closed = True
        deadline = time.monotonic() + self._grace_seconds
        while self._busy() and time.monotonic() < deadline:
            self._freed.clear()
            self._freed.wait(0.1)
        self._desk.break_off()
        self._threads.shutdown()

    def _busy(self) -> int:
        with self._lock:
            return self._in_hand.total()

    def _claim(self) -> Delivery | None:
        with self._claiming:
            return self._claim_next()

    def _claim_next(self) -> Delivery | None:
        with self._lock:
            if self._in_hand.total() >= THREADS:
                return None
            busy = self._busy_endpoints()
        try:
            delivery = self._desk.outbox.claim_delivery(
                self._name, busy, now=self._desk.clock(), lease_seconds=LEASE_SECONDS
            )
        except StoreUnavailable as error:
            log.warning("cannot look for deliveries: %s", error)
            return None
        if delivery:
            with self._lock:
                self._in_hand[delivery.endpoint] += 1
        return delivery

    def _busy_endpoints(self) -> set[str]:
        busy = {where for where, count in self._in_hand.items() if count >= PER_ENDPOINT}
        if sum(count for where, count in self._in_hand.items() if where in self._slow) >= FOR_SLOW:
            busy.update(self._slow)
        return busy

    def _send(self, delivery: Delivery) -> None:
        started = time.monotonic()
        try:
            deliver(self._desk, delivery)
        except (LeaseLost, NotFound) as gone:
            log.info("delivery %s: %s", delivery.id, gone)
        except PixmillError as error:
            log.warning("delivery %s will be sent again: %s", delivery.id, error)
            time.sleep(LOOK_SECONDS)
        except Exception:  # the boundary of a delivery: a mistake of ours must not stop the others
            log.exception("delivery %s met an internal error", delivery.id)
            record_internal_error(self._desk, delivery)
        finally:
            self._free(delivery.endpoint, slow=time.monotonic() - started >= SLOW_SECONDS)

    def _free(self, endpoint: str, *, slow: bool) -> None:
        with self._lock:
            self._let_go(endpoint)
            self._slow.pop(endpoint, None)
            if slow:
                self._slow[endpoint] = None
            if len(self._slow) > MOST_SLOW:
                del self._slow[next(iter(self._slow))]
        self._freed.set()
        self._on_change()

    def _let_go(self, endpoint: str) -> None:
        self._in_hand[endpoint] -= 1
        if not self._in_hand[endpoint]:
            del self._in_hand[endpoint]

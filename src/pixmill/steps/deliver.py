"""Deliver webhooks: take what is due from the outbox, sign it, post it, record what came of it."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from pixmill.core.errors import LeaseLost, NotFound, PixmillError, StoreUnavailable
from pixmill.core.webhooks import DELAYS, Attempt, Delivery, DeliveryState, next_delay, sign
from pixmill.ports import Clock, Outbox

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

INTERNAL_ERROR = "An internal error kept it from being sent; the service's log has more."


class Answered(Protocol):
    """What came of a POST: the HTTP status, or why there was none."""

    @property
    def http_status(self) -> int | None: ...
    @property
    def error(self) -> str | None: ...
    @property
    def retry_after(self) -> float | None: ...
    @property
    def duration(self) -> float: ...
    @property
    def broken_off(self) -> bool: ...


Post = Callable[[str, Mapping[str, str], bytes], Answered]
"""Post a body to a URL with these headers; called from many threads, never raises."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What a delivery needs on its way: the outbox, who posts, who writes bodies, who signs.

    ``break_off`` ends all posts that are under way and those to come.
    """

    outbox: Outbox
    post: Post
    break_off: Callable[[], None]
    write_body: Callable[[Delivery], str]
    secrets: Callable[[], list[bytes]]
    clock: Clock
    delays: Sequence[float] = DELAYS


def deliver(desk: Desk, delivery: Delivery) -> None:
    """Send a delivery once and record what came of it.

    Killed between the two, it is sent again under the same id: at least once, never lost. Raises
    LeaseLost if somebody else has it by now, NotFound if its request is deleted.
    """
    body = delivery.body
    if body is None:
        body = desk.write_body(delivery)
        desk.outbox.keep_body(delivery, body)
    at = desk.clock()
    answer = desk.post(delivery.url, _headers(desk, delivery, int(at), body), body.encode())
    if answer.broken_off:  # by our own stop, so it does not count: whoever comes next sends it
        desk.outbox.release_delivery(delivery)
        return
    attempt = Attempt(
        number=delivery.attempts + 1,
        at=datetime.fromtimestamp(at, UTC),
        duration=answer.duration,
        http_status=answer.http_status,
        error=answer.error,
        retry_after=answer.retry_after,
    )
    _record(desk, delivery, attempt)


def _headers(desk: Desk, delivery: Delivery, timestamp: int, body: str) -> dict[str, str]:
    return {
        "Content-Type": "application/json",
        "webhook-id": delivery.id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(desk.secrets(), delivery.id, timestamp, body.encode()),
    }


def _record(desk: Desk, delivery: Delivery, attempt: Attempt) -> None:
    if attempt.delivered:
        desk.outbox.record_attempt(delivery, attempt, DeliveryState.DELIVERED, next_at=None)
        return
    jitter = random.random()  # noqa: S311  # spreads attempts; nothing secret hangs on it
    delay = next_delay(attempt, jitter, earlier=delivery.earlier, delays=desk.delays)
    if delay is None:
        log.warning("giving up delivery %s to %s", delivery.id, delivery.endpoint)
        desk.outbox.record_attempt(delivery, attempt, DeliveryState.FAILED, next_at=None)
    else:
        next_at = desk.clock() + delay
        desk.outbox.record_attempt(delivery, attempt, DeliveryState.PENDING, next_at=next_at)


def _record_internal_error(desk: Desk, delivery: Delivery) -> None:
    """Let a delivery that cannot even be tried wait and fail like any other, for all to see."""
    at = datetime.fromtimestamp(desk.clock(), UTC)
    try:
        _record(desk, delivery, Attempt(delivery.attempts + 1, at, 0.0, error=INTERNAL_ERROR))
    except PixmillError as error:  # its lease brings it back
        log.warning("delivery %s: %s", delivery.id, error)


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
                self._desk.outbox.release_delivery(delivery)

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
            _record_internal_error(self._desk, delivery)
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

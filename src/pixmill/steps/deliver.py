"""Deliver a webhook: sign it, post it, record what came of it."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from pixmill.core.errors import PixmillError
from pixmill.core.webhooks import DELAYS, Attempt, Delivery, DeliveryState, next_delay, sign
from pixmill.ports import Clock, Outbox

log = logging.getLogger(__name__)

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


def record_internal_error(desk: Desk, delivery: Delivery) -> None:
    """Let a delivery that cannot even be tried wait and fail like any other, for all to see."""
    at = datetime.fromtimestamp(desk.clock(), UTC)
    try:
        _record(desk, delivery, Attempt(delivery.attempts + 1, at, 0.0, error=INTERNAL_ERROR))
    except PixmillError as error:  # its lease brings it back
        log.warning("delivery %s: %s", delivery.id, error)

"""Webhooks by the Standard Webhooks specification: deliveries, signatures, when to try again.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from urllib.parse import urlsplit

from pixmill.core.addresses import host_of
from pixmill.core.errors import InvalidSetting
from pixmill.core.events import Event
from pixmill.core.model import RequestStatus

SECRET_PREFIX = "whsec_"  # noqa: S105  # what a secret begins with, not one
SHORTEST_SECRET, LONGEST_SECRET = 24, 64
"""Bytes of a secret (specification, "Signature scheme")."""

TOLERANCE_SECONDS = 300
"""How far the timestamp of a message may be off: older ones may be replayed by a stranger."""

DELAYS = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Seconds between one attempt and the next; after the last one a delivery has failed."""

JITTER = 0.1
"""By which part of itself a delay may grow, so that what failed together is not tried together."""

LONGEST_RETRY_AFTER = 86_400.0

MOST_ENDPOINTS, MOST_TOLD = 32, 2
"""Of how many endpoints, and how many due deliveries to each, workers are told at a time.

Few to each, since each is held for as long as its endpoint takes: one that hangs, with thousands
due, must not have all workers wait for it.
"""

DEFAULT_PORTS = {"http": 80, "https": 443}

ENDINGS = {
    RequestStatus.COMPLETED: Event.COMPLETED,
    RequestStatus.FAILED: Event.FAILED,
    RequestStatus.CANCELLED: Event.CANCELLED,
}
"""The event that tells of the end of a request."""


class DeliveryState(StrEnum):
    """Where a delivery stands. The last two are final, until it is replayed."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to one endpoint.

    ``id`` is the ``webhook-id``, the same at every attempt. The status and the counts are those of
    the moment that the event tells of. ``body`` is what is sent, the same bytes at every attempt;
    None before the first one. ``next_attempt_at`` is None once the state is final. ``earlier`` of
    the attempts belong to schedules that ended with a replay.
    """

    id: str
    request_id: str
    event: Event
    url: str
    created_at: datetime
    status: RequestStatus
    processed_images: int
    failed_images: int
    state: DeliveryState = DeliveryState.PENDING
    attempts: int = 0
    earlier: int = 0
    next_attempt_at: datetime | None = None
    body: str | None = None
    token: str = ""

    @property
    def endpoint(self) -> str:
        """Where it goes."""
        return endpoint_of(self.url)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of sending a delivery once: the answer's HTTP status, or why there was none."""

    number: int
    at: datetime
    duration: float
    http_status: int | None = None
    error: str | None = None
    retry_after: float | None = None

    @property
    def delivered(self) -> bool:
        """Whether the endpoint took it: only a 2xx says so."""
        return self.http_status is not None and 200 <= self.http_status <= 299


@dataclass(frozen=True, slots=True)
class Receipt:
    """A message that was received and whose signature was right."""

    webhook_id: str
    event: str
    request_id: str
    received_at: datetime
    body: str


def secret_text(secret: bytes) -> str:
    """A secret as people and settings see it."""
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def parse_secret(text: str) -> bytes:
    """The bytes of a secret such as ``whsec_…``. Raises InvalidSetting, never showing the text."""
    try:
        secret = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        secret = b""
    if text.startswith(SECRET_PREFIX) and SHORTEST_SECRET <= len(secret) <= LONGEST_SECRET:
        return secret
    raise InvalidSetting(
        f"A webhook secret is {SECRET_PREFIX} and the base64 of {SHORTEST_SECRET} to"
        f" {LONGEST_SECRET} bytes. Make one with: pixmill webhook secret --rotate"
    )


def sign(secrets: Sequence[bytes], webhook_id: str, timestamp: int, body: bytes) -> str:
    """The ``webhook-signature`` header: one signature for each secret that is live."""
    return " ".join(f"v1,{_signature(secret, webhook_id, timestamp, body)}" for secret in secrets)


def verified(
    secrets: Sequence[bytes], webhook_id: str, timestamp: int, body: bytes, signatures: str
) -> bool:
    """Whether one of the signatures was made with one of the secrets. Compares in constant time."""
    given = [
        text.encode()
        for version, _, text in (entry.partition(",") for entry in signatures.split())
        if version == "v1"
    ]
    wanted = [_signature(secret, webhook_id, timestamp, body).encode() for secret in secrets]
    return any(hmac.compare_digest(one, other) for one in given for other in wanted)


def next_delay(
    attempt: Attempt, jitter: float, *, earlier: int = 0, delays: Sequence[float] = DELAYS
) -> float | None:
    """Seconds until a delivery whose attempt failed is tried again; None if it never is.

    ``jitter`` is a random number from 0 to 1; ``earlier`` attempts do not count. ``Retry-After``
    can make it later, up to a day, but not sooner; 410 means that the endpoint is gone for good.
    """
    number = attempt.number - earlier
    if attempt.http_status == 410 or number >= len(delays):
        return None
    asked = min(attempt.retry_after or 0.0, LONGEST_RETRY_AFTER)
    return max(delays[number] * (1 + JITTER * jitter), asked)


def retry_seconds(text: str, now: float) -> float | None:
    """Seconds that a ``Retry-After`` asks to wait (RFC 9110 section 10.2.3); None if it asks none.

    It holds seconds or a date; more than can be waited for is cut to that.
    """
    text = text.strip()
    if re.fullmatch("[0-9]+", text):
        seconds = float(text)
    else:
        try:
            at = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return None
        seconds = at.replace(tzinfo=at.tzinfo or UTC).timestamp() - now
    return min(seconds, LONGEST_RETRY_AFTER) if seconds > 0 else None


def endpoint_of(url: str) -> str:
    """The part of a URL that hangs or fails together, however it is written: scheme, host, port.

    It never holds a path or query, where tokens live. Empty for a URL that cannot be called.
    """
    host = host_of(url)
    if not host:
        return ""
    parts = urlsplit(url)
    usual = parts.port in {None, DEFAULT_PORTS[parts.scheme]}
    return f"{parts.scheme}://{host}" if usual else f"{parts.scheme}://{host}:{parts.port}"


def _signature(secret: bytes, webhook_id: str, timestamp: int, body: bytes) -> str:
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    return base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()

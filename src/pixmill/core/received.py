"""Messages that arrive: whether they are signed with a secret of ours, and of now.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pixmill.core.errors import PixmillError
from pixmill.core.webhooks import TOLERANCE_SECONDS, verified

LONGEST_BODY = 1_000_000
"""Bytes of a message that are taken in; ours have at most 20,000."""

LONGEST_ID = 100

HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")
_FORMS: Mapping[str, tuple[re.Pattern[str], str]] = {
    "webhook-id": (
        re.compile(rf"[!-~]{{1,{LONGEST_ID}}}"),
        f"1 to {LONGEST_ID} visible ASCII characters without spaces",
    ),
    "webhook-timestamp": (re.compile(r"[0-9]{1,12}"), "the seconds since 1970, in digits"),
    "webhook-signature": (
        re.compile(r"[!-~]+( [!-~]+)*"),
        "signatures such as v1,… with spaces between them",
    ),
}


class Doubt(StrEnum):
    """Why a message is not believed."""

    MALFORMED = "webhook_malformed"
    EXPIRED = "webhook_expired"
    UNVERIFIED = "webhook_unverified"


class MessageRefused(PixmillError):
    """A message is not believed; ``code`` is the ``Doubt``."""

    def __init__(self, doubt: Doubt, message: str) -> None:
        super().__init__(message)
        self.code = doubt


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the headers of a message say: its id, when it was sent, and its signatures."""

    webhook_id: str
    timestamp: int
    signatures: str


def check_message(
    headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes], now: float
) -> Stamp:
    """Check that a message was signed with one of the secrets, and not long ago.

    Raises MessageRefused. The time is looked at first, and says nothing about the secret.
    """
    stamp = read_stamp(headers)
    away = now - stamp.timestamp
    if abs(away) > TOLERANCE_SECONDS:
        raise MessageRefused(
            Doubt.EXPIRED,
            f"The message was sent {abs(away):.0f} seconds {'ago' if away > 0 else 'from now'} by"
            f" its webhook-timestamp; at most {TOLERANCE_SECONDS} are taken. Send it anew, and"
            " check the clocks of both machines.",
        )
    if not secrets:
        raise MessageRefused(
            Doubt.UNVERIFIED,
            "No message can be verified, since there is no secret here. Make one with 'pixmill"
            " webhook secret', or set PIXMILL_WEBHOOK_SECRET to the sender's.",
        )
    if not verified(secrets, stamp.webhook_id, stamp.timestamp, body, stamp.signatures):
        raise MessageRefused(
            Doubt.UNVERIFIED,
            "No signature of the message was made with the secret that is set here. The sender and"
            " the receiver need the same secret, and the body has to arrive as it was sent.",
        )
    return stamp


def read_stamp(headers: Mapping[str, str]) -> Stamp:
    """Read the headers of a message. Raises MessageRefused, naming the one that is wrong."""
    found = {}
    for name in HEADERS:
        form, words = _FORMS[name]
        text = headers.get(name, "").strip()
        if not text:
            raise MessageRefused(Doubt.MALFORMED, f"The message has no header {name!r}.")
        if not form.fullmatch(text):
            raise MessageRefused(Doubt.MALFORMED, f"The header {name!r} must be {words}.")
        found[name] = text
    return Stamp(
        webhook_id=found["webhook-id"],
        timestamp=int(found["webhook-timestamp"]),
        signatures=found["webhook-signature"],
    )

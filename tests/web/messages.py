"""Messages as another pixmill would send them."""

from __future__ import annotations

import json
import time
from typing import Any

from pixmill.core.webhooks import parse_secret, sign
from pixmill.web.examples import EXAMPLES

SECRET = "whsec_" + "c2VjcmV0" * 4
OTHER = "whsec_" + "b3RoZXJz" * 4


def message(**changes: Any) -> bytes:
    """The body of a message, with some of its fields changed."""
    return json.dumps({**EXAMPLES["WebhookMessage"], **changes}).encode()


def signed(
    body: bytes, webhook_id: str = "msg_1", *, secret: str = SECRET, late: float = 0
) -> dict[str, str]:
    """The headers of a message that was sent so many seconds ago."""
    timestamp = int(time.time() - late)
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign([parse_secret(secret)], webhook_id, timestamp, body),
    }

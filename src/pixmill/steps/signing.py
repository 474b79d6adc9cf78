"""The secrets that sign webhooks, and verify those that come in."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from pixmill.ports import Clock, Outbox

SECRET_BYTES = 32


def live_secrets(outbox: Outbox, configured: Sequence[bytes], clock: Clock) -> list[bytes]:
    """The secrets that are live, newest first: the configured ones, or else the outbox's.

    The very first one is made when it is first needed.
    """
    now = clock()
    return (
        list(configured)
        or outbox.secrets(now=now)
        or outbox.first_secret(secrets.token_bytes(SECRET_BYTES), now=now)
    )

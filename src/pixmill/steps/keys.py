"""Make an API key."""

from __future__ import annotations

import secrets
from base64 import b32encode
from collections.abc import Iterable
from datetime import UTC, datetime

from pixmill.core.access import ApiKey, Scope, key_text, secret_digest
from pixmill.ports import Access, Clock


def create_key(
    access: Access,
    name: str,
    scopes: Iterable[Scope],
    clock: Clock,
    *,
    replaces: str | None = None,
) -> tuple[ApiKey, str]:
    """Keep a new key; return it and its text, which cannot be had again.

    It may replace another one, whose id is given; raises NotFound if there is no such key.
    """
    secret = _random(32)
    key = ApiKey(
        id=_random(8),
        name=name,
        scopes=frozenset(scopes),
        digest=secret_digest(secret),
        created_at=datetime.fromtimestamp(clock(), UTC),
    )
    access.add_key(key, replaces)
    return key, key_text(key.id, secret)


def _random(size: int) -> str:
    return b32encode(secrets.token_bytes(size)).decode().rstrip("=").lower()

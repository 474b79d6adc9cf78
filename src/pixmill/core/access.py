"""API keys: who may do what, and how a key is told apart from all others.

A key's text is ``pixmill_<id>_<secret>``. The id is public: logs and ``keys list`` show it, and
requests belong to it. Of the secret, 32 random bytes, only the SHA-256 is stored; guessing is out
of reach, so nothing slower than that is needed (unlike for passwords).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

NOBODY = ""
"""The owner of requests that were made while no key existed."""


class Scope(StrEnum):
    """What a key allows. ``admin`` includes the others."""

    SUBMIT = "submit"
    """Upload, cancel, retry and delete requests, and send their webhooks again."""
    READ = "read"
    """Everything that only looks."""
    ADMIN = "admin"
    """Metrics, received webhooks, and all that the other scopes allow."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is stored. ``digest`` is the SHA-256 of its secret in hexadecimal."""

    id: str
    name: str
    scopes: frozenset[Scope]
    digest: str
    created_at: datetime
    revoked_at: datetime | None = None

    def allows(self, scope: Scope) -> bool:
        """Whether the key may do what the scope stands for."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def opened_by(self, text: str) -> bool:
        """Whether this is the key with that text, and not revoked. Takes the same time always."""
        secret = text.rpartition("_")[2]
        return hmac.compare_digest(secret_digest(secret), self.digest) and self.revoked_at is None


def key_text(key_id: str, secret: str) -> str:
    """What the owner of a key is shown, once."""
    return f"pixmill_{key_id}_{secret}"


def key_id_of(text: str) -> str | None:
    """The id in a key's text; None if it cannot be a key of ours."""
    found = _KEY.fullmatch(text)
    return found[1] if found else None


def secret_digest(secret: str) -> str:
    """What is stored of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


_KEY = re.compile(r"pixmill_([a-z2-7]{13})_[a-z2-7]{52}")
"""13 and 52 characters of base 32 hold 8 and 32 bytes."""

"""What the service needs to know who may call: API keys and counts of calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pixmill.core.access import ApiKey


class Access(Protocol):
    """API keys, and how often they were used lately. Raises like Store."""

    def add_key(self, key: ApiKey, replaces: str | None = None) -> None:
        """Keep a key. The very first one takes over the requests that were made without any.

        A key that replaces another one takes over its requests and idempotency keys, and the other
        one is revoked from then on; raises NotFound, and keeps nothing, if there is no such key.
        """

    def any_key(self) -> bool:
        """Whether a key was ever made: from then on, every call needs one."""

    def key(self, key_id: str) -> ApiKey | None:
        """Return a key, revoked or not."""

    def keys(self) -> list[ApiKey]:
        """Return all keys, oldest first."""

    def revoke_key(self, key_id: str, *, now: float) -> ApiKey:
        """Let a key open nothing any more; raises NotFound. Revoking twice changes nothing."""

    def count_requests(self, key_id: str) -> int:
        """Count the requests that belong to a key."""

    def count_calls(self, callers: Sequence[str], *, window: int) -> list[int]:
        """Count one more call of each in a window of time; return the counts so far.

        Windows are numbered upwards; what was counted in earlier ones is forgotten. The counts
        hold over all processes, but need not survive a power cut.
        """

    def close(self) -> None:
        """Let go of connections and files."""

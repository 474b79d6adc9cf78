"""The Access port on SQLite."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pixmill.core.access import ApiKey
from pixmill.stores.sqlite import keys, requests, rows
from pixmill.stores.sqlite.calls import CallCounter
from pixmill.stores.sqlite.database import Database


class SqliteAccess:
    """API keys in the store's own file; how often they were used, in a small one beside it."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path)
        self._calls = CallCounter(path.with_name(f"{path.name}-calls"))

    def close(self) -> None:
        """Let go of the files."""
        self._calls.close()
        self._database.close()

    def add_key(self, key: ApiKey, replaces: str | None = None) -> None:
        """Keep a key. The very first one takes over the requests that were made without any.

        A key that replaces another one takes over what is its, and revokes it; raises NotFound.
        """
        with self._database.write() as db:
            keys.add(db, key, replaces)

    def any_key(self) -> bool:
        """Whether a key was ever made: from then on, every call needs one."""
        with self._database.read() as db:
            return keys.any_key(db)

    def key(self, key_id: str) -> ApiKey | None:
        """Return a key, revoked or not."""
        with self._database.read() as db:
            row = db.execute("SELECT * FROM keys WHERE id = ?", (key_id,)).fetchone()
        return rows.to_key(row) if row else None

    def keys(self) -> list[ApiKey]:
        """Return all keys, oldest first."""
        with self._database.read() as db:
            found = db.execute("SELECT * FROM keys ORDER BY created_at, id").fetchall()
        return [rows.to_key(row) for row in found]

    def revoke_key(self, key_id: str, *, now: float) -> ApiKey:
        """Let a key open nothing any more; raises NotFound. Revoking twice changes nothing."""
        with self._database.write() as db:
            return keys.revoke(db, key_id, now)

    def count_requests(self, key_id: str) -> int:
        """Count the requests that belong to a key."""
        with self._database.read() as db:
            return requests.count(db, key_id)

    def count_calls(self, callers: Sequence[str], *, window: int) -> list[int]:
        """Count one more call of each in a window of time; return the counts so far."""
        return self._calls.count(callers, window)

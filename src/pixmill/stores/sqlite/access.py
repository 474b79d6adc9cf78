"""The Access port on SQLite."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pixmill.core.access import NOBODY, ApiKey
from pixmill.core.errors import NotFound
from pixmill.stores.sqlite import rows
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

    def add_key(self, key: ApiKey) -> None:
        """Keep a key. The very first one takes over the requests that were made without any."""
        with self._database.write() as db:
            first = db.execute("SELECT 1 FROM keys LIMIT 1").fetchone() is None
            db.execute(
                "INSERT INTO keys (id, name, scopes, digest, created_at, revoked_at)"
                " VALUES (:id, :name, :scopes, :digest, :created_at, :revoked_at)",
                rows.key_values(key),
            )
            if first:
                for table in ("requests", "once"):
                    db.execute(f"UPDATE {table} SET owner = ? WHERE owner = ?", (key.id, NOBODY))

    def any_key(self) -> bool:
        """Whether a key was ever made: from then on, every call needs one."""
        with self._database.read() as db:
            return db.execute("SELECT 1 FROM keys LIMIT 1").fetchone() is not None

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
            row = db.execute(
                "UPDATE keys SET revoked_at = coalesce(revoked_at, ?) WHERE id = ? RETURNING *",
                (now, key_id),
            ).fetchone()
        if row is None:
            raise NotFound(f"There is no key {key_id!r}.")
        return rows.to_key(row)

    def count_calls(self, callers: Sequence[str], *, window: int) -> list[int]:
        """Count one more call of each in a window of time; return the counts so far."""
        return self._calls.count(callers, window)

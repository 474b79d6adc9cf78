"""API keys, and what belongs to them, inside a caller's transaction."""

from __future__ import annotations

import sqlite3

from pixmill.core.access import NOBODY, ApiKey
from pixmill.core.errors import NotFound
from pixmill.stores.sqlite import rows


def add(db: sqlite3.Connection, key: ApiKey, replaces: str | None) -> None:
    """Keep a key, which takes over what was nobody's if it is the first; raises NotFound."""
    first = not any_key(db)
    db.execute(
        "INSERT INTO keys (id, name, scopes, digest, created_at, revoked_at)"
        " VALUES (:id, :name, :scopes, :digest, :created_at, :revoked_at)",
        rows.key_values(key),
    )
    if first:
        _take_over(db, key.id, NOBODY)
    if replaces is not None:
        revoke(db, replaces, key.created_at.timestamp())
        db.execute(
            "UPDATE keys SET successor = :new WHERE id = :old OR successor = :old",
            {"new": key.id, "old": replaces},
        )
        _take_over(db, key.id, replaces)


def any_key(db: sqlite3.Connection) -> bool:
    """Whether a key was ever made."""
    return db.execute("SELECT 1 FROM keys LIMIT 1").fetchone() is not None


def revoke(db: sqlite3.Connection, key_id: str, now: float) -> ApiKey:
    """Revoke a key, unless it is; raises NotFound."""
    row = db.execute(
        "UPDATE keys SET revoked_at = coalesce(revoked_at, ?) WHERE id = ? RETURNING *",
        (now, key_id),
    ).fetchone()
    if row is None:
        raise NotFound(f"There is no key {key_id!r}.")
    return rows.to_key(row)


def heir_of(db: sqlite3.Connection, owner: str) -> str:
    """The key that has taken over an owner's requests, or else the owner.

    What was under way for the owner at that moment comes later, and must not be nobody's.
    """
    which = "WHERE id = ?" if owner else "WHERE id > ? ORDER BY created_at, id LIMIT 1"
    row = db.execute(f"SELECT coalesce(successor, id) FROM keys {which}", (owner,)).fetchone()
    return row[0] if row else owner


def _take_over(db: sqlite3.Connection, new: str, old: str) -> None:
    """Give all that belongs to an owner to another one."""
    for table in ("requests", "once"):
        db.execute(f"UPDATE {table} SET owner = ? WHERE owner = ?", (new, old))

"""Requests: kept once, found by their owners, counted, inside a caller's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import replace

from pixmill.core.errors import AlreadyAccepted, NotFound
from pixmill.core.leases import Work
from pixmill.core.model import Once, Request, RequestStatus
from pixmill.ports import Census
from pixmill.stores.sqlite import keys, leases, rows

DELETED = "DELETED"
"""The status of a request that nobody sees any more, until its purge is over."""

VISIBLE = f"EXISTS (SELECT 1 FROM requests WHERE id = :id AND status <> '{DELETED}')"

ONCE_SECONDS = 24 * 3600.0
"""How long an idempotency key is kept."""


def expect(db: sqlite3.Connection, request: Request, purge_at: float) -> None:
    """Keep a request as if it were deleted, until it is added or its purge is due."""
    _insert(db, "requests", {**rows.request_values(request), "status": DELETED, "turn": purge_at})
    leases.offer(db, request.id, Work.PURGE, now=purge_at)


def add(db: sqlite3.Connection, request: Request, once: Once | None) -> None:
    """Keep a new request and offer its ingest; raises AlreadyAccepted."""
    made = request.created_at.timestamp()
    request = replace(request, owner=keys.heir_of(db, request.owner))
    db.execute(f"DELETE FROM requests WHERE id = ? AND status = '{DELETED}'", (request.id,))
    _insert(db, "requests", rows.request_values(request))
    if once:
        db.execute("DELETE FROM once WHERE created_at <= ?", (made - ONCE_SECONDS,))
        if not _insert(db, "once", rows.once_values(request, once), "ON CONFLICT DO NOTHING"):
            raise AlreadyAccepted(f"The idempotency key {once.key!r} is in use already.")
    leases.offer(db, request.id, Work.INGEST, now=made)


def accepted(db: sqlite3.Connection, owner: str, key: str, now: float) -> Once | None:
    """What an idempotency key stands for, of an owner or of who has taken over."""
    row = db.execute(
        "SELECT * FROM once WHERE owner = ? AND key = ? AND created_at > ?",
        (keys.heir_of(db, owner), key, now - ONCE_SECONDS),
    ).fetchone()
    return rows.to_once(row) if row else None


def find(db: sqlite3.Connection, request_id: str) -> Request:
    """A request; raises NotFound."""
    row = db.execute(
        f"SELECT * FROM requests WHERE id = ? AND status <> '{DELETED}'", (request_id,)
    ).fetchone()
    if row is None:
        raise NotFound(f"There is no request {request_id!r}.")
    return rows.to_request(row)


def page(
    db: sqlite3.Connection,
    owner: str,
    *,
    status: RequestStatus | None,
    before: Request | None,
    limit: int,
) -> list[Request]:
    """An owner's requests, newest first."""
    query = f"SELECT * FROM requests WHERE owner = :owner AND status <> '{DELETED}'"
    if status is not None:
        query += " AND status = :status"
    if before is not None:
        query += " AND (created_at, id) < (:created_at, :id)"
    found = db.execute(
        query + " ORDER BY created_at DESC, id DESC LIMIT :limit",
        {
            "owner": owner,
            "status": status,
            "created_at": before and before.created_at.timestamp(),
            "id": before and before.id,
            "limit": limit,
        },
    ).fetchall()
    return [rows.to_request(row) for row in found]


def count(db: sqlite3.Connection, owner: str) -> int:
    """How many requests an owner has."""
    query = f"SELECT count(*) FROM requests WHERE owner = ? AND status <> '{DELETED}'"
    return int(db.execute(query, (owner,)).fetchone()[0])


def latest(db: sqlite3.Connection, digest: str) -> Request | None:
    """The newest request with this digest."""
    row = db.execute(
        f"SELECT * FROM requests WHERE digest = ? AND status <> '{DELETED}'"
        " ORDER BY created_at DESC LIMIT 1",
        (digest,),
    ).fetchone()
    return rows.to_request(row) if row else None


def finished_before(db: sqlite3.Connection, moment: float, limit: int) -> list[Request]:
    """Terminal requests of all owners, those that ended first, first."""
    found = db.execute(
        f"SELECT * FROM requests WHERE finished_at < ? AND status <> '{DELETED}'"
        " ORDER BY finished_at LIMIT ?",
        (moment, limit),
    ).fetchall()
    return [rows.to_request(row) for row in found]


def census(db: sqlite3.Connection) -> Census:
    """Count requests and their images. Both halves are read from small indexes."""
    counted = db.execute(
        "SELECT status, count(*), sum(processed_images), sum(failed_images),"
        " sum(total_images - processed_images - failed_images)"
        f" FROM requests WHERE {leases.IN_TURN} GROUP BY status"
        " UNION ALL SELECT status, count(*), sum(processed_images), sum(failed_images), 0"
        " FROM requests WHERE status IN ('COMPLETED', 'FAILED', 'CANCELLED') GROUP BY status"
    ).fetchall()
    seen = [row for row in counted if row[0] != DELETED]
    by_status = {RequestStatus(row[0]): row[1] for row in seen}
    return Census(
        requests={status: by_status.get(status, 0) for status in RequestStatus},
        processed_images=sum(row[2] for row in seen),
        failed_images=sum(row[3] for row in seen),
        pending_images=sum(row[4] for row in seen),
    )


def _insert(
    db: sqlite3.Connection, table: str, values: Mapping[str, object], on_conflict: str = ""
) -> bool:
    """Insert a row; return whether it was inserted."""
    names = ", ".join(values)
    places = ", ".join(f":{name}" for name in values)
    query = f"INSERT INTO {table} ({names}) VALUES ({places}) {on_conflict}"
    return db.execute(query, values).rowcount == 1

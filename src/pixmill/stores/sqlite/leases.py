"""Who holds which work: claims, losses and fencing, inside a caller's transaction."""

from __future__ import annotations

import secrets
import sqlite3

from pixmill.core.errors import LeaseLost
from pixmill.core.leases import Lease, LostLease, Verdict, Work
from pixmill.stores.sqlite import rows

OPEN = "state = 'open', token = NULL, worker = NULL, expires = NULL, trying = NULL"
HELD = " WHERE request_id = ? AND kind = ? AND number = ? AND state = 'leased' AND token = ?"


def claim(db: sqlite3.Connection, worker: str, *, now: float, lease_seconds: float) -> Lease | None:
    """Lease the next open work to a worker; None when there is none."""
    found = next_open(db)
    if found is None:
        return None
    row = db.execute(
        "UPDATE work SET state = 'leased', token = :token, worker = :worker,"
        " expires = :expires WHERE request_id = :request_id AND kind = :kind"
        " AND number = :number RETURNING *",
        {
            **dict(found),
            "token": secrets.token_hex(16),
            "worker": worker,
            "expires": now + lease_seconds,
        },
    ).fetchone()
    db.execute("UPDATE requests SET turn = ? WHERE id = ?", (now, row["request_id"]))
    return rows.to_lease(row)


def next_open(db: sqlite3.Connection) -> sqlite3.Row | None:
    """Find the next work: the request whose turn is longest ago, its kinds in order of urgency."""
    row: sqlite3.Row | None = db.execute(
        "SELECT work.request_id, kind, number FROM requests JOIN work"
        " ON work.request_id = requests.id AND work.state = 'open'"
        " WHERE requests.id = (SELECT id FROM requests WHERE status IN ('PENDING', 'PROCESSING')"
        "   AND EXISTS (SELECT 1 FROM work WHERE request_id = requests.id AND state = 'open')"
        "   ORDER BY turn LIMIT 1)"
        " ORDER BY kind, number LIMIT 1"
    ).fetchone()
    return row


def offer(
    db: sqlite3.Connection,
    request_id: str,
    work: Work,
    number: int = 0,
    first: int = 0,
    last: int = 0,
) -> None:
    """Make work claimable, anew if it was there already."""
    db.execute(
        "INSERT OR REPLACE INTO work (request_id, kind, number, first, last)"
        " VALUES (?, ?, ?, ?, ?)",
        (request_id, work, number, first, last),
    )


def holds(db: sqlite3.Connection, lease: Lease) -> bool:
    """Whether the lease is still held."""
    return db.execute("SELECT 1 FROM work" + HELD, held(lease)).fetchone() is not None


def hold(db: sqlite3.Connection, lease: Lease) -> None:
    """Fence: inside the caller's transaction, make sure that the lease is still held."""
    if not holds(db, lease):
        raise LeaseLost(f"The {lease.work} of {lease.request_id} is no longer held by this worker.")


def finish(db: sqlite3.Connection, lease: Lease) -> None:
    """Mark leased work as done."""
    db.execute(
        "UPDATE work SET state = 'done', token = NULL, worker = NULL, expires = NULL,"
        " trying = NULL" + HELD,
        held(lease),
    )


def take_back(db: sqlite3.Connection, lost: LostLease, verdict: Verdict, *, now: float) -> bool:
    """Offer lost work again and count the loss; False if it was renewed or taken back meanwhile."""
    changed = db.execute(
        f"UPDATE work SET losses = losses + 1, alone = ?, {OPEN}{HELD} AND expires < ?",
        (verdict.alone, *held(lost.lease), now),
    ).rowcount
    if changed and lost.trying is not None:
        db.execute(
            "UPDATE images SET strikes = strikes + 1 WHERE request_id = ? AND sequence = ?",
            (lost.lease.request_id, lost.trying),
        )
    return bool(changed)


def held(lease: Lease) -> tuple[str, str, int, str]:
    """The parameters of the ``HELD`` clause."""
    return lease.request_id, lease.work, lease.number, lease.token

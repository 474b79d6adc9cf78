"""Who holds which work: claims, losses and fencing, inside a caller's transaction."""

from __future__ import annotations

import secrets
import sqlite3

from pixmill.core.errors import LeaseLost
from pixmill.core.leases import Hint, Lease, LostLease, Verdict, Work
from pixmill.stores.sqlite import rows

OPEN = "state = 'open', token = NULL, worker = NULL, expires = NULL, trying = NULL, told = NULL"
DONE = "state = 'done', token = NULL, worker = NULL, expires = NULL, trying = NULL"
HELD = " WHERE request_id = ? AND kind = ? AND number = ? AND state = 'leased' AND token = ?"

IN_TURN = "status IN ('PENDING', 'PROCESSING', 'DELETED')"
NEXT_DUE = (
    "(SELECT due FROM work WHERE request_id = requests.id AND state = 'open'"
    " ORDER BY kind, number LIMIT 1)"
)
"""Requests that may have open work: what an index needs to hear in just these words."""

READY = "(kind <> 'purge' OR due <= :now)"
"""Open work that may be claimed: a purge is offered long before it is due."""

HINTED = (
    " WHERE request_id = :request_id AND kind = :kind AND number = :number AND state = 'open'"
    f" AND {READY}"
)

NEXT = (
    f"{IN_TURN} AND EXISTS (SELECT 1 FROM work WHERE request_id = requests.id AND state = 'open'"
    f" AND {READY}) ORDER BY turn, created_at"
)
"""Requests with work that may be claimed, the one whose turn is longest ago first."""


def claim(db: sqlite3.Connection, worker: str, *, now: float, lease_seconds: float) -> Lease | None:
    """Lease the next open work to a worker; None when there is none."""
    found = next_open(db, now)
    if found is None:
        return None
    hint = Hint(Work(found["kind"]), found["request_id"], found["number"])
    return claim_hinted(db, hint, worker, now=now, lease_seconds=lease_seconds)


def claim_hinted(
    db: sqlite3.Connection, hint: Hint, worker: str, *, now: float, lease_seconds: float
) -> Lease | None:
    """Lease just this work to a worker; None unless it is open and due."""
    row = db.execute(
        "UPDATE work SET state = 'leased', token = :token, worker = :worker, expires = :expires"
        f"{HINTED} RETURNING *",
        {
            **hinted(hint, now),
            "token": secrets.token_hex(16),
            "worker": worker,
            "expires": now + lease_seconds,
        },
    ).fetchone()
    if row is None:
        return None
    db.execute("UPDATE requests SET turn = ? WHERE id = ?", (now, row["request_id"]))
    return rows.to_lease(row)


def can_claim(db: sqlite3.Connection, hint: Hint, now: float) -> bool:
    """Whether this work is open and due."""
    found = db.execute("SELECT 1 FROM work" + HINTED, hinted(hint, now))
    return found.fetchone() is not None


def next_open(db: sqlite3.Connection, now: float) -> sqlite3.Row | None:
    """Find the next work: the request whose turn is longest ago, its kinds in order of urgency."""
    row: sqlite3.Row | None = db.execute(
        "SELECT work.request_id, kind, number FROM requests JOIN work"
        " ON work.request_id = requests.id AND work.state = 'open'"
        f" WHERE requests.id = (SELECT id FROM requests WHERE {NEXT} LIMIT 1)"
        " ORDER BY kind, number LIMIT 1",
        {"now": now},
    ).fetchone()
    return row


def offer(
    db: sqlite3.Connection,
    request_id: str,
    work: Work,
    number: int = 0,
    first: int = 0,
    last: int = 0,
    *,
    now: float,
) -> None:
    """Make work claimable, anew if it was there already."""
    db.execute(
        "INSERT OR REPLACE INTO work (request_id, kind, number, first, last, due)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (request_id, work, number, first, last, now),
    )


def reopen_failed(db: sqlite3.Connection, request_id: str, *, now: float) -> int:
    """Offer the shards that hold failed images again; return how many they are."""
    return db.execute(
        f"UPDATE work SET {OPEN}, losses = 0, alone = 0, due = :now WHERE request_id = :id"
        " AND kind = 'shard' AND EXISTS (SELECT 1 FROM images WHERE request_id = :id"
        " AND status = 'failed' AND sequence BETWEEN work.first AND work.last)",
        {"id": request_id, "now": now},
    ).rowcount


def end_all(db: sqlite3.Connection, request_id: str) -> None:
    """Mark all work of a request as done: every lease on it is lost."""
    db.execute(f"UPDATE work SET {DONE} WHERE request_id = ?", (request_id,))


def drop_all(db: sqlite3.Connection, request_id: str) -> None:
    """Drop all work of a request: every lease on it is lost."""
    db.execute("DELETE FROM work WHERE request_id = ?", (request_id,))


def has_any(db: sqlite3.Connection, request_id: str) -> bool:
    """Whether a request has any work, done or not."""
    found = db.execute("SELECT 1 FROM work WHERE request_id = ? LIMIT 1", (request_id,))
    return found.fetchone() is not None


def longest_wait(db: sqlite3.Connection, now: float) -> float:
    """Seconds for which the next work of some request has been open since its turn or its offer."""
    return _longest(db, f"max(turn, {NEXT_DUE})", now)


def oldest_work(db: sqlite3.Connection, now: float) -> float:
    """Seconds for which the next work of some request has been open since its offer."""
    return _longest(db, NEXT_DUE, now)


def _longest(db: sqlite3.Connection, since: str, now: float) -> float:
    found = db.execute(f"SELECT min({since}) FROM requests WHERE {IN_TURN}").fetchone()[0]
    return 0.0 if found is None else max(0.0, now - found)


def holds(db: sqlite3.Connection, lease: Lease) -> bool:
    """Whether the lease is still held."""
    return db.execute("SELECT 1 FROM work" + HELD, held(lease)).fetchone() is not None


def hold(db: sqlite3.Connection, lease: Lease) -> None:
    """Fence: inside the caller's transaction, make sure that the lease is still held."""
    if not holds(db, lease):
        raise LeaseLost(f"The {lease.work} of {lease.request_id} is no longer held by this worker.")


def finish(db: sqlite3.Connection, lease: Lease) -> None:
    """Mark leased work as done."""
    db.execute(f"UPDATE work SET {DONE}" + HELD, held(lease))


def lost(db: sqlite3.Connection, now: float, limit: int) -> list[LostLease]:
    """Leases that have run out and were not taken back yet."""
    found = db.execute(
        "SELECT work.*, coalesce(images.strikes, 0) AS strikes FROM work"
        " LEFT JOIN images ON images.request_id = work.request_id"
        " AND images.sequence = work.trying"
        " WHERE work.state = 'leased' AND work.expires < ?"
        " ORDER BY work.expires LIMIT ?",
        (now, limit),
    ).fetchall()
    return [
        LostLease(rows.to_lease(row), row["losses"], row["trying"], row["strikes"]) for row in found
    ]


def take_back(db: sqlite3.Connection, lost: LostLease, verdict: Verdict, *, now: float) -> bool:
    """Offer lost work again and count the loss; False if it was renewed or taken back meanwhile."""
    changed = db.execute(
        f"UPDATE work SET losses = losses + 1, alone = ?, due = ?, {OPEN}{HELD} AND expires < ?",
        (verdict.alone, now, *held(lost.lease), now),
    ).rowcount
    if changed and lost.trying is not None:
        db.execute(
            "UPDATE images SET strikes = strikes + 1 WHERE request_id = ? AND sequence = ?",
            (lost.lease.request_id, lost.trying),
        )
    return bool(changed)


def hinted(hint: Hint, now: float) -> dict[str, object]:
    """The parameters of the ``HINTED`` clause."""
    return {
        "request_id": hint.request_id,
        "kind": hint.work,
        "number": hint.number,
        "now": now,
    }


def held(lease: Lease) -> tuple[str, str, int, str]:
    """The parameters of the ``HELD`` clause."""
    return lease.request_id, lease.work, lease.number, lease.token

"""How requests end, are reopened, and vanish, inside a caller's transaction."""

from __future__ import annotations

import sqlite3

from pixmill.core.errors import ImageErrorCode, WrongState
from pixmill.core.leases import Lease, Work
from pixmill.core.model import Request, RequestStatus, final_status
from pixmill.stores.sqlite import deliveries, ingest, leases, outcomes, requests

CANCELLED = "The request was cancelled before this image was done."


def close(db: sqlite3.Connection, lease: Lease, now: float) -> Request:
    """Make a request terminal, with its counters counted anew from the outcomes."""
    processed, failed = outcomes.count(db, lease.request_id)
    _end(db, lease.request_id, final_status(processed), (processed, failed), now)
    leases.finish(db, lease)
    return requests.find(db, lease.request_id)


def fail(db: sqlite3.Connection, lease: Lease, error: str, now: float) -> None:
    """End a request whose ingest or finish cannot be done."""
    if lease.work is Work.INGEST:
        _undo_ingest(db, lease.request_id)  # what it left would be neither done nor failed
    else:
        leases.end_all(db, lease.request_id)
    db.execute("UPDATE requests SET error = ? WHERE id = ?", (error, lease.request_id))
    processed, failed = outcomes.count(db, lease.request_id)
    _end(db, lease.request_id, final_status(processed), (processed, failed), now)


def cancel(db: sqlite3.Connection, request_id: str, now: float) -> Request:
    """Make a request terminal at once; what is pending fails as cancelled."""
    request = requests.find(db, request_id)
    if request.status.terminal:
        raise WrongState(f"The request is {request.status} already: there is nothing to cancel.")
    if request.status is RequestStatus.PENDING:
        _undo_ingest(db, request_id)
    else:
        db.execute(
            "UPDATE images SET status = 'failed', attempts = 0, duration = 0, code = ?,"
            " message = ? WHERE request_id = ? AND status = 'pending'",
            (ImageErrorCode.CANCELLED, CANCELLED, request_id),
        )
        leases.end_all(db, request_id)
    _end(db, request_id, RequestStatus.CANCELLED, outcomes.count(db, request_id), now)
    return requests.find(db, request_id)


def retry(db: sqlite3.Connection, request_id: str, now: float) -> int:
    """Reopen the failed images of a terminal request; return how many references they are."""
    request = requests.find(db, request_id)
    if not request.status.terminal:
        raise WrongState(f"The request is {request.status}: retry when it has finished.")
    if not leases.has_any(db, request_id):
        leases.offer(db, request_id, Work.INGEST, now=now)
        _reopen(db, request_id, RequestStatus.PENDING, open_shards=0, now=now)
        return request.total_images
    _, failed = outcomes.count(db, request_id)
    if failed:
        opened = leases.reopen_failed(db, request_id, now=now)
        outcomes.reopen_failed(db, request_id)
        _reopen(db, request_id, RequestStatus.PROCESSING, open_shards=opened, now=now)
    elif request.error or request.status is RequestStatus.CANCELLED:  # only its finish is missing
        leases.offer(db, request_id, Work.FINISH, now=now)
        _reopen(db, request_id, RequestStatus.PROCESSING, open_shards=0, now=now)
    return failed


def delete(db: sqlite3.Connection, request_id: str, now: float, purge_at: float) -> None:
    """Hide a request, end its work, and offer its purge from a time on."""
    requests.find(db, request_id)
    leases.drop_all(db, request_id)
    deliveries.drop_all(db, request_id)
    leases.offer(db, request_id, Work.PURGE, now=purge_at)
    db.execute("DELETE FROM once WHERE request_id = ?", (request_id,))
    db.execute(
        "UPDATE requests SET status = ?, turn = ?, updated_at = ? WHERE id = ?",
        (requests.DELETED, purge_at, now, request_id),
    )


def forget(db: sqlite3.Connection, request_id: str, limit: int) -> bool:
    """Drop so many images and products; when none is left the request itself, and say so."""
    left = limit
    for table in ("images", "products"):
        left -= db.execute(
            f"DELETE FROM {table} WHERE request_id = :id AND sequence IN"
            f" (SELECT sequence FROM {table} WHERE request_id = :id LIMIT :left)",
            {"id": request_id, "left": left},
        ).rowcount
    if left:
        db.execute("DELETE FROM requests WHERE id = ?", (request_id,))
    return left > 0


def _undo_ingest(db: sqlite3.Connection, request_id: str) -> None:
    """Drop what an ingest made, and all work: by having none, a retry knows that it must ingest."""
    ingest.begin(db, request_id)
    leases.drop_all(db, request_id)


def _end(
    db: sqlite3.Connection,
    request_id: str,
    status: RequestStatus,
    counted: tuple[int, int],
    now: float,
) -> None:
    db.execute(
        "UPDATE requests SET status = ?, processed_images = ?, failed_images = ?,"
        " open_shards = 0, updated_at = ?, finished_at = ? WHERE id = ?",
        (status, *counted, now, now, request_id),
    )
    deliveries.tell_end(db, request_id, now)


def _reopen(
    db: sqlite3.Connection, request_id: str, status: RequestStatus, *, open_shards: int, now: float
) -> None:
    db.execute(
        "UPDATE requests SET status = ?, failed_images = 0, open_shards = ?, error = NULL,"
        " updated_at = ?, finished_at = NULL WHERE id = ?",
        (status, open_shards, now, request_id),
    )

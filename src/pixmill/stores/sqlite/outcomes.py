"""Outcomes: recorded once each, counted, and summed up, inside a caller's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cache

from pixmill.core.errors import ImageErrorCode
from pixmill.core.model import Failure, ImageStatus, Notice, Outcome
from pixmill.ports import Totals
from pixmill.stores.sqlite import deliveries, rows
from pixmill.stores.sqlite.requests import VISIBLE


def record(
    db: sqlite3.Connection, request_id: str, outcomes: Sequence[Outcome], now: float
) -> None:
    """Record outcomes of images that have none yet, and count their references."""
    counted = {ImageStatus.DONE: 0, ImageStatus.FAILED: 0}
    for outcome in outcomes:
        values = rows.outcome_values(outcome)
        row = db.execute(
            _update(tuple(values)),
            {**values, "request_id": request_id, "sequence": outcome.sequence},
        ).fetchone()
        if row:  # else it has an outcome already, and keeps it
            failed = isinstance(outcome.result, Failure)
            counted[ImageStatus.FAILED if failed else ImageStatus.DONE] += row[0]
    db.execute(
        "UPDATE requests SET processed_images = processed_images + ?,"
        " failed_images = failed_images + ?, updated_at = ? WHERE id = ?",
        (counted[ImageStatus.DONE], counted[ImageStatus.FAILED], now, request_id),
    )
    deliveries.tell_progress(db, request_id, sum(counted.values()), now)


@cache
def _update(names: tuple[str, ...]) -> str:
    return (
        f"UPDATE images SET {', '.join(f'{name} = :{name}' for name in names)}"
        " WHERE request_id = :request_id AND sequence = :sequence AND status = 'pending'"
        " RETURNING reference_count"
    )


def totals(db: sqlite3.Connection, request_id: str) -> Totals:
    """Sum up the outcomes of a request."""
    images, bytes_in, bytes_out, kept, damaged = db.execute(
        "SELECT count(*) FILTER (WHERE status <> 'pending'),"
        " coalesce(sum(bytes_in), 0), coalesce(sum(bytes_out), 0),"
        " count(*) FILTER (WHERE instr(notices, :kept)),"
        " count(*) FILTER (WHERE instr(notices, :damaged))"
        f" FROM images WHERE request_id = :id AND {VISIBLE}",
        {"id": request_id, "kept": Notice.KEPT_ORIGINAL, "damaged": Notice.DAMAGED},
    ).fetchone()
    failures = db.execute(
        "SELECT code, sum(reference_count) FROM images"
        f" WHERE request_id = :id AND status = 'failed' AND {VISIBLE}"
        " GROUP BY code ORDER BY 2 DESC, 1",
        {"id": request_id},
    ).fetchall()
    counted = {ImageErrorCode(code): count for code, count in failures}
    return Totals(images, bytes_in, bytes_out, kept, damaged, counted)


def reopen_failed(db: sqlite3.Connection, request_id: str) -> None:
    """Make the failed images of a request pending again."""
    db.execute(
        "UPDATE images SET status = 'pending', strikes = 0, attempts = NULL, duration = NULL,"
        " code = NULL, message = NULL WHERE request_id = ? AND status = 'failed'",
        (request_id,),
    )


def count(db: sqlite3.Connection, request_id: str) -> tuple[int, int]:
    """Count the references of done and of failed images anew."""
    done, failed = db.execute(
        "SELECT coalesce(sum(reference_count) FILTER (WHERE status = 'done'), 0),"
        " coalesce(sum(reference_count) FILTER (WHERE status = 'failed'), 0)"
        " FROM images WHERE request_id = ?",
        (request_id,),
    ).fetchone()
    return done, failed

"""What workers are told of through a broker: a window on what is next, and what of it is new."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from pixmill.core import leases as work_limits
from pixmill.core import webhooks as webhook_limits
from pixmill.core.leases import Hint, Work
from pixmill.stores.sqlite.leases import NEXT


def untold_work(db: sqlite3.Connection, now: float, told_before: float) -> list[Hint]:
    """The next work, of the next requests, that nobody was told of, or not since then."""
    in_turn = db.execute(
        f"SELECT id FROM requests WHERE {NEXT} LIMIT {work_limits.MOST_REQUESTS}", {"now": now}
    ).fetchall()
    return [hint for row in in_turn for hint in _untold_of_request(db, row["id"], told_before)]


def tell_of_work(db: sqlite3.Connection, hints: Sequence[Hint], now: float) -> None:
    """Note that workers are told of work."""
    db.executemany(
        "UPDATE work SET told = ? WHERE request_id = ? AND kind = ? AND number = ?",
        ((now, hint.request_id, hint.work, hint.number) for hint in hints),
    )


def untold_deliveries(db: sqlite3.Connection, now: float, told_before: float) -> list[str]:
    """The first due deliveries to the first endpoints that nobody was told of, or not since."""
    endpoints = db.execute(
        f"SELECT endpoint FROM endpoints WHERE due <= ? ORDER BY due"
        f" LIMIT {webhook_limits.MOST_ENDPOINTS}",
        (now,),
    ).fetchall()
    return [
        delivery_id
        for row in endpoints
        for delivery_id in _untold_to_endpoint(db, row["endpoint"], now, told_before)
    ]


def tell_of_deliveries(db: sqlite3.Connection, ids: Sequence[str], now: float) -> None:
    """Note that workers are told of deliveries."""
    db.executemany(
        "UPDATE deliveries SET told = ? WHERE id = ?", ((now, delivery_id) for delivery_id in ids)
    )


def _untold_of_request(db: sqlite3.Connection, request_id: str, told_before: float) -> list[Hint]:
    """What was told of and is still open keeps its place: so no more is told of meanwhile."""
    window = db.execute(
        "SELECT kind, number, told FROM work WHERE request_id = ? AND state = 'open'"
        f" ORDER BY kind, number LIMIT {work_limits.MOST_TOLD}",
        (request_id,),
    ).fetchall()
    return [
        Hint(Work(row["kind"]), request_id, row["number"])
        for row in window
        if row["told"] is None or row["told"] < told_before
    ]


def _untold_to_endpoint(
    db: sqlite3.Connection, endpoint: str, now: float, told_before: float
) -> list[str]:
    """One that is due since it was told of was held meanwhile, and its lease ran out."""
    window = db.execute(
        "SELECT id, due, told FROM deliveries WHERE state = 'pending' AND endpoint = ?"
        f" AND due <= ? ORDER BY due, number LIMIT {webhook_limits.MOST_TOLD}",
        (endpoint, now),
    ).fetchall()
    return [
        row["id"]
        for row in window
        if row["told"] is None or row["told"] < max(row["due"], told_before)
    ]

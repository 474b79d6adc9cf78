"""Deliveries: made with what they tell of, held, tried, inside a caller's transaction."""

from __future__ import annotations

import secrets
import sqlite3
from base64 import b32encode
from collections.abc import Collection

from pixmill.core.errors import LeaseLost, NotFound
from pixmill.core.events import Event, steps_forward
from pixmill.core.webhooks import ENDINGS, Attempt, Delivery, DeliveryState, endpoint_of
from pixmill.stores.sqlite import requests, rows

MOST_ATTEMPTS = 100
"""How many attempts of a delivery are kept, the last ones."""

FREE = "token = NULL, worker = NULL, replay = 0, told = NULL"
HELD = " WHERE id = :id AND token = :token"
DUE = " WHERE id = :id AND state = 'pending' AND due <= :now"


def tell(db: sqlite3.Connection, request_id: str, event: Event, now: float) -> None:
    """Send an event off, if the request asked for it, with the counts of this moment."""
    row = db.execute(
        "SELECT status, processed_images, failed_images, webhook_url, webhook_events"
        " FROM requests WHERE id = ?",
        (request_id,),
    ).fetchone()
    if row["webhook_url"] is None or event not in row["webhook_events"].split():
        return
    endpoint = endpoint_of(row["webhook_url"])
    db.execute(
        "INSERT INTO deliveries (id, request_id, event, url, endpoint, created_at, status,"
        " processed_images, failed_images, next_at, due) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            _new_id(),
            request_id,
            event,
            row["webhook_url"],
            endpoint,
            now,
            row["status"],
            row["processed_images"],
            row["failed_images"],
            now,
            now,
        ),
    )
    _set_due(db, endpoint)


def tell_progress(db: sqlite3.Connection, request_id: str, settled: int, now: float) -> None:
    """Tell of progress if the last ``settled`` references passed a step that is worth it."""
    after, total = db.execute(
        "SELECT processed_images + failed_images, total_images FROM requests WHERE id = ?",
        (request_id,),
    ).fetchone()
    if steps_forward(after - settled, after, total):
        tell(db, request_id, Event.PROGRESS, now)


def tell_end(db: sqlite3.Connection, request_id: str, now: float) -> None:
    """Tell that a request has become terminal."""
    request = requests.find(db, request_id)
    tell(db, request_id, ENDINGS[request.status], now)


def due_endpoint(db: sqlite3.Connection, busy: Collection[str], now: float) -> str | None:
    """The endpoint, none of the busy ones, whose first delivery is due longest."""
    row = db.execute(
        "SELECT endpoint FROM endpoints WHERE due <= ?"
        f" AND endpoint NOT IN ({', '.join('?' * len(busy))}) ORDER BY due LIMIT 1",
        (now, *busy),
    ).fetchone()
    return row["endpoint"] if row else None


def claim(
    db: sqlite3.Connection, worker: str, busy: Collection[str], *, now: float, lease_seconds: float
) -> Delivery | None:
    """Hold the delivery that is due longest; None when nothing is due."""
    endpoint = due_endpoint(db, busy, now)
    if endpoint is None:
        return None
    first = db.execute(
        "SELECT id FROM deliveries WHERE state = 'pending' AND endpoint = ?"
        " ORDER BY due, number LIMIT 1",
        (endpoint,),
    ).fetchone()
    return claim_hinted(db, first["id"], worker, now=now, lease_seconds=lease_seconds)


def claim_hinted(
    db: sqlite3.Connection, delivery_id: str, worker: str, *, now: float, lease_seconds: float
) -> Delivery | None:
    """Hold just this delivery; None unless it is due."""
    row = db.execute(
        f"UPDATE deliveries SET token = :token, worker = :worker, due = :until, replay = 0{DUE}"
        " RETURNING *",
        {
            "token": secrets.token_hex(16),
            "worker": worker,
            "until": now + lease_seconds,
            "id": delivery_id,
            "now": now,
        },
    ).fetchone()
    if row is None:
        return None
    _set_due(db, row["endpoint"])
    return rows.to_delivery(row)


def is_due(db: sqlite3.Connection, delivery_id: str, now: float) -> bool:
    """Whether a delivery waits for being tried, and nobody holds it."""
    found = db.execute("SELECT 1 FROM deliveries" + DUE, {"id": delivery_id, "now": now})
    return found.fetchone() is not None


def expire(db: sqlite3.Connection, worker: str | None) -> None:
    """Let a dead worker's deliveries, or everybody's, be due again as they were."""
    which = "token IS NOT NULL" + (" AND worker = :worker" if worker is not None else "")
    lost = db.execute(
        f"UPDATE deliveries SET {FREE}, due = next_at WHERE {which} RETURNING endpoint",
        {"worker": worker},
    ).fetchall()
    for endpoint in {row["endpoint"] for row in lost}:
        _set_due(db, endpoint)


def release(db: sqlite3.Connection, delivery: Delivery) -> None:
    """Let a delivery be due again as it was; nothing happens if it is no longer held."""
    changed = db.execute(
        f"UPDATE deliveries SET {FREE}, due = next_at" + HELD,
        {"id": delivery.id, "token": delivery.token},
    ).rowcount
    if changed:
        _set_due(db, delivery.endpoint)


def keep_body(db: sqlite3.Connection, delivery: Delivery, body: str) -> None:
    """Keep what is sent; raises LeaseLost."""
    changed = db.execute(
        "UPDATE deliveries SET body = :body" + HELD,
        {"body": body, "id": delivery.id, "token": delivery.token},
    ).rowcount
    _check_held(changed, delivery)


def record(
    db: sqlite3.Connection,
    delivery: Delivery,
    attempt: Attempt,
    state: DeliveryState,
    next_at: float | None,
) -> None:
    """Record an attempt and let go of the delivery; raises LeaseLost.

    If it was replayed meanwhile, it is due since then, whatever came of this attempt.
    """
    changed = db.execute(
        "UPDATE deliveries SET attempts = :number, earlier = iif(replay, :number, earlier),"
        " state = iif(replay, 'pending', :state), next_at = iif(replay, next_at, :next_at),"
        f" due = iif(replay, next_at, :next_at), {FREE}" + HELD,
        {
            "state": state,
            "number": attempt.number,
            "next_at": next_at,
            "id": delivery.id,
            "token": delivery.token,
        },
    ).rowcount
    _check_held(changed, delivery)
    db.execute(
        "INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            delivery.id,
            attempt.number,
            attempt.at.timestamp(),
            attempt.duration,
            attempt.http_status,
            attempt.error,
            attempt.retry_after,
        ),
    )
    db.execute(
        "DELETE FROM attempts WHERE delivery_id = ? AND number <= ?",
        (delivery.id, attempt.number - MOST_ATTEMPTS),
    )
    _set_due(db, delivery.endpoint)


def replay(db: sqlite3.Connection, delivery_id: str, now: float) -> Delivery:
    """Make a delivery due now, with its schedule begun anew; raises NotFound.

    Who holds it goes on, so that the attempt is recorded; then it is due.
    """
    row = db.execute(
        "UPDATE deliveries SET state = 'pending', earlier = attempts, next_at = :now, told = NULL,"
        " due = iif(token IS NULL, :now, due), replay = (token IS NOT NULL)"
        " WHERE id = :id RETURNING *",
        {"id": delivery_id, "now": now},
    ).fetchone()
    if row is None:
        raise _unknown(delivery_id)
    _set_due(db, row["endpoint"])
    return rows.to_delivery(row)


def find(db: sqlite3.Connection, delivery_id: str) -> Delivery:
    """A delivery; raises NotFound."""
    row = db.execute("SELECT * FROM deliveries WHERE id = ?", (delivery_id,)).fetchone()
    if row is None:
        raise _unknown(delivery_id)
    return rows.to_delivery(row)


def of_request(db: sqlite3.Connection, request_id: str) -> list[Delivery]:
    """The deliveries of a request, oldest first."""
    found = db.execute(
        "SELECT * FROM deliveries WHERE request_id = ? ORDER BY number", (request_id,)
    ).fetchall()
    return [rows.to_delivery(row) for row in found]


def attempts(db: sqlite3.Connection, delivery_id: str) -> list[Attempt]:
    """The attempts of a delivery, oldest first."""
    found = db.execute(
        "SELECT * FROM attempts WHERE delivery_id = ? ORDER BY number", (delivery_id,)
    ).fetchall()
    return [rows.to_attempt(row) for row in found]


def drop_all(db: sqlite3.Connection, request_id: str) -> None:
    """Drop the deliveries of a request: those that are held are lost."""
    dropped = db.execute(
        "DELETE FROM deliveries WHERE request_id = ? RETURNING endpoint", (request_id,)
    ).fetchall()
    for endpoint in {row["endpoint"] for row in dropped}:
        _set_due(db, endpoint)


def _set_due(db: sqlite3.Connection, endpoint: str) -> None:
    """Note when the first delivery to an endpoint is due, after any change of one of them."""
    due = db.execute(
        "SELECT due FROM deliveries WHERE state = 'pending' AND endpoint = ? ORDER BY due LIMIT 1",
        (endpoint,),
    ).fetchone()
    if due is None:
        db.execute("DELETE FROM endpoints WHERE endpoint = ?", (endpoint,))
    else:
        db.execute(
            "INSERT INTO endpoints VALUES (?, ?) ON CONFLICT (endpoint)"
            " DO UPDATE SET due = excluded.due",
            (endpoint, due[0]),
        )


def _check_held(changed: int, delivery: Delivery) -> None:
    if not changed:
        raise LeaseLost(f"The delivery {delivery.id} is no longer held by this worker.")


def _unknown(delivery_id: str) -> NotFound:
    return NotFound(f"There is no delivery {delivery_id!r}.")


def _new_id() -> str:
    """A webhook-id that cannot be guessed: 128 random bits in lower-case base 32."""
    return "msg_" + b32encode(secrets.token_bytes(16)).decode().rstrip("=").lower()

"""The Outbox port on SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from pathlib import Path

from pixmill.core.webhooks import Attempt, Delivery, DeliveryState, Receipt
from pixmill.stores.sqlite import deliveries, hints, rows
from pixmill.stores.sqlite.database import Database

RECEIPT_SECONDS = 30 * 86_400.0
"""How long a receipt is kept: much longer than any sender tries."""

LIVE = "(ends_at IS NULL OR ends_at > :now)"


class SqliteOutbox:
    """Deliveries, receipts and secrets in the store's own file."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path)

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    # --- deliveries -------------------------------------------------------------------------

    def claim_delivery(
        self, worker: str, busy: Collection[str], *, now: float, lease_seconds: float
    ) -> Delivery | None:
        """Take the delivery that is due longest, to none of the ``busy`` endpoints."""
        with self._database.read() as db:
            if deliveries.due_endpoint(db, busy, now) is None:  # who is idle should lock nothing
                return None
        with self._database.write() as db:
            return deliveries.claim(db, worker, busy, now=now, lease_seconds=lease_seconds)

    def claim_hinted(
        self, delivery_id: str, worker: str, *, now: float, lease_seconds: float
    ) -> Delivery | None:
        """Take just this delivery; None unless it is there, pending, due and not held."""
        with self._database.read() as db:
            if not deliveries.is_due(db, delivery_id, now):  # a late hint should lock nothing
                return None
        with self._database.write() as db:
            return deliveries.claim_hinted(
                db, delivery_id, worker, now=now, lease_seconds=lease_seconds
            )

    def take_hints(self, *, now: float, told_before: float) -> list[str]:
        """Return the ids of due deliveries that workers are to be told of, and note it."""
        with self._database.read() as db:
            if not hints.untold_deliveries(db, now, told_before):
                return []
        with self._database.write() as db:
            untold = hints.untold_deliveries(db, now, told_before)
            hints.tell_of_deliveries(db, untold, now)
            return untold

    def keep_body(self, delivery: Delivery, body: str) -> None:
        """Keep what is sent, so that every attempt sends the same. Raises LeaseLost."""
        with self._database.write() as db:
            deliveries.keep_body(db, delivery, body)

    def record_attempt(
        self, delivery: Delivery, attempt: Attempt, state: DeliveryState, *, next_at: float | None
    ) -> None:
        """Record an attempt, and when the next one is due, if any. Raises LeaseLost."""
        with self._database.write() as db:
            deliveries.record(db, delivery, attempt, state, next_at)

    def release_delivery(self, delivery: Delivery) -> None:
        """Hand a delivery back untried: it is due as before. Nothing happens if it is lost."""
        with self._database.write() as db:
            deliveries.release(db, delivery)

    def deliveries(self, request_id: str) -> list[Delivery]:
        """Return the deliveries of a request, oldest first."""
        with self._database.read() as db:
            return deliveries.of_request(db, request_id)

    def attempts(self, delivery_id: str) -> list[Attempt]:
        """Return the attempts of a delivery, oldest first: the last 100."""
        with self._database.read() as db:
            return deliveries.attempts(db, delivery_id)

    def delivery(self, delivery_id: str) -> Delivery:
        """Return a delivery; raises NotFound."""
        with self._database.read() as db:
            return deliveries.find(db, delivery_id)

    def replay(self, delivery_id: str, *, now: float) -> Delivery:
        """Send a delivery again, now, with its schedule begun anew; raises NotFound.

        One that is held is due as soon as its attempt is recorded or its lease lost.
        """
        with self._database.write() as db:
            return deliveries.replay(db, delivery_id, now)

    # --- receipts ---------------------------------------------------------------------------

    def add_receipt(self, receipt: Receipt) -> bool:
        """Keep a received message, once for each ``webhook-id``; False if it is there already."""
        at = receipt.received_at.timestamp()
        with self._database.write() as db:
            db.execute("DELETE FROM receipts WHERE received_at < ?", (at - RECEIPT_SECONDS,))
            added = db.execute(
                "INSERT INTO receipts VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (receipt.webhook_id, receipt.event, receipt.request_id, at, receipt.body),
            )
            return added.rowcount == 1

    def receipts(self, *, before: Receipt | None = None, limit: int = 100) -> list[Receipt]:
        """Return received messages, newest first: those that came before ``before``."""
        older = "WHERE (received_at, webhook_id) < (:at, :id)" if before else ""
        with self._database.read() as db:
            found = db.execute(
                f"SELECT * FROM receipts {older}"
                " ORDER BY received_at DESC, webhook_id DESC LIMIT :limit",
                {
                    "at": before and before.received_at.timestamp(),
                    "id": before and before.webhook_id,
                    "limit": limit,
                },
            ).fetchall()
        return [rows.to_receipt(row) for row in found]

    # --- secrets ----------------------------------------------------------------------------

    def secrets(self, *, now: float) -> list[bytes]:
        """Return the secrets that are live, newest first."""
        with self._database.read() as db:
            return _live(db, now)

    def first_secret(self, secret: bytes, *, now: float) -> list[bytes]:
        """Keep a secret unless one is live; return those that are, newest first."""
        with self._database.write() as db:
            if not _live(db, now):
                db.execute("INSERT INTO webhook_secrets (secret) VALUES (?)", (secret,))
            return _live(db, now)

    def add_secret(self, secret: bytes, *, now: float, others_until: float) -> None:
        """Make a secret the newest; the others stay live until a moment, so that both verify."""
        with self._database.write() as db:
            db.execute(f"DELETE FROM webhook_secrets WHERE NOT {LIVE}", {"now": now})
            db.execute(
                "UPDATE webhook_secrets SET ends_at = min(coalesce(ends_at, :until), :until)",
                {"until": others_until},
            )
            db.execute("INSERT INTO webhook_secrets (secret) VALUES (?)", (secret,))


def _live(db: sqlite3.Connection, now: float) -> list[bytes]:
    found = db.execute(
        f"SELECT secret FROM webhook_secrets WHERE {LIVE} ORDER BY number DESC", {"now": now}
    )
    return [row["secret"] for row in found.fetchall()]

"""The Outbox port on MongoDB."""

from __future__ import annotations

from collections.abc import Collection

from pymongo.errors import DuplicateKeyError

from pixmill.core.webhooks import Attempt, Delivery, DeliveryState, Receipt
from pixmill.stores.mongo import deliveries, hints, messages
from pixmill.stores.mongo.database import Database, Document, Step, collided

RECEIPT_SECONDS = 30 * 86_400.0
"""How long a receipt is kept: much longer than any sender tries."""


class MongoOutbox:
    """Deliveries, receipts and secrets where the store is."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)

    def close(self) -> None:
        """Let go of the connections."""
        self._database.close()

    # --- deliveries -------------------------------------------------------------------------

    def claim_delivery(
        self, worker: str, busy: Collection[str], *, now: float, lease_seconds: float
    ) -> Delivery | None:
        """Take the delivery that is due longest, to none of the ``busy`` endpoints."""
        with self._database.using() as step:
            if not deliveries.any_due(step, busy, now):  # who is idle should change nothing
                return None
        return self._database.write(
            lambda step: deliveries.claim(step, worker, busy, now=now, lease_seconds=lease_seconds)
        )

    def claim_hinted(
        self, delivery_id: str, worker: str, *, now: float, lease_seconds: float
    ) -> Delivery | None:
        """Take just this delivery; None unless it is there, pending, due and not held."""
        with self._database.using() as step:
            if not deliveries.is_due(step, delivery_id, now):  # nor does a late hint
                return None
        return self._database.write(
            lambda step: deliveries.claim_hinted(
                step, delivery_id, worker, now=now, lease_seconds=lease_seconds
            )
        )

    def take_hints(self, *, now: float, told_before: float) -> list[str]:
        """Return the ids of due deliveries that workers are to be told of, and note it."""
        with self._database.using() as step:
            return hints.take_deliveries(step, now, told_before)

    def keep_body(self, delivery: Delivery, body: str) -> None:
        """Keep what is sent, so that every attempt sends the same. Raises LeaseLost."""
        with self._database.using() as step:
            deliveries.keep_body(step, delivery, body)

    def record_attempt(
        self, delivery: Delivery, attempt: Attempt, state: DeliveryState, *, next_at: float | None
    ) -> None:
        """Record an attempt, and when the next one is due, if any. Raises LeaseLost."""
        self._database.write(
            lambda step: deliveries.record(step, delivery, attempt, state, next_at)
        )

    def release_delivery(self, delivery: Delivery) -> None:
        """Hand a delivery back untried: it is due as before. Nothing happens if it is lost."""
        self._database.write(lambda step: deliveries.release(step, delivery))

    def deliveries(self, request_id: str) -> list[Delivery]:
        """Return the deliveries of a request, oldest first."""
        with self._database.using() as step:
            return deliveries.of_request(step, request_id)

    def attempts(self, delivery_id: str) -> list[Attempt]:
        """Return the attempts of a delivery, oldest first: the last 100."""
        with self._database.using() as step:
            return deliveries.attempts(step, delivery_id)

    def delivery(self, delivery_id: str) -> Delivery:
        """Return a delivery; raises NotFound."""
        with self._database.using() as step:
            return deliveries.find(step, delivery_id)

    def replay(self, delivery_id: str, *, now: float) -> Delivery:
        """Send a delivery again, now, with its schedule begun anew; raises NotFound.

        One that is held is due as soon as its attempt is recorded or its lease lost.
        """
        return self._database.write(lambda step: deliveries.replay(step, delivery_id, now))

    # --- receipts ---------------------------------------------------------------------------

    def add_receipt(self, receipt: Receipt) -> bool:
        """Keep a received message, once for each ``webhook-id``; False if it is there already."""
        kept_since = receipt.received_at.timestamp() - RECEIPT_SECONDS
        with self._database.using() as step:
            step.receipts.delete_many({"received_at": {"$lt": kept_since}})
            try:
                step.receipts.insert_one(messages.from_receipt(receipt))
            except DuplicateKeyError:
                return False
            return True

    def receipts(self, *, before: Receipt | None = None, limit: int = 100) -> list[Receipt]:
        """Return received messages, newest first: those that came before ``before``."""
        wanted: Document = {}
        if before is not None:
            at = before.received_at.timestamp()
            earlier = [{"received_at": {"$lt": at}}, {"_id": {"$lt": before.webhook_id}}]
            wanted = {"received_at": {"$lte": at}, "$or": earlier}
        with self._database.using() as step:
            found = step.receipts.find(wanted, limit=limit)
            in_order = found.sort([("received_at", -1), ("_id", -1)])
            return [messages.to_receipt(each) for each in in_order]

    # --- secrets ----------------------------------------------------------------------------

    def secrets(self, *, now: float) -> list[bytes]:
        """Return the secrets that are live, newest first."""
        with self._database.using() as step:
            return _texts(_live(_secrets(step), now))

    def first_secret(self, secret: bytes, *, now: float) -> list[bytes]:
        """Keep a secret unless one is live; return those that are, newest first."""

        def change(step: Step) -> list[bytes]:
            there = _secrets(step)
            if live := _live(there, now):
                return _texts(live)
            _keep(step, there, secret)
            return [secret]

        return self._database.write(change)

    def add_secret(self, secret: bytes, *, now: float, others_until: float) -> None:
        """Make a secret the newest; the others stay live until a moment, so that both verify."""

        def change(step: Step) -> None:
            there = _secrets(step)
            over = {
                "_id": {"$in": [each["_id"] for each in there if each not in _live(there, now)]}
            }
            step.secrets.delete_many(over, session=step.session)
            _keep(step, there, secret)
            others = {"_id": {"$in": [each["_id"] for each in _live(there, now)]}}
            until = {"$min": [{"$ifNull": ["$ends_at", others_until]}, others_until]}
            step.secrets.update_many(others, [{"$set": {"ends_at": until}}], session=step.session)

        self._database.write(change)


def _secrets(step: Step) -> list[Document]:
    """All secrets, newest first."""
    return list(step.secrets.find(session=step.session).sort("_id", -1))


def _live(there: list[Document], now: float) -> list[Document]:
    return [each for each in there if each["ends_at"] is None or each["ends_at"] > now]


def _texts(there: list[Document]) -> list[bytes]:
    return [bytes(each["secret"]) for each in there]


def _keep(step: Step, there: list[Document], secret: bytes) -> None:
    """Keep a secret as the newest: of those who do so at once, the number lets one through."""
    number = there[0]["_id"] + 1 if there else 1
    try:
        made = {"_id": number, "secret": secret, "ends_at": None}
        step.secrets.insert_one(made, session=step.session)
    except DuplicateKeyError:
        raise collided("make secrets") from None

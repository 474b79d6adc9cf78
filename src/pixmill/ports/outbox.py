"""What the steps need of an outbox: webhooks on their way, received ones, secrets."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from pixmill.core.webhooks import Attempt, Delivery, DeliveryState, Receipt


class Outbox(Protocol):
    """Webhooks on their way, those received, and the secrets that sign them. Raises like Store.

    The store puts deliveries in together with the change that they tell of.
    """

    def claim_delivery(
        self, worker: str, busy: Collection[str], *, now: float, lease_seconds: float
    ) -> Delivery | None:
        """Take the delivery that is due longest, to none of the ``busy`` endpoints.

        Who does not record its attempt in time loses it: then it is due again. It is so at once
        when the store is told that the worker is dead (``Store.expire_leases``).
        """

    def claim_hinted(
        self, delivery_id: str, worker: str, *, now: float, lease_seconds: float
    ) -> Delivery | None:
        """Take just this delivery; None unless it is there, pending, due and not held."""

    def take_hints(self, *, now: float, told_before: float) -> list[str]:
        """Return the ids of due deliveries that workers are to be told of, and note that they are.

        The first two of each endpoint (of 32 endpoints), those that are due longest. One that was
        told of before ``told_before``, or before it was last due, is told of again.
        """

    def keep_body(self, delivery: Delivery, body: str) -> None:
        """Keep what is sent, so that every attempt sends the same. Raises LeaseLost."""

    def record_attempt(
        self, delivery: Delivery, attempt: Attempt, state: DeliveryState, *, next_at: float | None
    ) -> None:
        """Record an attempt, and when the next one is due, if any. Raises LeaseLost."""

    def release_delivery(self, delivery: Delivery) -> None:
        """Hand a delivery back untried: it is due as before. Nothing happens if it is lost."""

    def deliveries(self, request_id: str) -> list[Delivery]:
        """Return the deliveries of a request, oldest first."""

    def attempts(self, delivery_id: str) -> list[Attempt]:
        """Return the attempts of a delivery, oldest first: the last 100."""

    def delivery(self, delivery_id: str) -> Delivery:
        """Return a delivery; raises NotFound."""

    def replay(self, delivery_id: str, *, now: float) -> Delivery:
        """Send a delivery again, now, with its schedule begun anew; raises NotFound.

        One that is held is due as soon as its attempt is recorded or its lease lost.
        """

    def add_receipt(self, receipt: Receipt) -> bool:
        """Keep a received message, once for each ``webhook-id``; False if it is there already.

        Those that came 30 days before it are forgotten.
        """

    def receipts(self, *, before: Receipt | None = None, limit: int = 100) -> list[Receipt]:
        """Return received messages, newest first: those that came before ``before``."""

    def secrets(self, *, now: float) -> list[bytes]:
        """Return the secrets that are live, newest first."""

    def first_secret(self, secret: bytes, *, now: float) -> list[bytes]:
        """Keep a secret unless one is live; return those that are, newest first."""

    def add_secret(self, secret: bytes, *, now: float, others_until: float) -> None:
        """Make a secret the newest; the others stay live until a moment, so that both verify."""

    def close(self) -> None:
        """Let go of connections and files."""

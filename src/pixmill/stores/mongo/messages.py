"""Documents of webhooks, to and from the model."""

from __future__ import annotations

from pixmill.core.events import Event
from pixmill.core.model import RequestStatus
from pixmill.core.webhooks import Attempt, Delivery, DeliveryState, Receipt, endpoint_of
from pixmill.stores.mongo.documents import Document, moment, moment_or_none, record_id


def new_delivery(
    delivery_id: str, number: int, request: Document, event: Event, now: float
) -> Document:
    """An event of a request as a new document, with the counts of this moment."""
    return {
        "_id": delivery_id,
        "request": request["_id"],
        "number": number,
        "event": str(event),
        "url": request["webhook_url"],
        "endpoint": endpoint_of(request["webhook_url"]),
        "created_at": now,
        "status": request["status"],
        "processed_images": request["processed_images"],
        "failed_images": request["failed_images"],
        "state": str(DeliveryState.PENDING),
        "attempts": 0,
        "earlier": 0,
        "next_at": now,
        "due": now,
    }


def to_delivery(found: Document) -> Delivery:
    """A document as a delivery."""
    return Delivery(
        id=found["_id"],
        request_id=found["request"],
        event=Event(found["event"]),
        url=found["url"],
        created_at=moment(found["created_at"]),
        status=RequestStatus(found["status"]),
        processed_images=found["processed_images"],
        failed_images=found["failed_images"],
        state=DeliveryState(found["state"]),
        attempts=found["attempts"],
        earlier=found["earlier"],
        next_attempt_at=moment_or_none(found["next_at"]),
        body=found.get("body"),
        token=found.get("token", ""),
    )


def from_attempt(delivery: Delivery, attempt: Attempt) -> Document:
    """An attempt as a new document."""
    return {
        "_id": record_id(delivery.id, attempt.number),
        "request": delivery.request_id,
        "number": attempt.number,
        "at": attempt.at.timestamp(),
        "duration": attempt.duration,
        "http_status": attempt.http_status,
        "error": attempt.error,
        "retry_after": attempt.retry_after,
    }


def to_attempt(found: Document) -> Attempt:
    """A document as an attempt."""
    return Attempt(
        number=found["number"],
        at=moment(found["at"]),
        duration=found["duration"],
        http_status=found["http_status"],
        error=found["error"],
        retry_after=found["retry_after"],
    )


def from_receipt(receipt: Receipt) -> Document:
    """A receipt as a new document."""
    return {
        "_id": receipt.webhook_id,
        "event": receipt.event,
        "request": receipt.request_id,
        "received_at": receipt.received_at.timestamp(),
        "body": receipt.body,
    }


def to_receipt(found: Document) -> Receipt:
    """A document as a receipt."""
    return Receipt(
        webhook_id=found["_id"],
        event=found["event"],
        request_id=found["request"],
        received_at=moment(found["received_at"]),
        body=found["body"],
    )

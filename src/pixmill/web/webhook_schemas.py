"""What goes over the wire about webhooks: the messages themselves, their deliveries, receipts."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field, ValidationError

from pixmill.core.events import Event
from pixmill.core.model import RequestStatus
from pixmill.core.webhooks import DeliveryState
from pixmill.web.problems import CallRefused, Code
from pixmill.web.schemas import Cursor, ProductStatus, RequestId, ResultTotals, Schema

LONGEST_URL = 4096

WebhookId = Annotated[
    str,
    Field(
        description="The `webhook-id`: the same at every attempt, so that receivers can tell what"
        " they have seen.",
        examples=["msg_7hq2m4zv5c3xkd6t2wbe7ynaro"],
    ),
]
_Url = Annotated[str, Field(max_length=LONGEST_URL)]
_Count = Annotated[int, Field(ge=0)]


class WebhookMessage(Schema):
    """The body of a webhook: one event of one request. Counts are of image references."""

    type: Event
    timestamp: datetime = Field(description="When it happened, not when it was sent.")
    request_id: Annotated[RequestId, Field(min_length=1, max_length=100)]
    status: RequestStatus
    total_images: _Count
    processed_images: _Count = Field(description="Successes at that moment.")
    failed_images: _Count = Field(description="Failures at that moment.")
    stats: ResultTotals = Field(
        description="Of the moment of the first attempt, which may be later than the counts."
    )
    products: tuple[ProductStatus, ...] = Field(
        description="All products, when the request has ended; empty before."
    )
    products_truncated: bool = Field(
        description="Whether the products were left out, because the body would have passed 20 kB,"
        " or because they were no longer those of the event: page through them at `statusUrl`."
    )
    status_url: _Url
    download_url: _Url


class DeliveryAttempt(Schema):
    """A delivery that was sent once. Either there was an answer, or there is an error."""

    number: int = Field(description="From 1, going on after a replay.")
    at: datetime
    duration_seconds: float
    http_status: int | None = Field(description="Of the answer; only 2xx is success.")
    error: str | None = Field(description="Why there was no answer.")


class WebhookDelivery(Schema):
    """One event on its way to one endpoint."""

    delivery_id: WebhookId
    request_id: RequestId
    event: Event
    url: str = Field(
        description="Where it goes: scheme, host and port. Path and query may hold a token, and are"
        " not shown."
    )
    state: DeliveryState = Field(
        description="pending: will be sent; delivered: was taken; failed: given up."
    )
    attempts_made: int
    next_attempt_at: datetime | None = Field(description="null once it was taken or given up.")
    created_at: datetime = Field(description="When the event happened.")
    attempts: tuple[DeliveryAttempt, ...] = Field(description="Oldest first: the last 100.")


class DeliveryLog(Schema):
    """The deliveries of a request, oldest first."""

    request_id: RequestId
    deliveries: tuple[WebhookDelivery, ...]


class WebhookReceipt(Schema):
    """A message that arrived here and was rightly signed."""

    webhook_id: WebhookId
    received_at: datetime
    message: WebhookMessage


class ReceiptPage(Schema):
    """Receipts, newest first."""

    receipts: tuple[WebhookReceipt, ...]
    next_cursor: Cursor


def parse_message(body: bytes) -> WebhookMessage:
    """Read the body of a message. Raises CallRefused, naming what is wrong."""
    try:
        return WebhookMessage.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        where = f" at {place!r}" if place else ""
        raise CallRefused(
            Code.INVALID_CALL,
            f"The body is no message of pixmill{where}: {first['msg'].rstrip('.')}.",
        ) from None

"""An example of each body that the service answers with, made of the bodies themselves."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from pixmill.core.errors import ImageErrorCode
from pixmill.core.events import Event
from pixmill.core.model import ImageStatus, RequestStatus
from pixmill.core.webhooks import DeliveryState
from pixmill.web.schemas import (
    Health,
    ImageResult,
    ProductStatus,
    RequestDetail,
    RequestPage,
    RequestSummary,
    ResultPage,
    ResultTotals,
    RetryAccepted,
    Schema,
    SheetProblem,
    UploadAccepted,
)
from pixmill.web.webhook_schemas import (
    DeliveryAttempt,
    DeliveryLog,
    ReceiptPage,
    WebhookDelivery,
    WebhookMessage,
    WebhookReceipt,
)

REQUEST = "req_4c7t2yqm5ghx3vd6w7ze2kbnoa"
OUTPUT = f"https://cdn.example/images/{REQUEST}/0000001.jpg"

_SUMMARY: dict[str, Any] = {
    "request_id": REQUEST,
    "status": RequestStatus.COMPLETED,
    "processed_images": 1,
    "failed_images": 1,
    "total_images": 2,
    "completion_percentage": 100.0,
    "updated_at": datetime(2026, 11, 22, 6, 26, 44, tzinfo=UTC),
    "filename": "products.csv",
    "total_products": 1,
    "error_message": None,
    "created_at": datetime(2026, 11, 22, 6, 26, 40, tzinfo=UTC),
    "finished_at": datetime(2026, 11, 22, 6, 26, 44, tzinfo=UTC),
}
_PRODUCTS = (
    ProductStatus(
        serial_number="1",
        product_name="Mug",
        input_image_urls=("https://shop.example/mug.jpg", "https://shop.example/gone.jpg"),
        output_image_urls=(OUTPUT, None),
    ),
)
_TOTALS = ResultTotals(
    images=2,
    bytes_in=310_000,
    bytes_out=62_000,
    bytes_saved=248_000,
    percent_saved=80.0,
    images_per_second=0.5,
    errors={ImageErrorCode.HTTP_ERROR: 1},
)
_WEBHOOK_ID = "msg_7hq2m4zv5c3xkd6t2wbe7ynaro"
_MESSAGE = WebhookMessage(
    type=Event.COMPLETED,
    timestamp=_SUMMARY["finished_at"],
    request_id=REQUEST,
    status=RequestStatus.COMPLETED,
    total_images=2,
    processed_images=1,
    failed_images=1,
    stats=_TOTALS,
    products=_PRODUCTS,
    products_truncated=False,
    status_url=f"https://pixmill.example/api/status/{REQUEST}",
    download_url=f"https://pixmill.example/api/download/{REQUEST}",
)
_DELIVERY = WebhookDelivery(
    delivery_id=_WEBHOOK_ID,
    request_id=REQUEST,
    event=Event.COMPLETED,
    url="https://shop.example",
    state=DeliveryState.PENDING,
    attempts_made=1,
    next_attempt_at=datetime(2026, 11, 22, 6, 26, 50, tzinfo=UTC),
    created_at=_SUMMARY["finished_at"],
    attempts=(
        DeliveryAttempt(
            number=1,
            at=datetime(2026, 11, 22, 6, 26, 45, tzinfo=UTC),
            duration_seconds=0.12,
            http_status=503,
            error=None,
        ),
    ),
)
_BODIES: tuple[Schema, ...] = (
    UploadAccepted(
        request_id=REQUEST,
        total_images=2,
        total_products=1,
        skipped_rows=0,
        warnings=(
            SheetProblem(
                line=None,
                column=None,
                code="encoding_guessed",
                message="The file does not say its encoding; it was read as cp1252.",
            ),
        ),
    ),
    RequestSummary(**_SUMMARY),
    RequestPage(requests=(RequestSummary(**_SUMMARY),), next_cursor=None),
    RequestDetail(
        **_SUMMARY,
        products=_PRODUCTS,
        next_cursor=None,
    ),
    ResultPage(
        request_id=REQUEST,
        status=RequestStatus.COMPLETED,
        totals=_TOTALS,
        images=(
            ImageResult(
                sequence=1,
                url="https://shop.example/mug.jpg",
                references=1,
                status=ImageStatus.DONE,
                output_url=OUTPUT,
                format="jpeg",
                bytes_in=310_000,
                bytes_out=62_000,
                width=1600,
                height=1000,
                source_format="png",
                source_width=1600,
                source_height=1000,
                notices=(),
                attempts=1,
                duration_seconds=0.8,
                error_code=None,
                error_message=None,
            ),
        ),
        next_cursor="bjE",
    ),
    RetryAccepted(request_id=REQUEST, status=RequestStatus.PROCESSING, retried_images=1),
    _MESSAGE,
    _DELIVERY,
    DeliveryLog(request_id=REQUEST, deliveries=(_DELIVERY,)),
    ReceiptPage(
        receipts=(
            WebhookReceipt(
                webhook_id=_WEBHOOK_ID,
                received_at=datetime(2026, 11, 22, 6, 26, 45, tzinfo=UTC),
                message=_MESSAGE,
            ),
        ),
        next_cursor=None,
    ),
    Health(status="ok", checks=dict.fromkeys(("store", "access", "blobs", "engine"), "ok")),
)

EXAMPLES: Mapping[str, Any] = MappingProxyType(
    {type(body).__name__: body.model_dump(mode="json", by_alias=True) for body in _BODIES}
)
"""The example of each body by the name of its schema."""

"""What a webhook says: the body of an event, with the products as long as it stays small."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from pixmill.core.model import Product, Request, Stored
from pixmill.core.webhooks import ENDINGS, Delivery
from pixmill.ports import Store, Totals
from pixmill.steps.finish import UrlOf, images_of, pages_of_products

MOST_BYTES = 20_000
"""A longer body goes without its products; whoever wants them asks the service."""


def event_body(store: Store, delivery: Delivery, url_of: UrlOf, service_url: str) -> str:
    """The JSON that is sent. Raises NotFound if the request is deleted."""
    request = store.request(delivery.request_id)
    body: dict[str, Any] = {
        "type": delivery.event,
        "timestamp": delivery.created_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "requestId": request.id,
        "status": delivery.status,
        "totalImages": request.total_images,
        "processedImages": delivery.processed_images,
        "failedImages": delivery.failed_images,
        "stats": _stats(store.totals(request.id), request, delivery.created_at),
        "products": [],
        "productsTruncated": False,
        "statusUrl": f"{service_url}/api/status/{request.id}",
        "downloadUrl": f"{service_url}/api/download/{request.id}",
    }
    if delivery.event in ENDINGS.values():
        room = MOST_BYTES - len(_json(body).encode()) + 1  # the first needs no comma
        products = None if _went_on(request, delivery) else _products(store, request, url_of, room)
        body["products"], body["productsTruncated"] = products or [], products is None
    return _json(body)


def _went_on(request: Request, delivery: Delivery) -> bool:
    """Whether a request is no longer as the delivery tells of it, for instance by a retry."""
    return (request.status, request.processed_images, request.failed_images) != (
        delivery.status,
        delivery.processed_images,
        delivery.failed_images,
    )


def _products(
    store: Store, request: Request, url_of: UrlOf, room: int
) -> list[dict[str, Any]] | None:
    """All products of a request, or None if they need more bytes than there is room."""
    told: list[dict[str, Any]] = []
    for page in pages_of_products(store, request.id):
        images = images_of(store, request.id, page)
        urls = {
            sequence: url_of(image.outcome.result.key)
            for sequence, image in images.items()
            if image.outcome and isinstance(image.outcome.result, Stored)
        }
        for product in page:
            told.append(_product(product, urls))
            room -= len(_json(told[-1]).encode()) + 1
            if room < 0:
                return None
    return told


def _product(product: Product, urls: dict[int, str]) -> dict[str, Any]:
    return {
        "serialNumber": product.serial_number,
        "productName": product.name,
        "inputImageUrls": product.written,
        "outputImageUrls": [urls.get(sequence) for sequence in product.images],
    }


def _stats(totals: Totals, request: Request, until: datetime) -> dict[str, Any]:
    saved = totals.bytes_in - totals.bytes_out
    seconds = (until - request.created_at).total_seconds()
    return {
        "images": totals.images,
        "bytesIn": totals.bytes_in,
        "bytesOut": totals.bytes_out,
        "bytesSaved": saved,
        "percentSaved": round(100 * saved / totals.bytes_in, 2) if totals.bytes_in else 0.0,
        "imagesPerSecond": round(totals.images / seconds, 2) if seconds > 0 else 0.0,
        "errors": dict(totals.failures),
    }


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

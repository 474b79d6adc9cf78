"""Rows of the embedded store, to and from the model."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from pixmill.core.access import ApiKey, Scope
from pixmill.core.errors import ImageErrorCode, Problem
from pixmill.core.events import Event, Webhook
from pixmill.core.leases import Lease, Work
from pixmill.core.limits import SheetLimits
from pixmill.core.model import (
    Accepted,
    Failure,
    Image,
    ImageStatus,
    Notice,
    Once,
    Outcome,
    Product,
    Request,
    RequestStatus,
    SheetRules,
    Stored,
)
from pixmill.core.options import parse_options
from pixmill.core.webhooks import Attempt, Delivery, DeliveryState, Receipt


def request_values(request: Request) -> dict[str, Any]:
    """A request as the columns that a new row needs."""
    return {
        "id": request.id,
        "status": request.status,
        "filename": request.filename,
        "digest": request.digest,
        "options": json.dumps(request.options.to_json()),
        "rules": json.dumps(asdict(request.rules) | {"limits": asdict(request.limits)}),
        "total_images": request.total_images,
        "total_products": request.total_products,
        "created_at": request.created_at.timestamp(),
        "updated_at": request.updated_at.timestamp(),
        "owner": request.owner,
        "webhook_url": request.webhook and request.webhook.url,
        "webhook_events": " ".join(request.webhook.events) if request.webhook else "",
    }


def to_request(row: sqlite3.Row) -> Request:
    """A row of ``requests`` as a request."""
    rules = json.loads(row["rules"])
    limits = rules.pop("limits", {})  # requests of earlier versions were read by the defaults
    return Request(
        id=row["id"],
        status=RequestStatus(row["status"]),
        filename=row["filename"],
        digest=row["digest"],
        options=parse_options(json.loads(row["options"])),
        rules=SheetRules(**{**rules, "url_cols": tuple(rules["url_cols"])}),
        total_images=row["total_images"],
        total_products=row["total_products"],
        processed_images=row["processed_images"],
        failed_images=row["failed_images"],
        error=row["error"],
        created_at=_moment(row["created_at"]),
        updated_at=_moment(row["updated_at"]),
        finished_at=_moment_or_none(row["finished_at"]),
        owner=row["owner"],
        limits=SheetLimits(**limits),
        webhook=_to_webhook(row) if row["webhook_url"] else None,
    )


def once_values(request: Request, once: Once) -> dict[str, Any]:
    """An idempotency key as the columns of a new row; it is as old as its request."""
    return {
        "owner": request.owner,
        "key": once.key,
        "fingerprint": once.fingerprint,
        "accepted": json.dumps(asdict(once.accepted)),
        "request_id": request.id,
        "created_at": request.created_at.timestamp(),
    }


def to_once(row: sqlite3.Row) -> Once:
    """A row of ``once`` as an idempotency key with its answer."""
    answer = json.loads(row["accepted"])
    warnings = tuple(Problem(**warning) for warning in answer["warnings"])
    accepted = Accepted(**{**answer, "warnings": warnings})
    return Once(row["key"], row["fingerprint"], accepted)


def key_values(key: ApiKey) -> dict[str, Any]:
    """An API key as the columns of a new row."""
    return {
        "id": key.id,
        "name": key.name,
        "scopes": " ".join(sorted(key.scopes)),
        "digest": key.digest,
        "created_at": key.created_at.timestamp(),
        "revoked_at": key.revoked_at and key.revoked_at.timestamp(),
    }


def to_key(row: sqlite3.Row) -> ApiKey:
    """A row of ``keys`` as an API key."""
    return ApiKey(
        id=row["id"],
        name=row["name"],
        scopes=frozenset(Scope(name) for name in row["scopes"].split()),
        digest=row["digest"],
        created_at=_moment(row["created_at"]),
        revoked_at=_moment_or_none(row["revoked_at"]),
    )


def to_delivery(row: sqlite3.Row) -> Delivery:
    """A row of ``deliveries`` as a delivery."""
    return Delivery(
        id=row["id"],
        request_id=row["request_id"],
        event=Event(row["event"]),
        url=row["url"],
        created_at=_moment(row["created_at"]),
        status=RequestStatus(row["status"]),
        processed_images=row["processed_images"],
        failed_images=row["failed_images"],
        state=DeliveryState(row["state"]),
        attempts=row["attempts"],
        earlier=row["earlier"],
        next_attempt_at=_moment_or_none(row["next_at"]),
        body=row["body"],
        token=row["token"] or "",
    )


def to_attempt(row: sqlite3.Row) -> Attempt:
    """A row of ``attempts`` as an attempt."""
    return Attempt(
        number=row["number"],
        at=_moment(row["at"]),
        duration=row["duration"],
        http_status=row["http_status"],
        error=row["error"],
        retry_after=row["retry_after"],
    )


def to_receipt(row: sqlite3.Row) -> Receipt:
    """A row of ``receipts`` as a receipt."""
    return Receipt(
        webhook_id=row["webhook_id"],
        event=row["event"],
        request_id=row["request_id"],
        received_at=_moment(row["received_at"]),
        body=row["body"],
    )


def to_lease(row: sqlite3.Row) -> Lease:
    """A row of ``work`` as the lease on it."""
    return Lease(
        work=Work(row["kind"]),
        request_id=row["request_id"],
        number=row["number"],
        first=row["first"],
        last=row["last"],
        alone=bool(row["alone"]),
        token=row["token"],
    )


def to_product(row: sqlite3.Row) -> Product:
    """A row of ``products`` as a product."""
    return Product(
        sequence=row["sequence"],
        serial_number=row["serial_number"],
        name=row["name"],
        written=tuple(json.loads(row["written"])),
        images=tuple(json.loads(row["images"])),
    )


def to_image(row: sqlite3.Row) -> Image:
    """A row of ``images`` as an image with its outcome, if it has one."""
    status = ImageStatus(row["status"])
    outcome = None
    if status is not ImageStatus.PENDING:
        result = _to_stored(row) if status is ImageStatus.DONE else _to_failure(row)
        outcome = Outcome(row["sequence"], result, row["attempts"], row["duration"])
    return Image(
        request_id=row["request_id"],
        sequence=row["sequence"],
        url=row["url"],
        references=row["reference_count"],
        outcome=outcome,
        strikes=row["strikes"],
    )


def outcome_values(outcome: Outcome) -> dict[str, Any]:
    """An outcome as the columns that it fills."""
    result = outcome.result
    if isinstance(result, Failure):
        return {
            "status": ImageStatus.FAILED,
            "attempts": outcome.attempts,
            "duration": outcome.duration,
            "code": result.code,
            "message": result.message,
        }
    return {
        "status": ImageStatus.DONE,
        "attempts": outcome.attempts,
        "duration": outcome.duration,
        "key": result.key,
        "format": result.format,
        "bytes_in": result.bytes_in,
        "bytes_out": result.bytes_out,
        "width": result.width,
        "height": result.height,
        "source_format": result.source_format,
        "source_width": result.source_width,
        "source_height": result.source_height,
        "notices": " ".join(result.notices),
    }


def _to_stored(row: sqlite3.Row) -> Stored:
    return Stored(
        key=row["key"],
        format=row["format"],
        bytes_in=row["bytes_in"],
        bytes_out=row["bytes_out"],
        width=row["width"],
        height=row["height"],
        source_format=row["source_format"],
        source_width=row["source_width"],
        source_height=row["source_height"],
        notices=tuple(Notice(name) for name in row["notices"].split()),
    )


def _to_webhook(row: sqlite3.Row) -> Webhook:
    return Webhook(row["webhook_url"], tuple(Event(name) for name in row["webhook_events"].split()))


def _to_failure(row: sqlite3.Row) -> Failure:
    return Failure(ImageErrorCode(row["code"]), row["message"])


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _moment_or_none(seconds: float | None) -> datetime | None:
    return None if seconds is None else _moment(seconds)

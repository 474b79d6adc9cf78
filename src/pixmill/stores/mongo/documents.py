"""Documents of a MongoDB store, to and from the model."""

from __future__ import annotations

import hashlib
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

Document = dict[str, Any]

AFTER_SLASH = chr(ord("/") + 1)


def work_id(request_id: str, work: Work, number: int = 0) -> str:
    """The id of a piece of work."""
    return f"{request_id}/{work}/{number:07d}"


def record_id(request_id: str, sequence: int) -> str:
    """The id of an image or product: in order of requests, then of sequences."""
    return f"{request_id}/{sequence:09d}"


def all_of(request_id: str) -> Document:
    """The ids of everything that belongs to a request, in its collection."""
    return {"$gt": f"{request_id}/", "$lt": f"{request_id}{AFTER_SLASH}"}


def span_of(request_id: str, first: int, last: int) -> Document:
    """The ids of the records of a request with sequences from one to another."""
    return {"$gte": record_id(request_id, first), "$lte": record_id(request_id, last)}


def those_after(request_id: str, sequence: int) -> Document:
    """The ids of the records of a request after a sequence."""
    return {**all_of(request_id), "$gt": record_id(request_id, sequence)}


def from_request(request: Request) -> Document:
    """A request as a new document."""
    hook = request.webhook
    return {
        "_id": request.id,
        "status": str(request.status),
        "owner": request.owner,
        "filename": request.filename,
        "digest": request.digest,
        "options": request.options.to_json(),
        "rules": asdict(request.rules) | {"limits": asdict(request.limits)},
        "total_images": request.total_images,
        "total_products": request.total_products,
        "processed_images": 0,
        "failed_images": 0,
        "error": None,
        "created_at": request.created_at.timestamp(),
        "updated_at": request.updated_at.timestamp(),
        "finished_at": None,
        "ingested": False,
        "shard_size": 0,
        "open_shards": 0,
        "round": 0,
        "turn": 0.0,
        "open": True,
        "offers": 1,
        "ready_at": 0.0,
        **(
            {"webhook_url": hook.url, "webhook_events": [str(e) for e in hook.events]}
            if hook
            else {}
        ),
    }


def to_request(found: Document) -> Request:
    """A document as a request."""
    rules = dict(found["rules"])
    limits = rules.pop("limits", {})  # requests of earlier versions were read by the defaults
    return Request(
        id=found["_id"],
        status=RequestStatus(found["status"]),
        filename=found["filename"],
        digest=found["digest"],
        options=parse_options(found["options"]),
        rules=SheetRules(**{**rules, "url_cols": tuple(rules["url_cols"])}),
        total_images=found["total_images"],
        total_products=found["total_products"],
        processed_images=found["processed_images"],
        failed_images=found["failed_images"],
        error=found["error"],
        created_at=moment(found["created_at"]),
        updated_at=moment(found["updated_at"]),
        finished_at=moment_or_none(found["finished_at"]),
        owner=found["owner"],
        limits=SheetLimits(**limits),
        webhook=_to_webhook(found) if "webhook_url" in found else None,
    )


def from_once(request: Request, once: Once, kept_seconds: float) -> Document:
    """An idempotency key as a new document; it is as old as its request."""
    made = request.created_at.timestamp()
    return {
        "owner": request.owner,
        "key": once.key,
        "fingerprint": once.fingerprint,
        "accepted": asdict(once.accepted),
        "request": request.id,
        "created_at": made,
        "gone_at": moment(made + kept_seconds),
    }


def to_once(found: Document) -> Once:
    """A document as an idempotency key with its answer."""
    answer = found["accepted"]
    warnings = tuple(Problem(**warning) for warning in answer["warnings"])
    return Once(found["key"], found["fingerprint"], Accepted(**{**answer, "warnings": warnings}))


def from_key(key: ApiKey) -> Document:
    """An API key as a new document."""
    return {
        "_id": key.id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "digest": key.digest,
        "created_at": key.created_at.timestamp(),
        "revoked_at": key.revoked_at and key.revoked_at.timestamp(),
    }


def to_key(found: Document) -> ApiKey:
    """A document as an API key."""
    return ApiKey(
        id=found["_id"],
        name=found["name"],
        scopes=frozenset(Scope(name) for name in found["scopes"]),
        digest=found["digest"],
        created_at=moment(found["created_at"]),
        revoked_at=moment_or_none(found["revoked_at"]),
    )


def new_work(
    request_id: str,
    work: Work,
    number: int = 0,
    first: int = 0,
    last: int = 0,
    *,
    round_: int,
    due: float,
) -> Document:
    """Open work as a new document."""
    return {
        "_id": work_id(request_id, work, number),
        "request": request_id,
        "kind": str(work),
        "number": number,
        "first": first,
        "last": last,
        "state": "open",
        "alone": False,
        "losses": 0,
        "due": due,
        "round": round_,
    }


def to_lease(found: Document) -> Lease:
    """A document of leased work as the lease on it."""
    return Lease(
        work=Work(found["kind"]),
        request_id=found["request"],
        number=found["number"],
        first=found["first"],
        last=found["last"],
        alone=found["alone"],
        token=found["token"],
    )


def new_image(request_id: str, sequence: int, url: str, references: int) -> Document:
    """A pending image as a new document."""
    return {
        "_id": record_id(request_id, sequence),
        "request": request_id,
        "sequence": sequence,
        "url": url,
        "digest": url_digest(url),
        "references": references,
        "status": str(ImageStatus.PENDING),
        "strikes": 0,
        "round": 0,
    }


def url_digest(url: str) -> bytes:
    """What URLs of a request are told apart by."""
    return hashlib.blake2b(url.encode(), digest_size=16).digest()


def to_image(found: Document) -> Image:
    """A document as an image with its outcome, if it has one."""
    status = ImageStatus(found["status"])
    outcome = None
    if status is not ImageStatus.PENDING:
        kept = found["outcome"]
        result = _to_stored(kept) if status is ImageStatus.DONE else _to_failure(kept)
        outcome = Outcome(found["sequence"], result, kept["attempts"], kept["duration"])
    return Image(
        request_id=found["request"],
        sequence=found["sequence"],
        url=found["url"],
        references=found["references"],
        outcome=outcome,
        strikes=found["strikes"],
    )


def status_of(outcome: Outcome) -> ImageStatus:
    """What an outcome makes of its image."""
    return ImageStatus.FAILED if isinstance(outcome.result, Failure) else ImageStatus.DONE


def from_outcome(outcome: Outcome) -> Document:
    """An outcome as a part of its image's document."""
    taken = {"attempts": outcome.attempts, "duration": outcome.duration}
    result = outcome.result
    if isinstance(result, Failure):
        return {**taken, "code": str(result.code), "message": result.message}
    return {
        **taken,
        "key": result.key,
        "format": result.format,
        "bytes_in": result.bytes_in,
        "bytes_out": result.bytes_out,
        "width": result.width,
        "height": result.height,
        "source_format": result.source_format,
        "source_width": result.source_width,
        "source_height": result.source_height,
        "notices": [str(notice) for notice in result.notices],
    }


def from_product(request_id: str, product: Product) -> Document:
    """A product as a new document."""
    return {
        "_id": record_id(request_id, product.sequence),
        "sequence": product.sequence,
        "serial_number": product.serial_number,
        "name": product.name,
        "written": list(product.written),
        "images": list(product.images),
    }


def to_product(found: Document) -> Product:
    """A document as a product."""
    return Product(
        sequence=found["sequence"],
        serial_number=found["serial_number"],
        name=found["name"],
        written=tuple(found["written"]),
        images=tuple(found["images"]),
    )


def _to_stored(kept: Document) -> Stored:
    return Stored(
        key=kept["key"],
        format=kept["format"],
        bytes_in=kept["bytes_in"],
        bytes_out=kept["bytes_out"],
        width=kept["width"],
        height=kept["height"],
        source_format=kept["source_format"],
        source_width=kept["source_width"],
        source_height=kept["source_height"],
        notices=tuple(Notice(name) for name in kept["notices"]),
    )


def _to_webhook(found: Document) -> Webhook:
    return Webhook(found["webhook_url"], tuple(Event(name) for name in found["webhook_events"]))


def _to_failure(kept: Document) -> Failure:
    return Failure(ImageErrorCode(kept["code"]), kept["message"])


def moment(seconds: float) -> datetime:
    """A time as the model has it."""
    return datetime.fromtimestamp(seconds, UTC)


def moment_or_none(seconds: float | None) -> datetime | None:
    """A time that may be missing."""
    return None if seconds is None else moment(seconds)

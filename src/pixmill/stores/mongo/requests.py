"""Requests: kept once, found by their owners, counted."""

from __future__ import annotations

from dataclasses import replace

from pymongo.errors import DuplicateKeyError

from pixmill.core.errors import AlreadyAccepted, NotFound
from pixmill.core.leases import Work
from pixmill.core.model import Once, Request, RequestStatus
from pixmill.ports import Census
from pixmill.stores.mongo import documents, keys, leases
from pixmill.stores.mongo.database import Document, Step
from pixmill.stores.mongo.layouts import DELETED

VISIBLE = {"$ne": DELETED}
"""The status of requests that anybody sees."""

ONCE_SECONDS = 24 * 3600.0
"""How long an idempotency key is kept."""


def expect(step: Step, request: Request, purge_at: float) -> None:
    """Keep a request as if it were deleted, until it is added or its purge is due."""
    hidden = {"status": DELETED, "turn": purge_at, "ready_at": purge_at}
    step.requests.insert_one({**documents.from_request(request), **hidden}, session=step.session)
    leases.offer(step, request.id, Work.PURGE, round_=0, now=purge_at)


def add(step: Step, request: Request, once: Once | None) -> None:
    """Keep a new request and offer its ingest; raises AlreadyAccepted."""
    request = replace(request, owner=keys.heir_of(step, request.owner))
    if once:
        _keep_once(step, request, once)
    made = request.created_at.timestamp()
    new = documents.from_request(request)
    expected = {"_id": request.id, "status": DELETED}
    if step.requests.replace_one(expected, new, session=step.session).matched_count:
        leases.drop_all(step, request.id)
    else:
        step.requests.insert_one(new, session=step.session)
    leases.offer(step, request.id, Work.INGEST, round_=0, now=made)


def _keep_once(step: Step, request: Request, once: Once) -> None:
    made = request.created_at.timestamp()
    name = {"owner": request.owner, "key": once.key}
    over = {"$lte": made - ONCE_SECONDS}
    step.idempotency.delete_one({**name, "created_at": over}, session=step.session)
    in_use = AlreadyAccepted(f"The idempotency key {once.key!r} is in use already.")
    if step.idempotency.find_one(name, {"_id": True}, session=step.session):
        raise in_use
    try:
        kept = documents.from_once(request, once, ONCE_SECONDS)
        step.idempotency.insert_one(kept, session=step.session)
    except DuplicateKeyError:  # by somebody else, since this transaction began
        raise in_use from None


def accepted(step: Step, owner: str, key: str, now: float) -> Once | None:
    """What an idempotency key stands for, of an owner or of who has taken over."""
    heir = keys.heir_known(step, owner)
    kept = {"owner": heir, "key": key, "created_at": {"$gt": now - ONCE_SECONDS}}
    found = step.idempotency.find_one(kept)
    return documents.to_once(found) if found else None


def find(step: Step, request_id: str) -> Document:
    """The document of a request; raises NotFound."""
    found = look(step, request_id)
    if found is None:
        raise NotFound(f"There is no request {request_id!r}.")
    return found


def look(step: Step, request_id: str) -> Document | None:
    """The document of a request that anybody sees."""
    wanted = {"_id": request_id, "status": VISIBLE}
    return step.requests.find_one(wanted, session=step.session)


def page(
    step: Step,
    owner: str,
    *,
    status: RequestStatus | None,
    before: Request | None,
    limit: int,
) -> list[Request]:
    """An owner's requests, newest first."""
    wanted: Document = {"owner": owner, "status": VISIBLE if status is None else str(status)}
    if before is not None:
        made = before.created_at.timestamp()
        wanted["created_at"] = {"$lte": made}
        wanted["$or"] = [{"created_at": {"$lt": made}}, {"_id": {"$lt": before.id}}]
    found = step.requests.find(wanted, limit=limit).sort([("created_at", -1), ("_id", -1)])
    return [documents.to_request(each) for each in found]


def count(step: Step, owner: str) -> int:
    """How many requests an owner has."""
    return step.requests.count_documents({"owner": owner, "status": VISIBLE})


def latest(step: Step, digest: str) -> Request | None:
    """The newest request with this digest."""
    wanted = {"digest": digest, "status": VISIBLE}
    found = step.requests.find_one(wanted, sort=[("created_at", -1)])
    return documents.to_request(found) if found else None


def finished_before(step: Step, moment: float, limit: int) -> list[Request]:
    """Terminal requests of all owners, those that ended first, first."""
    wanted = {"finished_at": {"$gt": 0, "$lt": moment}, "status": VISIBLE}
    found = step.requests.find(wanted, limit=limit).sort("finished_at")
    return [documents.to_request(each) for each in found]


def census(step: Step) -> Census:
    """Count requests and their images, read from one index."""
    grouped = step.requests.aggregate(
        [
            {"$match": {"status": {"$in": [str(status) for status in RequestStatus]}}},
            {
                "$group": {
                    "_id": "$status",
                    "requests": {"$sum": 1},
                    "processed": {"$sum": "$processed_images"},
                    "failed": {"$sum": "$failed_images"},
                    "total": {"$sum": "$total_images"},
                }
            },
        ]
    )
    counted = {RequestStatus(each["_id"]): each for each in grouped}
    return Census(
        requests={
            status: counted[status]["requests"] if status in counted else 0
            for status in RequestStatus
        },
        processed_images=sum(each["processed"] for each in counted.values()),
        failed_images=sum(each["failed"] for each in counted.values()),
        pending_images=sum(
            each["total"] - each["processed"] - each["failed"]
            for status, each in counted.items()
            if not status.terminal
        ),
    )

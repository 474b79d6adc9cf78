"""What is in a request: its products and images, a page at a time.

Until its ingest is over a request has none.
"""

from __future__ import annotations

from collections.abc import Sequence

from pixmill.core.leases import Lease
from pixmill.core.model import Image, ImageStatus, Product, RequestStatus
from pixmill.core.shards import LARGEST_SHARD
from pixmill.ports import Totals
from pixmill.stores.mongo import documents, leases, outcomes, requests
from pixmill.stores.mongo.database import Document, Step
from pixmill.stores.mongo.documents import record_id, span_of, those_after


def products(step: Step, request_id: str, *, after: int, limit: int) -> list[Product]:
    """Products in order."""
    if _seen(step, request_id) is None:
        return []
    wanted = {"_id": those_after(request_id, after)}
    found = step.products.find(wanted, session=step.session, limit=limit, batch_size=limit)
    return [documents.to_product(each) for each in found.sort("_id")]


def images(
    step: Step,
    request_id: str,
    *,
    sequences: Sequence[int] | None,
    status: ImageStatus | None,
    after: int,
    limit: int,
) -> list[Image]:
    """Images in order: the named ones, or those of a status."""
    request = _seen(step, request_id)
    if request is None:
        return []
    wanted: Document = {"_id": those_after(request_id, after)}
    if sequences is not None:
        named = [record_id(request_id, each) for each in sequences if each > after]
        wanted, limit = {"_id": {"$in": named}}, len(named)
    if status is not None:
        wanted = _of_status(wanted, status, request, after if sequences is None else None)
    none_is = status is ImageStatus.PENDING and request["status"] == RequestStatus.CANCELLED
    if none_is or limit <= 0:  # which MongoDB would take for no limit at all
        return []
    found = step.images.find(wanted, session=step.session, limit=limit, batch_size=limit)
    in_order = found.sort("sequence" if "sequence" in wanted else "_id")
    return [documents.to_image(outcomes.as_seen(each, request)) for each in in_order]


def _of_status(
    wanted: Document, status: ImageStatus, request: Document, after: int | None
) -> Document:
    """Narrow a query to the images that have a status by what their request makes of them."""
    if status is ImageStatus.DONE:
        return {**wanted, "status": str(status)}
    if status is ImageStatus.PENDING:
        return {**wanted, **outcomes.pending(request["round"])}
    if request["status"] == RequestStatus.CANCELLED:
        return {**wanted, "status": {"$ne": str(ImageStatus.DONE)}}
    failed = {"status": str(status), "round": request["round"]}
    if after is None:
        return {**wanted, **failed}
    return {"request": request["_id"], "sequence": {"$gt": after}, **failed}


def pending(step: Step, lease: Lease) -> list[Image]:
    """A shard's images that have no outcome yet, in order."""
    round_ = leases.round_of(lease)
    found = step.images.find(
        {"_id": span_of(lease.request_id, lease.first, lease.last), **outcomes.pending(round_)},
        batch_size=LARGEST_SHARD + 1,
    ).sort("_id")
    at_work = {"round": round_, "status": RequestStatus.PROCESSING}
    return [documents.to_image(outcomes.as_seen(each, at_work)) for each in found]


def totals(step: Step, request_id: str) -> Totals:
    """Sum up the outcomes so far."""
    request = _seen(step, request_id)
    return Totals() if request is None else outcomes.totals(step, request)


def _seen(step: Step, request_id: str) -> Document | None:
    """The request, if anybody may see what is in it."""
    request = requests.look(step, request_id)
    return request if request and request["ingested"] else None

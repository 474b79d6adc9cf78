"""What an ingest writes: images, products and shards. Nobody sees them before it is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pymongo import ReturnDocument, UpdateOne

from pixmill.core.errors import Problem, SheetRejected
from pixmill.core.events import Event
from pixmill.core.leases import Lease, Work
from pixmill.core.model import Product, RequestStatus
from pixmill.core.shards import shard_size
from pixmill.core.sheets.problems import ProblemCode, shown
from pixmill.stores.mongo import deliveries, documents, leases
from pixmill.stores.mongo.database import Step
from pixmill.stores.mongo.documents import new_image, new_work, record_id, url_digest

SLICE = 5000
"""How many records are dropped in one transaction."""

PRODUCT_BYTES = 15_000_000
"""How long a product's links may be together: a document holds 16 MiB."""

LINK_BYTES = 40
"""What a link takes in a document beside its text, at most."""


def drop_slice(step: Step, lease: Lease) -> bool:
    """Drop so many of the records that an earlier attempt left; True once none is left."""
    leases.hold(step, lease)
    left = drop_some(step, lease.request_id, SLICE)
    if left:
        step.work.update_one(leases.held(lease), {"$set": {"last_image": 0}}, session=step.session)
    return left > 0


def drop_some(step: Step, request_id: str, limit: int) -> int:
    """Drop up to ``limit`` images and products; return how far it stayed below."""
    left = limit
    for records in (step.images, step.products):
        if left:
            of_request = {"_id": documents.all_of(request_id)}
            found = records.find(of_request, {"_id": True}, session=step.session, limit=left)
            ids = [each["_id"] for each in found]
            if ids:
                records.delete_many({"_id": {"$in": ids}}, session=step.session)
            left -= len(ids)
    return left


def add_images(step: Step, lease: Lease, references: Mapping[str, int]) -> dict[str, int]:
    """Add references of source URLs; return each URL's sequence."""
    request_id = lease.request_id
    last = leases.hold(step, lease).get("last_image", 0)
    digests = {url_digest(url): url for url in references}
    known = {
        digests[each["digest"]]: int(each["sequence"])
        for each in step.images.find(
            {"request": request_id, "digest": {"$in": list(digests)}},
            {"_id": False, "digest": True, "sequence": True},
            session=step.session,
        )
    }
    new = {url: last + place for place, url in enumerate(_unknown(references, known), start=1)}
    if new:
        made = [new_image(request_id, number, url, references[url]) for url, number in new.items()]
        step.images.insert_many(made, ordered=False, session=step.session)
        highest = {"$set": {"last_image": last + len(new)}}
        step.work.update_one(leases.held(lease), highest, session=step.session)
    if known:
        more = [
            UpdateOne(
                {"_id": record_id(request_id, number)}, {"$inc": {"references": references[url]}}
            )
            for url, number in known.items()
        ]
        step.images.bulk_write(more, ordered=False, session=step.session)
    return {url: known.get(url) or new[url] for url in references}


def _unknown(references: Mapping[str, int], known: Mapping[str, int]) -> list[str]:
    return [url for url in references if url not in known]


def add_products(step: Step, lease: Lease, products: Sequence[Product]) -> None:
    """Add products; raises SheetRejected when one is too long to be kept."""
    leases.hold(step, lease)
    for product in products:
        if sum(len(url.encode()) + LINK_BYTES for url in product.written) > PRODUCT_BYTES:
            raise SheetRejected([_too_long(product)])
    made = [documents.from_product(lease.request_id, product) for product in products]
    if made:
        step.products.insert_many(made, ordered=False, session=step.session)


def _too_long(product: Product) -> Problem:
    return Problem(
        ProblemCode.TOO_MANY_URLS,
        f"Product {shown(product.serial_number)} names {len(product.written)} images, which are"
        " more than a document of MongoDB can hold (16 MB). Spread them over several products.",
    )


def finish(step: Step, lease: Lease, now: float) -> None:
    """Cut the images into shards and offer them; without any image, offer the finish."""
    last = leases.finish(step, lease).get("last_image", 0)
    size = shard_size(last)
    firsts = range(1, last + 1, size)
    round_ = leases.round_of(lease)
    shards = [
        new_work(
            *(lease.request_id, Work.SHARD, number, first, min(last, first + size - 1)),
            round_=round_,
            due=now,
        )
        for number, first in enumerate(firsts, start=1)
    ]
    if shards:
        step.work.insert_many(shards, ordered=False, session=step.session)
    else:
        leases.offer(step, lease.request_id, Work.FINISH, round_=round_, now=now)
    change = {
        "status": str(RequestStatus.PROCESSING),
        "ingested": True,
        "shard_size": size,
        "open_shards": len(shards),
        "updated_at": now,
        "open": True,
    }
    request = step.requests.find_one_and_update(
        {"_id": lease.request_id},
        {"$set": change, "$inc": {"offers": 1}},
        session=step.session,
        return_document=ReturnDocument.AFTER,
    )
    if request:
        deliveries.tell(step, request, Event.PROCESSING, now)

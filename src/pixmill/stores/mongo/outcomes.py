"""Outcomes: recorded once each, counted, and summed up.

What an image is depends on its request too. A failure of an earlier round is void: the request was
retried since. And in a cancelled request what was pending has failed as cancelled. So neither a
cancel nor a retry touches the images, however many they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pymongo import ReturnDocument, UpdateOne

from pixmill.core.errors import ImageErrorCode
from pixmill.core.leases import Lease
from pixmill.core.model import Failure, ImageStatus, Notice, Outcome, RequestStatus
from pixmill.ports import Totals
from pixmill.stores.mongo import deliveries, documents, leases
from pixmill.stores.mongo.database import Document, Step
from pixmill.stores.mongo.documents import all_of, record_id

CANCELLED = Failure(
    ImageErrorCode.CANCELLED, "The request was cancelled before this image was done."
)

BY_STATUS = {ImageStatus.DONE: "processed_images", ImageStatus.FAILED: "failed_images"}


class ChangedMeanwhileError(Exception):
    """What was looked up before a transaction is no longer so: look again."""


@dataclass(frozen=True, slots=True)
class Recordable:
    """Outcomes of a request for images that had none, with the references of each."""

    round: int
    outcomes: Sequence[tuple[Outcome, int]]

    def counts(self) -> dict[str, int]:
        """By how much they raise the counters of the request."""
        counts = dict.fromkeys(BY_STATUS.values(), 0)
        for outcome, references in self.outcomes:
            counts[BY_STATUS[documents.status_of(outcome)]] += references
        return counts


def pending(round_: int) -> Document:
    """What finds images that have no outcome in a round."""
    void = {"status": str(ImageStatus.FAILED), "round": {"$lt": round_}}
    return {"$or": [{"status": str(ImageStatus.PENDING)}, void]}


def recordable(
    step: Step, batches: Mapping[Lease, Sequence[Outcome]]
) -> dict[tuple[str, int], Recordable]:
    """Look up which images have no outcome yet, by request and round."""
    wanted: dict[tuple[str, int], dict[str, Outcome]] = {}
    for lease, outcomes in batches.items():
        first = wanted.setdefault((lease.request_id, leases.round_of(lease)), {})
        for outcome in outcomes:
            first.setdefault(record_id(lease.request_id, outcome.sequence), outcome)
    ids = [image for images in wanted.values() for image in images]
    fields = {"status": True, "round": True, "references": True}
    looked_up = step.images.find({"_id": {"$in": ids}}, fields, batch_size=len(ids) + 1)
    found = {each["_id"]: each for each in looked_up}
    return {
        (request_id, round_): Recordable(
            round_,
            [
                (outcome, found[image]["references"])
                for image, outcome in first.items()
                if image in found and _is_pending(found[image], round_)
            ],
        )
        for (request_id, round_), first in wanted.items()
    }


def record(
    step: Step,
    held: Sequence[Lease],
    found: Mapping[tuple[str, int], Recordable],
    now: float,
) -> None:
    """Record outcomes and count them, if the leases are held; raises ChangedMeanwhileError.

    Begins with the counters, on which those who record for the same request collide: then little
    has been done in vain.
    """
    for (request_id, round_), batch in sorted(found.items(), key=lambda each: each[0]):
        at_work = {"_id": request_id, "status": str(RequestStatus.PROCESSING), "round": round_}
        if count_up(step, at_work, batch, now) is None:
            raise ChangedMeanwhileError
    fenced = step.work.update_many(
        leases.held_any(held), {"$inc": {"writes": 1}}, session=step.session
    )
    if fenced.matched_count != len(held):
        raise ChangedMeanwhileError
    write(step, found)


def count_up(step: Step, which: Document, batch: Recordable, now: float) -> Document | None:
    """Raise the counters of a request, tell of its progress, return it as it is then."""
    counts = batch.counts()
    request = step.requests.find_one_and_update(
        which,
        {"$inc": counts, "$set": {"updated_at": now}},
        session=step.session,
        return_document=ReturnDocument.AFTER,
    )
    if request:
        deliveries.tell_progress(step, request, sum(counts.values()), now)
    return request


def write(step: Step, found: Mapping[tuple[str, int], Recordable]) -> None:
    """Write outcomes to their images, none of which may have got another meanwhile."""
    updates = [
        UpdateOne(
            {"_id": record_id(request_id, outcome.sequence), **pending(round_)},
            {
                "$set": {
                    "status": str(documents.status_of(outcome)),
                    "round": round_,
                    "outcome": documents.from_outcome(outcome),
                }
            },
        )
        for (request_id, round_), batch in found.items()
        for outcome, _ in batch.outcomes
    ]
    if updates:
        written = step.images.bulk_write(updates, ordered=False, session=step.session)
        if written.matched_count != len(updates):
            raise ChangedMeanwhileError


def settle(step: Step, request: Document, outcome: Outcome, now: float) -> None:
    """Record the outcome of one image of a request, unless it has one, and count it."""
    image = {"_id": record_id(request["_id"], outcome.sequence), **pending(request["round"])}
    found = step.images.find_one(image, {"references": True}, session=step.session)
    if found:
        batch = Recordable(request["round"], [(outcome, found["references"])])
        count_up(step, {"_id": request["_id"]}, batch, now)
        write(step, {(request["_id"], request["round"]): batch})


def strike(step: Step, request: Document, sequence: int) -> None:
    """Count one more worker that died with an image in hand, in this round."""
    round_ = request["round"]
    this_round = {"$eq": ["$round", round_]}
    change = {
        "strikes": {"$cond": [this_round, {"$add": ["$strikes", 1]}, 1]},
        "round": round_,
    }
    image = record_id(request["_id"], sequence)
    # One with an outcome of this or of any round that counts is beyond being blamed.
    unsettled = {"_id": image, **pending(round_)}
    status = {"status": str(ImageStatus.PENDING)}
    step.images.update_one(unsettled, [{"$set": {**change, **status}}], session=step.session)


def count(step: Step, request: Document) -> tuple[int, int]:
    """Count the references of done and of failed images anew."""
    if not request["ingested"]:
        return 0, 0
    grouped = step.images.aggregate(
        [
            {"$match": {"_id": all_of(request["_id"])}},
            {"$group": {"_id": _status(request), "references": {"$sum": "$references"}}},
        ],
        session=step.session,
    )
    counted = {each["_id"]: each["references"] for each in grouped}
    return counted.get(ImageStatus.DONE, 0), counted.get(ImageStatus.FAILED, 0)


def shards_with_failures(step: Step, request: Document) -> list[int]:
    """The numbers of the shards that hold failed images."""
    place = {"$divide": [{"$subtract": ["$sequence", 1]}, request["shard_size"]]}
    grouped = step.images.aggregate(
        [
            {"$match": {"_id": all_of(request["_id"]), "status": {"$ne": str(ImageStatus.DONE)}}},
            {"$match": {"$expr": {"$eq": [_status(request), str(ImageStatus.FAILED)]}}},
            {"$group": {"_id": {"$toInt": {"$add": [{"$floor": place}, 1]}}}},
        ],
        session=step.session,
    )
    return sorted(each["_id"] for each in grouped)


def totals(step: Step, request: Document) -> Totals:
    """Sum up the outcomes of a request."""

    def noticed(notice: Notice) -> Document:
        has = {"$in": [str(notice), {"$ifNull": ["$outcome.notices", []]}]}
        return {"$sum": {"$cond": [has, 1, 0]}}

    code: Any = "$outcome.code"
    if request["status"] == RequestStatus.CANCELLED:
        code = {"$cond": [_lacking(request), str(CANCELLED.code), code]}
    grouped = step.images.aggregate(
        [
            {"$match": {"_id": all_of(request["_id"])}},
            {
                "$group": {
                    "_id": {"status": _status(request), "code": code},
                    "images": {"$sum": 1},
                    "references": {"$sum": "$references"},
                    "bytes_in": {"$sum": "$outcome.bytes_in"},
                    "bytes_out": {"$sum": "$outcome.bytes_out"},
                    "kept": noticed(Notice.KEPT_ORIGINAL),
                    "damaged": noticed(Notice.DAMAGED),
                }
            },
        ],
        session=step.session,
    )
    settled = [each for each in grouped if each["_id"]["status"] != ImageStatus.PENDING]
    failures = [each for each in settled if each["_id"]["status"] == ImageStatus.FAILED]
    failures.sort(key=lambda each: (-each["references"], each["_id"]["code"]))
    sums = {
        name: sum(each[name] for each in settled)
        for name in ("images", "bytes_in", "bytes_out", "kept", "damaged")
    }
    by_code = {ImageErrorCode(each["_id"]["code"]): each["references"] for each in failures}
    return Totals(**sums, failures=by_code)


def as_seen(image: Document, request: Document) -> Document:
    """An image's document as its request makes it: with the outcome that counts, if any."""
    if not _is_pending(image, request["round"]):
        return image
    strikes = image["strikes"] if image["round"] == request["round"] else 0
    if request["status"] != RequestStatus.CANCELLED:
        return {**image, "status": str(ImageStatus.PENDING), "strikes": strikes}
    outcome = documents.from_outcome(Outcome(image["sequence"], CANCELLED, 0, 0))
    return {**image, "status": str(ImageStatus.FAILED), "strikes": strikes, "outcome": outcome}


def _is_pending(image: Document, round_: int) -> bool:
    status = ImageStatus(image["status"])
    void = status is ImageStatus.FAILED and int(image["round"]) < round_
    return void or status is ImageStatus.PENDING


def _lacking(request: Document) -> Document:
    """Whether an image has no outcome that counts, as MongoDB's own expression."""
    failed = {"$eq": ["$status", str(ImageStatus.FAILED)]}
    void = {"$and": [failed, {"$lt": ["$round", request["round"]]}]}
    return {"$or": [{"$eq": ["$status", str(ImageStatus.PENDING)]}, void]}


def _status(request: Document) -> Document:
    """The status that counts, as MongoDB's own expression."""
    cancelled = request["status"] == RequestStatus.CANCELLED
    instead = ImageStatus.FAILED if cancelled else ImageStatus.PENDING
    return {"$cond": [_lacking(request), str(instead), "$status"]}

"""Who holds which work: claims, losses and fencing.

A token ends in the round of its request: how often that had been retried when the work was offered.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from pymongo import ReturnDocument

from pixmill.core.errors import LeaseLost
from pixmill.core.leases import Hint, Lease, LostLease, Verdict, Work
from pixmill.stores.mongo import documents
from pixmill.stores.mongo.database import Document, Step
from pixmill.stores.mongo.documents import all_of, new_work, record_id, work_id

NOBODYS = {"token": "", "worker": "", "expires": "", "trying": ""}
"""The fields of a lease, to be taken from work that nobody holds."""

OPENED = {**NOBODYS, "told": "", "teller": ""}
"""The fields to be taken from work that is open again: so workers are told of it at once."""

OPEN = {"$set": {"state": "open"}, "$unset": OPENED}
DONE = {"$set": {"state": "done"}, "$unset": NOBODYS}

OFFERED = {"$set": {"open": True}, "$inc": {"offers": 1}}
"""What a request hears, in the same transaction, when work of it can be claimed."""

BY_TURN = [("turn", 1), ("created_at", 1), ("_id", 1)]
BY_URGENCY = [("kind", 1), ("number", 1)]


def claim(step: Step, worker: str, *, now: float, lease_seconds: float) -> Lease | None:
    """Lease the next open work to a worker; None when there is none.

    Two single changes: the request whose turn it is goes to the end of the line, and the most
    urgent of its open work is taken. A request without any leaves the line, unless work of it was
    offered meanwhile: then ``offers`` has changed.
    """
    while True:
        request = step.requests.find_one_and_update(
            {"open": True, "ready_at": {"$lte": now}},
            {"$set": {"turn": now}},
            sort=BY_TURN,
            projection={"round": True, "offers": True},
            return_document=ReturnDocument.AFTER,
        )
        if request is None:
            return None
        leased = {
            "state": "leased",
            "token": f"{secrets.token_hex(16)}.{request['round']}",
            "worker": worker,
            "expires": now + lease_seconds,
        }
        found = step.work.find_one_and_update(
            {"request": request["_id"], "state": "open", "round": request["round"]},
            {"$set": leased},
            sort=BY_URGENCY,
            return_document=ReturnDocument.AFTER,
        )
        if found:
            return documents.to_lease(found)
        step.requests.update_one(
            {"_id": request["_id"], "offers": request["offers"]}, {"$set": {"open": False}}
        )


def claim_hinted(
    step: Step, hint: Hint, worker: str, *, now: float, lease_seconds: float
) -> Lease | None:
    """Lease just this work to a worker; None unless it is open and due.

    Its round is its request's: a retry changes both in one transaction.
    """
    wanted: Document = {
        "_id": work_id(hint.request_id, hint.work, hint.number),
        "state": "open",
        **({"due": {"$lte": now}} if hint.work is Work.PURGE else {}),
    }
    leased = {
        "state": "leased",
        "token": {"$concat": [f"{secrets.token_hex(16)}.", {"$toString": "$round"}]},
        "worker": {"$literal": worker},
        "expires": now + lease_seconds,
    }
    found = step.work.find_one_and_update(
        wanted, [{"$set": leased}], return_document=ReturnDocument.AFTER
    )
    if found is None:
        return None
    step.requests.update_one({"_id": hint.request_id}, {"$set": {"turn": now}})
    return documents.to_lease(found)


def round_of(lease: Lease) -> int:
    """The round of its request in which the leased work was offered."""
    return int(lease.token.rpartition(".")[2])


def held(lease: Lease) -> Document:
    """What finds the leased work while it is held."""
    return {"_id": _id(lease), "token": lease.token, "state": "leased"}


def held_any(leases: Sequence[Lease]) -> Document:
    """What finds the leased work of all those leases that are held."""
    return {
        "_id": {"$in": [_id(lease) for lease in leases]},
        "token": {"$in": [lease.token for lease in leases]},
        "state": "leased",
    }


def hold(step: Step, lease: Lease) -> Document:
    """Fence: inside a transaction, make sure that the lease is held until its end."""
    found = step.work.find_one_and_update(
        held(lease),
        {"$inc": {"writes": 1}},
        session=step.session,
        return_document=ReturnDocument.AFTER,
    )
    if found is None:
        raise lost_by(lease)
    return found


def finish(step: Step, lease: Lease) -> Document:
    """Mark leased work as done, and return it as it was; raises LeaseLost."""
    found = step.work.find_one_and_update(held(lease), DONE, session=step.session)
    if found is None:
        raise lost_by(lease)
    return found


def lost_by(lease: Lease) -> LeaseLost:
    """What the holder of a lost lease is told."""
    return LeaseLost(f"The {lease.work} of {lease.request_id} is no longer held by this worker.")


def tokens_held(step: Step, leases: Sequence[Lease]) -> set[str]:
    """The tokens of those leases that are held."""
    return {found["token"] for found in step.work.find(held_any(leases), {"token": True})}


def renew(step: Step, leases: Sequence[Lease], until: float) -> set[str]:
    """Prolong leases; return the tokens of those that are lost."""
    if not leases:
        return set()
    renewed = step.work.update_many(held_any(leases), {"$set": {"expires": until}})
    if renewed.matched_count == len(leases):
        return set()
    return {lease.token for lease in leases} - tokens_held(step, leases)


def mark_trying(step: Step, lease: Lease, sequence: int) -> None:
    """Note which image is about to be tried; raises LeaseLost."""
    if not step.work.update_one(held(lease), {"$set": {"trying": sequence}}).matched_count:
        raise lost_by(lease)


def release(step: Step, lease: Lease) -> None:
    """Hand unfinished work back without a loss."""
    if step.work.update_one(held(lease), OPEN, session=step.session).matched_count:
        step.requests.update_one({"_id": lease.request_id}, OFFERED, session=step.session)


def expire(step: Step, worker: str | None) -> None:
    """Let leases run out now, and fence their holders off."""
    whose: Document = {"expires": {"$gte": 0}} if worker is None else {"worker": worker}
    step.work.update_many(
        {"state": "leased", **whose},
        {"$set": {"expires": 0, "token": secrets.token_hex(16)}},
        session=step.session,
    )


def lost(step: Step, now: float, limit: int) -> list[LostLease]:
    """Leases that have run out and were not taken back yet."""
    found = list(
        step.work.find(
            {"state": "leased", "expires": {"$lt": now}}, session=step.session, limit=limit
        ).sort("expires")
    )
    in_hand = {
        work["_id"]: record_id(work["request"], work["trying"])
        for work in found
        if "trying" in work
    }
    struck = (
        {
            (image["_id"], image["round"]): image["strikes"]
            for image in step.images.find(
                {"_id": {"$in": list(in_hand.values())}}, session=step.session
            )
        }
        if in_hand
        else {}
    )
    return [
        LostLease(
            documents.to_lease(work),
            work["losses"],
            work.get("trying"),
            struck.get((in_hand.get(work["_id"]), work["round"]), 0),
        )
        for work in found
    ]


def take_back(step: Step, lost: LostLease, verdict: Verdict, *, now: float) -> Document | None:
    """Offer lost work again, count the loss, and return its request.

    None if it was renewed or taken back meanwhile.
    """
    change = {
        "$set": {"state": "open", "alone": verdict.alone, "due": now},
        "$inc": {"losses": 1},
        "$unset": OPENED,
    }
    overdue = {**held(lost.lease), "expires": {"$lt": now}}
    if not step.work.update_one(overdue, change, session=step.session).matched_count:
        return None
    return step.requests.find_one_and_update(
        {"_id": lost.lease.request_id},
        OFFERED,
        session=step.session,
        return_document=ReturnDocument.AFTER,
    )


def offer(step: Step, request_id: str, work: Work, *, round_: int, now: float) -> None:
    """Make work claimable; its request must hear of it too."""
    made = new_work(request_id, work, round_=round_, due=now)
    step.work.replace_one({"_id": made["_id"]}, made, upsert=True, session=step.session)


def reopen(step: Step, request_id: str, numbers: Sequence[int], *, round_: int, now: float) -> None:
    """Offer shards again; their request must hear of it too."""
    fresh = {"state": "open", "losses": 0, "alone": False, "due": now, "round": round_}
    ids = [work_id(request_id, Work.SHARD, number) for number in numbers]
    step.work.update_many(
        {"_id": {"$in": ids}}, {"$set": fresh, "$unset": OPENED}, session=step.session
    )


def end_all(step: Step, request_id: str) -> None:
    """Mark all work of a request as done: every lease on it is lost."""
    unfinished = {"_id": all_of(request_id), "state": {"$in": ["open", "leased"]}}
    step.work.update_many(unfinished, DONE, session=step.session)


def drop_all(step: Step, request_id: str) -> None:
    """Drop all work of a request: every lease on it is lost."""
    step.work.delete_many({"_id": all_of(request_id)}, session=step.session)


def has_any(step: Step, request_id: str) -> bool:
    """Whether a request has any work, done or not."""
    found = step.work.find_one({"_id": all_of(request_id)}, {"_id": True}, session=step.session)
    return found is not None


def longest_wait(step: Step, now: float) -> float:
    """Seconds for which the next work of some request has been open since its turn or its offer."""
    return _longest(step, {"$max": ["$turn", "$next.due"]}, now)


def oldest_work(step: Step, now: float) -> float:
    """Seconds for which the next work of some request has been open since its offer."""
    return _longest(step, "$next.due", now)


def _longest(step: Step, since: object, now: float) -> float:
    found = step.requests.aggregate(
        [
            {"$match": {"open": True}},
            {
                "$lookup": {
                    "from": "work",
                    "localField": "_id",
                    "foreignField": "request",
                    "pipeline": [
                        {"$match": {"state": "open"}},
                        {"$sort": {"kind": 1, "number": 1}},
                        {"$limit": 1},
                        {"$project": {"due": True}},
                    ],
                    "as": "next",
                }
            },
            {"$unwind": "$next"},
            {"$group": {"_id": None, "since": {"$min": since}}},
        ]
    )
    return max((max(0.0, now - each["since"]) for each in found), default=0.0)


def _id(lease: Lease) -> str:
    return work_id(lease.request_id, lease.work, lease.number)

"""What workers are told of through a broker: a window on what is next, and what of it is new.

Who tells marks what is told with a name of its own, so that of callers at the same moment one is
given each thing.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from pymongo import UpdateOne
from pymongo.collection import Collection

from pixmill.core import leases as work_limits
from pixmill.core import webhooks as webhook_limits
from pixmill.core.leases import Hint, Work
from pixmill.stores.mongo.database import Document, Step
from pixmill.stores.mongo.deliveries import BY_DUE, PENDING
from pixmill.stores.mongo.leases import BY_TURN, BY_URGENCY


def take_work(step: Step, now: float, told_before: float) -> list[Hint]:
    """Tell of the next work, of the next requests, that nobody was told of, or not since then."""
    while True:
        in_turn = _work_in_turn(step, now)
        idle = [request for request in in_turn if not request["next"]]
        if not idle:
            break
        _leave_line(step, idle)
    untold = {
        each["_id"]: Hint(Work(each["kind"]), request["_id"], each["number"])
        for request in in_turn
        for each in request["next"]
        if "told" not in each or each["told"] < told_before
    }
    still = {"state": "open", "$expr": {"$lt": ["$told", told_before]}}
    return [untold[told] for told in _tell(step.work, list(untold), still, now)]


def take_deliveries(step: Step, now: float, told_before: float) -> list[str]:
    """Tell of the first due deliveries to the first endpoints, unless somebody was since then.

    One that is due since it was told of was held meanwhile, and its lease ran out.
    """
    untold = [
        each["_id"]
        for endpoint in _endpoints_due(step, now)
        for each in endpoint["next"]
        if "told" not in each or each["told"] < max(each["due"], told_before)
    ]
    since = {"$max": ["$due", told_before]}
    still = {**PENDING, "due": {"$lte": now}, "$expr": {"$lt": ["$told", since]}}
    return _tell(step.deliveries, untold, still, now)


def _work_in_turn(step: Step, now: float) -> list[Document]:
    """The next requests, each with its next work.

    What was told of and is still open keeps its place: so no more is told of meanwhile.
    """
    found = step.requests.aggregate(
        [
            {"$match": {"open": True, "ready_at": {"$lte": now}}},
            {"$sort": dict(BY_TURN)},
            {"$limit": work_limits.MOST_REQUESTS},
            {
                "$lookup": {
                    "from": "work",
                    "localField": "_id",
                    "foreignField": "request",
                    "pipeline": [
                        {"$match": {"state": "open"}},
                        {"$sort": dict(BY_URGENCY)},
                        {"$limit": work_limits.MOST_TOLD},
                        {"$project": {"kind": True, "number": True, "told": True}},
                    ],
                    "as": "next",
                }
            },
            {"$project": {"offers": True, "next": True}},
        ]
    )
    return list(found)


def _leave_line(step: Step, idle: Sequence[Document]) -> None:
    """Take requests without open work out of the line, unless some was offered meanwhile."""
    step.requests.bulk_write(
        [
            UpdateOne({"_id": each["_id"], "offers": each["offers"]}, {"$set": {"open": False}})
            for each in idle
        ],
        ordered=False,
    )


def _endpoints_due(step: Step, now: float) -> list[Document]:
    """The endpoints that something is due to longest, each with its first due deliveries."""
    found = step.endpoints.aggregate(
        [
            {"$match": {"due": {"$lte": now}}},
            {"$sort": {"due": 1, "_id": 1}},
            {"$limit": webhook_limits.MOST_ENDPOINTS},
            {
                "$lookup": {
                    "from": "deliveries",
                    "localField": "_id",
                    "foreignField": "endpoint",
                    "pipeline": [
                        {"$match": {**PENDING, "due": {"$lte": now}}},
                        {"$sort": dict(BY_DUE)},
                        {"$limit": webhook_limits.MOST_TOLD},
                        {"$project": {"due": True, "told": True}},
                    ],
                    "as": "next",
                }
            },
            {"$project": {"next": True}},
        ]
    )
    return list(found)


def _tell(
    records: Collection[Document], ids: Sequence[str], still: Document, now: float
) -> list[str]:
    """Mark what nobody else has taken or told of meanwhile; return those ids, in order."""
    if not ids:
        return []
    teller = secrets.token_hex(16)
    marked = records.update_many(
        {"_id": {"$in": ids}, **still}, {"$set": {"told": now, "teller": teller}}
    )
    if marked.modified_count == len(ids):
        return list(ids)
    ours = records.find({"_id": {"$in": ids}, "teller": teller}, {"_id": True})
    told = {each["_id"] for each in ours}
    return [each for each in ids if each in told]

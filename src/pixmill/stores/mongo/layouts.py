"""The collections of a MongoDB store: what their documents hold, and by what they are found.

Times are seconds since the epoch (UTC), as numbers: MongoDB's own dates keep milliseconds only, and
serve here where the server itself acts on them (``gone_at``, ``counted_at``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pymongo import ASCENDING, IndexModel

from pixmill.core.events import Event
from pixmill.core.leases import Work
from pixmill.core.model import ImageStatus, RequestStatus
from pixmill.core.webhooks import DeliveryState

DELETED = "DELETED"
"""The status of a request that nobody sees any more, until its purge is over."""

CALLS_SECONDS = 3600
"""For how long counts of calls are kept, whose windows last a minute."""

TEXT = {"bsonType": "string"}
TEXT_OR_NONE = {"bsonType": ["string", "null"]}
WHOLE = {"bsonType": ["int", "long"], "minimum": 0}
NUMBER = {"bsonType": ["double", "int", "long"]}
NUMBER_OR_NONE = {"bsonType": ["double", "int", "long", "null"]}
FLAG = {"bsonType": "bool"}
RECORD = {"bsonType": "object"}
LIST = {"bsonType": "array"}
MOMENT = {"bsonType": "date"}


def _one_of(*values: str) -> dict[str, Any]:
    return {"enum": [str(value) for value in values]}


@dataclass(frozen=True)
class Layout:
    """A collection: the fields that its documents must have, those they may have, its indexes."""

    required: Mapping[str, Any]
    indexes: tuple[IndexModel, ...] = ()
    optional: Mapping[str, Any] | None = None

    def validator(self) -> dict[str, Any]:
        """What the server checks of every document that is written. No other field is taken."""
        return {
            "$jsonSchema": {
                "bsonType": "object",
                "required": sorted(self.required),
                "properties": {**self.required, **(self.optional or {})},
                "additionalProperties": False,
            }
        }


def _index(name: str, *fields: str, **options: Any) -> IndexModel:
    return IndexModel([(field, ASCENDING) for field in fields], name=name, **options)


LAYOUT_1 = {
    "requests": Layout(
        {
            "_id": TEXT,
            "status": _one_of(*RequestStatus, DELETED),
            "owner": TEXT,
            "filename": TEXT,
            "digest": TEXT,
            "options": RECORD,
            "rules": RECORD,
            "total_images": WHOLE,
            "total_products": WHOLE,
            "processed_images": WHOLE,
            "failed_images": WHOLE,
            "error": TEXT_OR_NONE,
            "created_at": NUMBER,
            "updated_at": NUMBER,
            "finished_at": NUMBER_OR_NONE,
            "ingested": FLAG,  # before, nobody sees its images and products
            "shard_size": WHOLE,  # 0 before the ingest is over
            "open_shards": WHOLE,
            "round": WHOLE,  # how often it was retried
            "turn": NUMBER,  # when work of it was last claimed
            "open": FLAG,  # whether it may have open work
            "offers": WHOLE,  # how often work of it was offered
            "ready_at": NUMBER,  # from when on its work may be claimed
        },
        (
            _index(
                "in_turn",
                *("open", "turn", "created_at", "_id"),
                partialFilterExpression={"open": True},
            ),
            _index("by_owner", "owner", "created_at", "_id"),
            _index("by_owner_and_status", "owner", "status", "created_at", "_id"),
            _index("by_digest", "digest", "created_at"),
            _index("by_end", "finished_at", partialFilterExpression={"finished_at": {"$gt": 0}}),
            _index("census", "status", "processed_images", "failed_images", "total_images"),
        ),
    ),
    "work": Layout(
        {
            "_id": TEXT,  # request, kind and number
            "request": TEXT,
            "kind": _one_of(*Work),
            "number": WHOLE,
            "first": WHOLE,
            "last": WHOLE,
            "state": _one_of("open", "leased", "done"),
            "alone": FLAG,
            "losses": WHOLE,
            "due": NUMBER,  # when it was offered; a purge, from when on it may be claimed
            "round": WHOLE,  # of its request, when it was offered
        },
        (
            _index(
                "open",
                *("request", "kind", "number"),
                partialFilterExpression={"state": "open"},
            ),
            _index("leased", "expires", partialFilterExpression={"state": "leased"}),
            _index("held", "worker", partialFilterExpression={"state": "leased"}),
        ),
        {
            "trying": WHOLE,  # the image in hand, of work that is done alone
            "token": TEXT,
            "worker": TEXT,
            "expires": NUMBER,
            "writes": WHOLE,  # counts what was written under its leases: makes writers collide
            "last_image": WHOLE,  # of an ingest: the highest sequence given out
        },
    ),
    "images": Layout(
        {
            "_id": TEXT,  # request and sequence
            "request": TEXT,
            "sequence": WHOLE,
            "url": TEXT,
            "digest": {"bsonType": "binData"},  # of the URL: a short index, whatever its length
            "references": WHOLE,
            "status": _one_of(*ImageStatus),
            "strikes": WHOLE,
            "round": WHOLE,  # of its request, when its outcome or strikes were written
        },
        (
            _index("by_url", "request", "digest", unique=True),
            _index("failed", "request", "sequence", partialFilterExpression={"status": "failed"}),
        ),
        {"outcome": RECORD},
    ),
    "products": Layout(
        {
            "_id": TEXT,  # request and sequence
            "sequence": WHOLE,
            "serial_number": TEXT,
            "name": TEXT,
            "written": LIST,
            "images": LIST,
        }
    ),
    "idempotency": Layout(
        {
            "_id": {"bsonType": "objectId"},
            "owner": TEXT,
            "key": TEXT,
            "fingerprint": TEXT,
            "accepted": RECORD,
            "request": TEXT,
            "created_at": NUMBER,
            "gone_at": MOMENT,
        },
        (
            _index("by_key", "owner", "key", unique=True),
            _index("by_request", "request"),
            _index("gone", "gone_at", expireAfterSeconds=0),
        ),
    ),
    "keys": Layout(
        {
            "_id": TEXT,
            "name": TEXT,
            "scopes": LIST,
            "digest": TEXT,
            "created_at": NUMBER,
            "revoked_at": NUMBER_OR_NONE,
        },
        (_index("by_age", "created_at", "_id"),),
    ),
    "calls": Layout(
        {"_id": TEXT, "count": WHOLE, "counted_at": MOMENT},  # the id is window and caller
        (_index("gone", "counted_at", expireAfterSeconds=CALLS_SECONDS),),
    ),
}

LAYOUT_2 = {
    "requests": replace(
        LAYOUT_1["requests"],
        optional={
            "webhook_url": TEXT,
            "webhook_events": LIST,
            "told": WHOLE,  # how many deliveries it made
        },
    ),
    "keys": replace(
        LAYOUT_1["keys"],
        indexes=(*LAYOUT_1["keys"].indexes, _index("by_successor", "successor", sparse=True)),
        optional={
            "successor": TEXT,  # who has taken over what belonged to it
            "writes": WHOLE,  # counts the requests it made: makes them collide with a takeover
        },
    ),
    "deliveries": Layout(
        {
            "_id": TEXT,  # the webhook-id
            "request": TEXT,
            "number": WHOLE,  # in the order in which the request made them
            "event": _one_of(*Event),
            "url": TEXT,
            "endpoint": TEXT,  # scheme, host and port of the URL
            "created_at": NUMBER,
            "status": _one_of(*RequestStatus),  # of the request, when it was made, as its counts
            "processed_images": WHOLE,
            "failed_images": WHOLE,
            "state": _one_of(*DeliveryState),
            "attempts": WHOLE,
            "earlier": WHOLE,  # attempts before its last replay
            "next_at": NUMBER_OR_NONE,  # when the next attempt is due
            "due": NUMBER_OR_NONE,  # the same; while somebody holds it, until when
        },
        (
            _index("by_request", "request", "number"),
            _index(
                "due",
                *("endpoint", "due", "request", "number"),
                partialFilterExpression={"state": str(DeliveryState.PENDING)},
            ),
            _index("held", "worker", sparse=True),
        ),
        {
            "body": TEXT,  # what is sent, once it was written
            "token": TEXT,  # of who holds it
            "worker": TEXT,
            "replay": FLAG,  # once it is not held any more, it is due again
        },
    ),
    # Those that something is on its way to, and when the first of it is due: so that however much
    # waits for a busy one, the next delivery to another is found at once.
    "endpoints": Layout(
        {
            "_id": TEXT,
            "due": NUMBER,
            "writes": WHOLE,  # counts its changes: makes those collide who change its deliveries
        },
        (_index("due", "due", "_id"),),
    ),
    "attempts": Layout(
        {
            "_id": TEXT,  # delivery and number
            "request": TEXT,
            "number": WHOLE,
            "at": NUMBER,
            "duration": NUMBER,
            "http_status": {"bsonType": ["int", "null"]},
            "error": TEXT_OR_NONE,
            "retry_after": NUMBER_OR_NONE,
        },
        (_index("by_request", "request"),),
    ),
    "receipts": Layout(
        {
            "_id": TEXT,  # the webhook-id
            "event": TEXT,
            "request": TEXT,  # the sender's, which need not be one of ours
            "received_at": NUMBER,
            "body": TEXT,
        },
        (_index("by_age", "received_at", "_id"),),
    ),
    "secrets": Layout(
        {
            "_id": WHOLE,  # the highest is the newest
            "secret": {"bsonType": "binData"},
            "ends_at": NUMBER_OR_NONE,  # until when it is live; none: until there is a newer one
        }
    ),
}
"""What webhooks, and keys that replace others, brought."""

TOLD = {
    "told": NUMBER,  # when workers were last told of it; none: not since it can be claimed
    "teller": TEXT,  # by whom: tells apart those who do so at the same moment
}

LAYOUT_3 = {
    "work": replace(LAYOUT_1["work"], optional={**(LAYOUT_1["work"].optional or {}), **TOLD}),
    "deliveries": replace(
        LAYOUT_2["deliveries"], optional={**(LAYOUT_2["deliveries"].optional or {}), **TOLD}
    ),
}
"""What telling workers through a broker brought."""

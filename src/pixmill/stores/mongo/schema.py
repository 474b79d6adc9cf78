"""Collections, validators and indexes of a MongoDB store, and how they are brought up to date.

Times are seconds since the epoch (UTC), as numbers: MongoDB's own dates keep milliseconds only, and
serve here where the server itself acts on them (``gone_at``, ``counted_at``).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pymongo import ASCENDING, IndexModel, ReturnDocument
from pymongo.database import Database

from pixmill.core.errors import StorageFailure, StoreUnavailable
from pixmill.core.leases import Work
from pixmill.core.model import ImageStatus, RequestStatus

DELETED = "DELETED"
"""The status of a request that nobody sees any more, until its purge is over."""

LOCK_SECONDS = 60
"""For how long who migrates keeps others from it, should it die; migrations can be repeated."""

PATIENCE_SECONDS = 90.0
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


def _first(database: Database[dict[str, Any]]) -> None:
    lay_out(database, LAYOUT_1)


def lay_out(database: Database[dict[str, Any]], layout: Mapping[str, Layout]) -> None:
    """Make collections, validators and indexes; what is there already stays as it is."""
    there = set(database.list_collection_names())
    for name, collection in layout.items():
        if name not in there:
            database.create_collection(name)
        database.command("collMod", name, validator=collection.validator())
        if collection.indexes:
            database[name].create_indexes(list(collection.indexes))


MIGRATIONS: tuple[Callable[[Database[dict[str, Any]]], None], ...] = (_first,)
"""Each brings the schema one version further, and may be run again after it was cut short."""

VERSION = len(MIGRATIONS)


def bring_up_to_date(database: Database[dict[str, Any]]) -> None:
    """Apply what is missing; of several processes one does it, and the others wait for it."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    holder = secrets.token_hex(8)
    while version(database) < VERSION:
        if _locked(database, holder):
            try:
                for number in range(version(database) + 1, VERSION + 1):
                    MIGRATIONS[number - 1](database)
                    database["meta"].update_one(
                        {"_id": "schema"}, {"$max": {"version": number}}, upsert=True
                    )
            finally:
                database["meta"].delete_one({"_id": "lock", "holder": holder})
        elif time.monotonic() > give_up:
            raise StoreUnavailable("Another process is still bringing the database up to date.")
        else:
            time.sleep(0.05)


def version(database: Database[dict[str, Any]]) -> int:
    """The version of what is there, 0 if nothing is."""
    found = database["meta"].find_one({"_id": "schema"})
    number = int(found["version"]) if found else 0
    if number > VERSION:
        raise StorageFailure(
            f"The database {database.name} was made by a newer version of pixmill (schema "
            f"{number}, this one reads {VERSION}). Use that version, or another database."
        )
    return number


def _locked(database: Database[dict[str, Any]], holder: str) -> bool:
    """Take the lock, by the server's clock; False if somebody else has it."""
    free = {"$lt": [{"$ifNull": ["$until", datetime.fromtimestamp(0, UTC)]}, "$$NOW"]}
    taken = {
        "holder": {"$cond": [free, holder, "$holder"]},
        "until": {"$cond": [free, {"$add": ["$$NOW", LOCK_SECONDS * 1000]}, "$until"]},
    }
    lock = database["meta"].find_one_and_update(
        {"_id": "lock"}, [{"$set": taken}], upsert=True, return_document=ReturnDocument.AFTER
    )
    return lock is not None and lock["holder"] == holder

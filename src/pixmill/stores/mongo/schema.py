"""How a MongoDB store gets its collections, validators and indexes, and is brought up to date."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from pymongo import ReturnDocument
from pymongo.database import Database

from pixmill.core.errors import StorageFailure, StoreUnavailable
from pixmill.stores.mongo.layouts import LAYOUT_1, LAYOUT_2, LAYOUT_3, Layout

NOBODY = {"_id": "nobody"}
"""The document of ``meta`` that is changed when requests are made, or taken over, that are
nobody's."""

LOCK_SECONDS = 60
"""For how long who migrates keeps others from it, should it die; migrations can be repeated."""

PATIENCE_SECONDS = 90.0


def _first(database: Database[dict[str, Any]]) -> None:
    lay_out(database, LAYOUT_1)


def _second(database: Database[dict[str, Any]]) -> None:
    lay_out(database, LAYOUT_2)
    database["meta"].update_one(NOBODY, {"$setOnInsert": {"writes": 0}}, upsert=True)


def _third(database: Database[dict[str, Any]]) -> None:
    lay_out(database, LAYOUT_3)


def lay_out(database: Database[dict[str, Any]], layout: Mapping[str, Layout]) -> None:
    """Make collections, validators and indexes; what is there already stays as it is."""
    there = set(database.list_collection_names())
    for name, collection in layout.items():
        if name not in there:
            database.create_collection(name)
        database.command("collMod", name, validator=collection.validator())
        if collection.indexes:
            database[name].create_indexes(list(collection.indexes))


MIGRATIONS: tuple[Callable[[Database[dict[str, Any]]], None], ...] = (_first, _second, _third)
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

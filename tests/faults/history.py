"""What MongoDB itself remembers of all changes: how often an image got an outcome, and the like."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from bson import Timestamp
from pymongo import MongoClient

Moment = Timestamp


@dataclass
class Told:
    """How often something was written, which must be once."""

    outcomes: Counter[str] = field(default_factory=Counter)
    """By image."""
    finishes: Counter[str] = field(default_factory=Counter)
    """By request."""
    deliveries: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By request and event."""


def moment(url: str) -> Moment:
    """Now, as the server counts."""
    with MongoClient[dict[str, Any]](url) as client:
        now: Moment = client.admin.command("hello")["operationTime"]
        return now


def told_since(url: str, since: Moment) -> Told:
    """What was written to a database since then."""
    told = Told()
    with (
        MongoClient[dict[str, Any]](url) as client,
        client.get_default_database().watch(start_at_operation_time=since) as changes,
    ):
        while change := changes.try_next():
            _count(told, change)
    return told


def _count(told: Told, change: dict[str, Any]) -> None:
    key = str(change["documentKey"]["_id"])
    written = change.get("updateDescription", {}).get("updatedFields", {})
    match change["operationType"], change["ns"]["coll"]:
        case "update", "images" if any(name.startswith(("status", "outcome")) for name in written):
            told.outcomes[key] += 1
        case "update", "requests" if written.get("finished_at") is not None:
            told.finishes[key] += 1
        case "insert", "deliveries":
            made = change["fullDocument"]
            told.deliveries[made["request"], made["event"]] += 1

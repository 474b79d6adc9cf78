"""Every query that the store, the keys and the webhooks make finds its documents by an index.

All verbs are driven, every command that the server really gets is collected, and the server is
asked how it runs it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import pytest
from pymongo import MongoClient, monitoring
from pymongo.database import Database

from pixmill.core.leases import Work
from pixmill.core.model import ImageStatus
from pixmill.ports import Access, Outbox, Store
from pixmill.stores.mongo import MongoAccess, MongoOutbox, MongoStore, database
from pixmill.stores.mongo.layouts import LAYOUT_1, LAYOUT_2
from tests.contracts.records import NOW, claimed, failed, ingested
from tests.stores.test_plans import (
    Driven,
    drive_access,
    drive_deletion,
    drive_outbox,
    drive_reading,
    drive_work,
    verbs,
)

Document = dict[str, Any]

FILTERS = {
    "find": lambda command: [command["filter"]],
    "aggregate": lambda command: [command["pipeline"]],
    "findAndModify": lambda command: [command["query"]],
    "update": lambda command: [each["q"] for each in command["updates"]],
    "delete": lambda command: [each["q"] for each in command["deletes"]],
}
"""Where the filters are in the commands that look for documents."""

ALLOWED_SCANS = {
    "keys": "a handful, which people ask for; and whether there is any",
    "secrets": "a handful",
    "receipts": "in the order in which they are listed, up to the end of the first page",
}
"""What may be read from end to end, by an index, and why."""

OURS = {*LAYOUT_1, *LAYOUT_2}


class Collector(monitoring.CommandListener):
    """Keeps all commands that look for documents, each kind once."""

    def __init__(self) -> None:
        self.commands: dict[str, Document] = {}
        self.sent: list[str] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Keep a command and each of its parts as a command of its own."""
        self.sent.append(event.command_name)
        command = dict(event.command)
        if event.command_name not in FILTERS or command[event.command_name] not in OURS:
            return
        for part in _parts(event.command_name, command):
            shape = json.dumps(_shape(part), default=str, sort_keys=True)
            self.commands.setdefault(f"{command[event.command_name]} {shape}", part)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Not asked for."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Not asked for."""


def _parts(name: str, command: Document) -> Iterator[Document]:
    """A command that can be explained for each thing that it does."""
    context = {"lsid", "txnNumber", "startTransaction", "autocommit", "readConcern", "writeConcern"}
    bare = {key: value for key, value in command.items() if key not in context and key[0] != "$"}
    many = {"update": "updates", "delete": "deletes"}.get(name)
    for each in bare[many] if many else [None]:
        yield {**bare, many: [each]} if many else bare


def _shape(value: Any) -> Any:
    """A command without what differs from call to call."""
    if isinstance(value, dict):
        return {key: _shape(each) for key, each in value.items()}
    if isinstance(value, list):
        shapes = [_shape(each) for each in value]
        return [each for place, each in enumerate(shapes) if each not in shapes[:place]]
    if isinstance(value, str) and value in {"open", "leased", "done", "pending", "failed"}:
        return value
    return value if isinstance(value, bool) else type(value).__name__


def steps(plan: Any) -> Iterator[Document]:
    """Each step of a plan that is used, however deep; not those that were only considered."""
    if isinstance(plan, dict):
        if "stage" in plan or "$lookup" in plan or "$sort" in plan:
            yield plan
        for key, each in plan.items():
            if key not in {"rejectedPlans", "command", "$lookup"}:  # the last two only repeat
                yield from steps(each)
    elif isinstance(plan, list):
        for each in plan:
            yield from steps(each)


def faults(target: Database[Document], command: Document) -> list[str]:
    """What is wrong with how the server runs a command."""
    verbosity = "executionStats" if "aggregate" in command else "queryPlanner"
    plan = target.command("explain", command, verbosity=verbosity)
    collection = next(iter(command.values()))
    found = []
    for step in steps(plan):
        if step.get("stage") == "COLLSCAN" or int(step.get("collectionScans", 0)):
            found.append("it reads the whole collection")
        if step.get("stage") == "SORT" or "$sort" in step:
            found.append("it sorts what an index should have had in order")
        if step.get("stage") == "IXSCAN" and _whole(step) and collection not in ALLOWED_SCANS:
            found.append(f"it reads the whole index {step['indexName']}")
    return found


def _whole(scan: Document) -> bool:
    """Whether an index is read from end to end."""
    first = next(iter(scan["indexBounds"].values()))
    return any("MinKey, MaxKey" in bound or "MaxKey, MinKey" in bound for bound in first)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Collector:
    """All commands that are sent from here on."""
    collector = Collector()
    made = partial(MongoClient, event_listeners=[collector])
    monkeypatch.setattr(database, "MongoClient", made)
    return collector


def drive(store: Any, access: Any, outbox: Any) -> None:
    """Make use of every verb."""
    drive_work(store)
    ingested(store, "req_live", urls=20)
    shard = claimed(store, Work.SHARD, now=NOW)
    store.record_outcomes({shard: [failed(shard.first)]}, now=NOW)
    for status in (None, *ImageStatus):
        store.images("req_live", status=status, after=3, limit=5)
        store.images("req_live", status=status, sequences=[1, 3])
    drive_reading(store)
    drive_deletion(store)
    drive_access(access)
    drive_outbox(store, outbox)


@contextmanager
def opened(url: str) -> Iterator[tuple[MongoStore, MongoAccess, MongoOutbox]]:
    """The three ports on one database."""
    with (
        closing(MongoStore(url)) as store,
        closing(MongoAccess(url)) as access,
        closing(MongoOutbox(url)) as outbox,
    ):
        yield store, access, outbox


def test_every_query_finds_its_documents_by_an_index(mongo_url: str, collector: Collector) -> None:
    with opened(mongo_url) as real, closing(MongoClient[Document](mongo_url)) as client:
        driven = [Driven(port) for port in real]
        drive(*driven)
        target = client.get_default_database()
        wrong = {
            shape: found
            for shape, command in collector.commands.items()
            if (found := faults(target, command))
        }
    for port, calls in zip((Store, Access, Outbox), driven, strict=True):
        assert verbs(port) - {"close"} <= calls.names, "drive the new verb of the port here too"
    assert len(collector.commands) > 80
    assert wrong == {}


@pytest.mark.parametrize(
    "index",
    [
        ("requests", "in_turn"),
        ("requests", "by_owner"),
        ("requests", "by_digest"),
        ("requests", "by_end"),
        ("requests", "census"),
        ("work", "open"),
        ("work", "leased"),
        ("work", "held"),
        ("images", "by_url"),
        ("images", "failed"),
        ("idempotency", "by_key"),
        ("idempotency", "by_request"),
        ("keys", "by_age"),
        ("keys", "by_successor"),
        ("deliveries", "by_request"),
        ("deliveries", "due"),
        ("deliveries", "held"),
        ("endpoints", "due"),
        ("attempts", "by_request"),
        ("receipts", "by_age"),
    ],
    ids=" ".join,
)
def test_the_guard_notices_an_index_that_is_missing(
    driven: tuple[str, dict[str, Document]], index: tuple[str, str]
) -> None:
    url, commands = driven
    collection, name = index
    with closing(MongoClient[Document](url)) as client:
        target = client.get_default_database()
        keys = target[collection].index_information()[name]
        target[collection].drop_index(name)
        try:
            assert any(faults(target, command) for command in commands.values())
        finally:
            fields = keys.pop("key")
            target[collection].create_index(
                fields, name=name, **{key: keys[key] for key in keys if key not in ("v", "ns")}
            )


@pytest.fixture(scope="module")
def driven(mongo: Any) -> Iterator[tuple[str, dict[str, Document]]]:
    """A database in which every verb was driven, and the commands that it took."""
    from tests.servers.mongo import mongo_database

    with mongo_database(mongo) as url, pytest.MonkeyPatch.context() as patch:
        collector = Collector()
        patch.setattr(database, "MongoClient", partial(MongoClient, event_listeners=[collector]))
        with opened(url) as ports:
            drive(*ports)
        yield url, collector.commands

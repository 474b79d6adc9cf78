"""Connections and transactions of a MongoDB store."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.database import Database as ClientDatabase
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.uri_parser import parse_uri

from pixmill.core.errors import StorageFailure
from pixmill.stores.mongo import schema
from pixmill.stores.mongo.abandoned import APP, Abandoned
from pixmill.stores.mongo.troubles import MENDING, translated

Document = dict[str, Any]
Result = TypeVar("Result")

DEFAULT_DATABASE = "pixmill"

PATIENCE_SECONDS = 10.0
"""How long a transaction that collides, or whose server goes away, is tried again."""

CLEAR_SECONDS = 1.0
"""A transaction that collides for so long may collide with one of the dead."""

OLDEST_WIRE_VERSION = 17
"""What MongoDB 6.0 speaks."""

USUAL = {
    "serverSelectionTimeoutMS": 5_000,
    "connectTimeoutMS": 5_000,
    "socketTimeoutMS": 60_000,
    "wTimeoutMS": 30_000,
}
"""Options of the connection that its URL may set otherwise."""

INSISTED = {
    "appName": APP,
    "w": "majority",
    "journal": True,
    "readConcernLevel": "majority",
    "readPreference": "primary",
    "retryWrites": True,
    "retryReads": True,
}
"""Options on which what the store promises rests."""


@dataclass(frozen=True, slots=True)
class Step:
    """The collections as one step sees them; its session is its transaction or its snapshot."""

    database: ClientDatabase[Document]
    session: ClientSession | None = None

    @property
    def requests(self) -> Collection[Document]:
        """Requests, with their counters and their place in the order of turns."""
        return self.database["requests"]

    @property
    def work(self) -> Collection[Document]:
        """What can be claimed: ingests, shards, finishes, purges."""
        return self.database["work"]

    @property
    def images(self) -> Collection[Document]:
        """Images with their outcomes."""
        return self.database["images"]

    @property
    def products(self) -> Collection[Document]:
        """Products."""
        return self.database["products"]

    @property
    def idempotency(self) -> Collection[Document]:
        """Idempotency keys and what they stand for."""
        return self.database["idempotency"]

    @property
    def keys(self) -> Collection[Document]:
        """API keys."""
        return self.database["keys"]

    @property
    def calls(self) -> Collection[Document]:
        """How often callers called lately."""
        return self.database["calls"]

    @property
    def deliveries(self) -> Collection[Document]:
        """Webhooks on their way, and those that arrived or failed."""
        return self.database["deliveries"]

    @property
    def endpoints(self) -> Collection[Document]:
        """Where deliveries are on their way to."""
        return self.database["endpoints"]

    @property
    def attempts(self) -> Collection[Document]:
        """What came of sending deliveries."""
        return self.database["attempts"]

    @property
    def receipts(self) -> Collection[Document]:
        """Webhooks that were received."""
        return self.database["receipts"]

    @property
    def secrets(self) -> Collection[Document]:
        """What signs webhooks."""
        return self.database["secrets"]

    @property
    def meta(self) -> Collection[Document]:
        """The schema's version, and what is changed to make others collide."""
        return self.database["meta"]


class Database:
    """A database of a replica set. Connects, and brings the schema up to date, when first used.

    A process that was forked from one that was connected makes a connection of its own.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._process = 0
        self._client: MongoClient[Document] | None = None
        self._database: ClientDatabase[Document] | None = None
        self._abandoned: Abandoned  # of the client

    @contextmanager
    def using(self) -> Iterator[Step]:
        """For single operations, each of which is atomic in itself."""
        with translated():
            yield Step(self._opened())

    @contextmanager
    def reading(self) -> Iterator[Step]:
        """For several queries that see the same moment of the data."""
        with translated():
            database = self._opened()
            with database.client.start_session(snapshot=True) as session:
                yield Step(database, session)

    def write(self, change: Callable[[Step], Result]) -> Result:
        """Make a change as one transaction: whole or not at all.

        It is run again when it collides with another, so it must do nothing but talk to its step.
        """
        with translated():
            database = self._opened()
            give_up = time.monotonic() + PATIENCE_SECONDS
            clear = time.monotonic() + CLEAR_SECONDS
            with database.client.start_session() as session:
                while True:
                    try:
                        return _attempt(change, Step(database, session), session, give_up)
                    except PyMongoError as error:
                        if time.monotonic() > give_up or not _collided(error):
                            raise
                    if time.monotonic() > clear:
                        with suppress(PyMongoError):  # whether it is away, the next try tells
                            self._abandoned.end()
                    time.sleep(random.uniform(0.001, 0.02))  # noqa: S311  # spreads, hides nothing

    def clear(self) -> None:
        """End the transactions of the dead, which would let others wait."""
        with translated():
            self._opened()
            self._abandoned.end()

    def close(self) -> None:
        """Let go of the connections."""
        with self._lock:
            if self._client is not None and self._process == os.getpid():
                self._client.close()
            self._client = self._database = None

    def _opened(self) -> ClientDatabase[Document]:
        with self._lock:
            if self._process != os.getpid():
                self._client = self._database = None
                self._process = os.getpid()
            if self._client is None:
                self._client = _connect(self._url)
                self._abandoned = Abandoned(self._client)
            if self._database is None:
                database = self._client.get_default_database(DEFAULT_DATABASE)
                check_server(self._client.admin.command("hello"))
                schema.bring_up_to_date(database)
                self._database = database
            return self._database


def collided(others: str) -> PyMongoError:
    """What a change raises that met what others did since it began, to be run again."""
    return PyMongoError(f"others {others} at the same time", ["TransientTransactionError"])


def _connect(url: str) -> MongoClient[Document]:
    try:
        given = {name.lower() for name in parse_uri(url)["options"]}
    except ValueError:  # a port that is no number, say
        raise StorageFailure("PIXMILL_STORE is not a MongoDB URL that can be used.") from None
    usual = {name: value for name, value in USUAL.items() if name.lower() not in given}
    options: dict[str, Any] = {**usual, **INSISTED}
    return MongoClient(url, **options)


def check_server(hello: Document) -> None:
    """Refuse a server without transactions, or older than what is tested."""
    if "setName" not in hello and hello.get("msg") != "isdbgrid":
        raise StorageFailure(f"Cannot use MongoDB: {MENDING[20]}.")
    if hello["maxWireVersion"] < OLDEST_WIRE_VERSION:
        raise StorageFailure("Cannot use MongoDB: it is older than 6.0; use 6.0 or newer.")


def _attempt(
    change: Callable[[Step], Result], step: Step, session: ClientSession, give_up: float
) -> Result:
    session.start_transaction(read_concern=ReadConcern("snapshot"))
    try:
        result = change(step)
    except BaseException:  # whatever it is goes on; only the transaction must not stay
        session.abort_transaction()
        raise
    while True:
        try:
            session.commit_transaction()
        except PyMongoError as error:  # a commit may be repeated: the server knows it by its number
            unknown = error.has_error_label("UnknownTransactionCommitResult")
            if not unknown or time.monotonic() > give_up:
                raise
        else:
            return result


def _collided(error: PyMongoError) -> bool:
    return error.has_error_label("TransientTransactionError")

"""Transactions whose process died or stands still: what they touched, nobody else can change.

MongoDB itself gives them up after 60 seconds (``transactionLifetimeLimitSeconds``), and lets plain
updates of what they touched wait for that.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern

log = logging.getLogger(__name__)

APP = "pixmill"
"""What pixmill's connections call themselves; nobody else's transactions are ended."""

IDLE_SECONDS = 3.0
"""A transaction that made no step for so long is abandoned.

Between the steps of a healthy one lie milliseconds. One that only stood still loses nothing by it:
it is run again.
"""

LOOK_SECONDS = 1.0
"""How often they are looked at, at most."""

UNAUTHORISED = 13

OPEN: list[dict[str, Any]] = [
    {"$currentOp": {"allUsers": False, "idleSessions": True}},
    {
        "$match": {
            "type": "idleSession",
            "appName": APP,
            "transaction.parameters.txnNumber": {"$exists": True},
        }
    },
    {"$project": {"lsid": True, "transaction": True}},
]
"""Finds the transactions in which nothing is done at the moment."""

Steps = tuple[int, int]
"""The number of a transaction in its session, and the microseconds of its steps so far."""


class Abandoned:
    """Looks at pixmill's open transactions now and then, and ends those that nobody goes on with.

    On a replica set that needs no privilege: a user sees and ends its own. Where it is refused, as
    on a sharded cluster without ``inprog``, the server's own limit is left.
    """

    def __init__(self, client: MongoClient[dict[str, Any]]) -> None:
        self._admin = client.get_database("admin", read_concern=ReadConcern("local"))
        self._lock = threading.Lock()
        self._looked = 0.0
        self._refused = False
        self._seen: dict[bytes, tuple[Steps, float]] = {}  # since when they have made no step

    def end(self) -> None:
        """Look, unless that was done just now; raises PyMongoError if the server is away."""
        with self._lock:
            now = time.monotonic()
            if self._refused or now - self._looked < LOOK_SECONDS:
                return
            self._looked = now
            try:
                self._end(now)
            except OperationFailure as error:  # then the server's own limit ends them
                self._refused = error.code == UNAUTHORISED
                log.warning("what dead workers leave open cannot be ended: %s", error)

    def _end(self, now: float) -> None:
        with self._admin.aggregate(OPEN) as found:
            steps = {each["lsid"]["id"]: _steps(each["transaction"]) for each in found}
        before = self._seen
        self._seen = {}
        for session, made in steps.items():
            last, since = before.get(session, (made, now))
            self._seen[session] = (made, since if made == last else now)
        idle = [each for each, (_, since) in self._seen.items() if now - since >= IDLE_SECONDS]
        if idle:
            self._admin.command("killSessions", [{"id": session} for session in idle])
            log.warning("ended %d transactions that nobody went on with", len(idle))


def _steps(transaction: dict[str, Any]) -> Steps:
    return transaction["parameters"]["txnNumber"], transaction["timeActiveMicros"]

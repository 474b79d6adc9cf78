"""Transactions whose process died or stands still: what they touched, nobody else can change.

MongoDB itself gives them up after 60 seconds (``transactionLifetimeLimitSeconds``), and lets plain
updates of what they touched wait for that.
"""

from __future__ import annotations

import logging
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern

log = logging.getLogger(__name__)

IDLE_SECONDS = 3.0
"""A transaction in which nothing was done for so long is abandoned.

Between the steps of a healthy one lie milliseconds. One that only stood still loses nothing by it:
it is run again.
"""


def end_abandoned(client: MongoClient[dict[str, Any]]) -> None:
    """Give up the transactions of pixmill's own connections that nobody goes on with.

    A user sees and ends its own without any privilege (the manual on ``$currentOp`` and
    ``killSessions``). Where that fails, the server's own limit is left.
    """
    idle = {
        "appName": client.options.pool_options.appname,
        "transaction.timeInactiveMicros": {"$gt": IDLE_SECONDS * 1e6},
    }
    own = {"$currentOp": {"allUsers": False, "idleSessions": True}}
    try:
        admin = client.get_database("admin", read_concern=ReadConcern("local"))
        with admin.aggregate([own, {"$match": idle}, {"$project": {"lsid": 1}}]) as found:
            sessions = [{"id": each["lsid"]["id"]} for each in found]
        if sessions:
            admin.command("killSessions", sessions)
            log.warning("gave up %d transactions that nobody went on with", len(sessions))
    except OperationFailure as error:
        log.warning("abandoned transactions could not be given up: %s", error)

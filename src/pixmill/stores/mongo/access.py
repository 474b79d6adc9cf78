"""The Access port on MongoDB."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pymongo import ReturnDocument, WriteConcern

from pixmill.core.access import ApiKey
from pixmill.core.errors import PixmillError
from pixmill.stores.mongo import documents, keys, requests
from pixmill.stores.mongo.database import Database, Step

log = logging.getLogger(__name__)


class MongoAccess:
    """API keys, and how often they were used lately, where the store is."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self._silent = False

    def close(self) -> None:
        """Let go of the connections."""
        self._database.close()

    def add_key(self, key: ApiKey, replaces: str | None = None) -> None:
        """Keep a key. The very first one takes over the requests that were made without any.

        A key that replaces another one takes over what is its, and revokes it; raises NotFound.
        """
        self._database.write(lambda step: keys.add(step, key, replaces))

    def any_key(self) -> bool:
        """Whether a key was ever made: from then on, every call needs one."""
        with self._database.using() as step:
            return keys.any_key(step)

    def key(self, key_id: str) -> ApiKey | None:
        """Return a key, revoked or not."""
        with self._database.using() as step:
            found = step.keys.find_one({"_id": key_id})
        return documents.to_key(found) if found else None

    def keys(self) -> list[ApiKey]:
        """Return all keys, oldest first."""
        with self._database.using() as step:
            return [documents.to_key(found) for found in step.keys.find().sort(keys.BY_AGE)]

    def revoke_key(self, key_id: str, *, now: float) -> ApiKey:
        """Let a key open nothing any more; raises NotFound. Revoking twice changes nothing."""
        with self._database.using() as step:
            return keys.revoke(step, key_id, now)

    def count_requests(self, key_id: str) -> int:
        """Count the requests that belong to a key."""
        with self._database.using() as step:
            return requests.count(step, key_id)

    def count_calls(self, callers: Sequence[str], *, window: int) -> list[int]:
        """Count one more call of each in a window of time; return the counts so far.

        While they cannot be had, calls count as nothing, since refusing everybody for want of a
        count would be worse than refusing nobody. The server forgets old counts by itself.
        """
        try:
            with self._database.using() as step:
                counts = [_count(step, caller, window) for caller in callers]
        except PixmillError as error:
            if not self._silent:
                log.warning("calls are not counted, so there is no rate limit: %s", error)
            self._silent = True
            return [0] * len(callers)
        self._silent = False
        return counts


def _count(step: Step, caller: str, window: int) -> int:
    """Count without waiting until it is durable: nobody needs it to be."""
    calls = step.calls.with_options(write_concern=WriteConcern(w=1, j=False))
    found = calls.find_one_and_update(
        {"_id": f"{window}/{caller}"},
        {"$inc": {"count": 1}, "$currentDate": {"counted_at": True}},
        upsert=True,
        return_document=ReturnDocument.AFTER,
    )
    return int(found["count"]) if found else 0

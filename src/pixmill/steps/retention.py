"""Delete what was finished long ago."""

from __future__ import annotations

from collections.abc import Iterator

from pixmill.core.errors import NotFound
from pixmill.core.model import Request
from pixmill.ports import Blobs, Clock, Store
from pixmill.steps.delete import delete_request

DAY = 24 * 3600.0
PAGE = 100


def expired(store: Store, clock: Clock, *, days: float, limit: int = PAGE) -> list[Request]:
    """Requests that were finished more than so many days ago, the oldest first."""
    return store.finished_before(clock() - days * DAY, limit=limit)


def delete_expired(
    store: Store, blobs: Blobs, clock: Clock, *, days: float, lease_seconds: float
) -> Iterator[Request]:
    """Delete them one after the other, as the iterator is asked; yield each that was.

    Any number of processes may do so at once.
    """
    while page := expired(store, clock, days=days):
        for request in page:
            try:
                delete_request(store, blobs, request.id, clock, lease_seconds)
            except NotFound:  # somebody else was faster
                continue
            yield request

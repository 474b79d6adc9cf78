"""A MongoDB for workers that die in the middle of their transactions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.mongo import MongoServer, mongo_database, mongo_server

BRIEF = ("--setParameter", "transactionLifetimeLimitSeconds=3")
"""What a dead worker's transaction has touched, others cannot change until it is given up.

MongoDB does so after 60 seconds, unless told otherwise.
"""


@pytest.fixture(scope="session")
def brief_mongo() -> Iterator[MongoServer]:
    """A running MongoDB that soon gives up the transactions of the dead."""
    with mongo_server(*BRIEF) as server:
        server.start()
        yield server


@pytest.fixture
def store_url(brief_mongo: MongoServer) -> Iterator[str]:
    """The URL of an empty database there."""
    with mongo_database(brief_mongo) as url:
        yield url

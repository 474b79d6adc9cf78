"""Servers that all tests share: each is started when the first test asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.mongo import MongoServer, mongo_database, mongo_server
from tests.servers.s3 import S3Server, s3_server


@pytest.fixture(scope="session")
def mongo() -> Iterator[MongoServer]:
    """A running MongoDB, a replica set of one."""
    with mongo_server() as server:
        server.start()
        yield server


@pytest.fixture
def mongo_url(mongo: MongoServer) -> Iterator[str]:
    """The URL of an empty database."""
    with mongo_database(mongo) as url:
        yield url


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running S3 server."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server

"""Servers that all tests share: each is started when the first test asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.mongo import MongoServer, mongo_database, mongo_server
from tests.servers.rabbitmq import RabbitServer, rabbit_server
from tests.servers.redis import RedisServer, redis_server
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


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    """A running Redis."""
    with redis_server() as server:
        server.start()
        yield server


@pytest.fixture
def redis_url(redis: RedisServer) -> str:
    """The URL of an empty database."""
    return redis.empty_database()


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitServer]:
    """A running RabbitMQ."""
    with rabbit_server() as server:
        server.start()
        yield server


@pytest.fixture
def rabbitmq_url(rabbitmq: RabbitServer) -> Iterator[str]:
    """The URL of an empty virtual host."""
    with rabbitmq.vhost() as url:
        yield url

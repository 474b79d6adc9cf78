"""One suite per port, run by every backend: a new backend is one more line in a fixture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from pixmill.blobs.folder import FolderBlobs
from pixmill.blobs.s3 import S3Blobs
from pixmill.blobs.s3_place import s3_place
from pixmill.ports import Access, Blobs, Outbox, Store
from pixmill.stores.mongo import MongoAccess, MongoOutbox, MongoStore
from pixmill.stores.sqlite import SqliteAccess, SqliteOutbox, SqliteStore
from tests.contracts.crews import Crew, crew_on
from tests.receivers import Receiver, receiving
from tests.servers.s3 import S3Server, s3_environment
from tests.shop import Shop, open_shop


@pytest.fixture(params=["sqlite", "mongo"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where an empty store of each kind lies: a file, or the URL of a database."""
    if request.param == "sqlite":
        return tmp_path / "pixmill.db"
    url: str = request.getfixturevalue("mongo_url")
    return url


@pytest.fixture
def store(place: Path | str) -> Iterator[Store]:
    """An empty store of each kind."""
    with closing(MongoStore(place) if isinstance(place, str) else SqliteStore(place)) as made:
        yield made


@pytest.fixture
def open_access(place: Path | str) -> Iterator[Callable[[], Access]]:
    """Opens the access that belongs to the store, as each process does."""
    with ExitStack() as opened:
        yield lambda: opened.enter_context(
            closing(MongoAccess(place) if isinstance(place, str) else SqliteAccess(place))
        )


@pytest.fixture
def access(open_access: Callable[[], Access]) -> Access:
    """Access without any key."""
    return open_access()


@pytest.fixture
def open_outbox(place: Path | str) -> Iterator[Callable[[], Outbox]]:
    """Opens the outbox that belongs to the store, as each process does."""
    with ExitStack() as opened:
        yield lambda: opened.enter_context(
            closing(MongoOutbox(place) if isinstance(place, str) else SqliteOutbox(place))
        )


@pytest.fixture
def outbox(open_outbox: Callable[[], Outbox]) -> Outbox:
    """The store's outbox."""
    return open_outbox()


@pytest.fixture(params=["folder", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    """Empty blobs of each kind."""
    if request.param == "folder":
        return FolderBlobs(tmp_path / "blobs")
    server: S3Server = request.getfixturevalue("s3")
    place = s3_place(f"s3://{server.bucket()}/some/prefix", s3_environment(server.endpoint))
    return S3Blobs(place)


@pytest.fixture(params=["local", "celery on redis", "celery on rabbitmq"])
def crew(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Crew]:
    """An engine of each kind on an empty store, that nobody has started yet."""
    fixture = {"celery on redis": "redis_url", "celery on rabbitmq": "rabbitmq_url"}
    name = fixture.get(request.param)
    with crew_on(tmp_path / "data", request.getfixturevalue(name) if name else None) as made:
        yield made


@pytest.fixture
def shop() -> Iterator[Shop]:
    """A shop whose pictures are fetched."""
    with open_shop() as opened:
        yield opened


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver of webhooks."""
    with receiving() as listening:
        yield listening

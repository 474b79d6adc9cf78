"""One suite per port, run by every backend: a new backend is one more line in a fixture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from pixmill.blobs.folder import FolderBlobs
from pixmill.ports import Access, Blobs, Outbox, Store
from pixmill.stores.sqlite import SqliteAccess, SqliteOutbox, SqliteStore


@pytest.fixture(params=["sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store of each kind."""
    assert request.param == "sqlite"
    made = SqliteStore(tmp_path / "pixmill.db")
    yield made
    made.close()


@pytest.fixture(params=["sqlite"])
def open_access(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Access]]:
    """Opens the access of each kind that belongs to the store, as each process does."""
    assert request.param == "sqlite"
    with ExitStack() as opened:
        yield lambda: opened.enter_context(closing(SqliteAccess(tmp_path / "pixmill.db")))


@pytest.fixture
def access(open_access: Callable[[], Access]) -> Access:
    """Access without any key."""
    return open_access()


@pytest.fixture(params=["sqlite"])
def open_outbox(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Outbox]]:
    """Opens the outbox of each kind that belongs to the store, as each process does."""
    assert request.param == "sqlite"
    with ExitStack() as opened:
        yield lambda: opened.enter_context(closing(SqliteOutbox(tmp_path / "pixmill.db")))


@pytest.fixture
def outbox(open_outbox: Callable[[], Outbox]) -> Outbox:
    """The store's outbox."""
    return open_outbox()


@pytest.fixture(params=["folder"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    """Empty blobs of each kind."""
    assert request.param == "folder"
    return FolderBlobs(tmp_path / "blobs")

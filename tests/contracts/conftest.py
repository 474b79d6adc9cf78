"""One suite per port, run by every backend: a new backend is one more line in a fixture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pixmill.blobs.folder import FolderBlobs
from pixmill.ports import Blobs, Store
from pixmill.stores.sqlite import SqliteStore


@pytest.fixture(params=["sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store of each kind."""
    assert request.param == "sqlite"
    made = SqliteStore(tmp_path / "pixmill.db")
    yield made
    made.close()


@pytest.fixture(params=["folder"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    """Empty blobs of each kind."""
    assert request.param == "folder"
    return FolderBlobs(tmp_path / "blobs")

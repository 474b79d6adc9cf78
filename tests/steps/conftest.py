"""A store and blobs on a temporary folder for the steps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pixmill.blobs.folder import FolderBlobs
from pixmill.stores.sqlite import SqliteStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    """An empty store."""
    made = SqliteStore(tmp_path / "pixmill.db")
    yield made
    made.close()


@pytest.fixture
def blobs(tmp_path: Path) -> FolderBlobs:
    """Empty blobs."""
    return FolderBlobs(tmp_path / "blobs")

"""What was finished long ago goes, with its files; nothing else does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pixmill.blobs.folder import FolderBlobs
from pixmill.core.errors import NotFound
from pixmill.core.leases import Work
from pixmill.core.shards import images_of
from pixmill.ports import Store
from pixmill.steps.retention import DAY, delete_expired
from pixmill.stores.sqlite import SqliteStore
from tests.contracts.records import NOW, a_request, claimed


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(tmp_path / "pixmill.db")) as made:
        yield made


def finish(store: Store, blobs: FolderBlobs, request_id: str, moment: float) -> None:
    made = datetime.fromtimestamp(NOW, UTC)
    store.add_request(replace(a_request(request_id), created_at=made))
    store.fail_request(claimed(store, Work.INGEST), "no", now=moment)
    blobs.put(f"{images_of(request_id)}/0000001.jpg", b"x")


def deleted(store: Store, blobs: FolderBlobs, now: float, days: float) -> list[str]:
    gone = delete_expired(store, blobs, lambda: now, days=days, lease_seconds=30)
    return [request.id for request in gone]


def test_only_what_is_older_goes_and_its_pictures_with_it(
    store: SqliteStore, tmp_path: Path
) -> None:
    blobs = FolderBlobs(tmp_path)
    finish(store, blobs, "req_old", NOW)
    finish(store, blobs, "req_new", NOW + DAY)
    assert deleted(store, blobs, NOW + 2 * DAY, days=1.5) == ["req_old"]
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["req_new"]
    with pytest.raises(NotFound):
        store.request("req_old")
    assert store.request("req_new")
    assert deleted(store, blobs, NOW + 2 * DAY, days=1.5) == []


def test_several_processes_may_delete_at_once(store: SqliteStore, tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    for number in range(5):
        finish(store, blobs, f"req_{number}", NOW)
    gone = delete_expired(store, blobs, lambda: NOW + DAY, days=0.5, lease_seconds=30)
    first = [next(gone).id]
    second = deleted(store, blobs, NOW + DAY, days=0.5)
    with suppress(StopIteration):
        first += [request.id for request in gone]
    assert sorted(first + second) == [f"req_{number}" for number in range(5)]

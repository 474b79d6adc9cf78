"""Deleting a request: nothing of it can be had at once, and nothing of it is left after a while."""

from __future__ import annotations

from pathlib import Path

import pytest

from pixmill.blobs.folder import FolderBlobs
from pixmill.core.errors import LeaseLost, NotFound
from pixmill.core.leases import Lease, Work, judge
from pixmill.core.shards import image_key, original_key, sheet_key
from pixmill.steps.delete import delete_request, purge_request
from pixmill.stores.sqlite import SqliteStore
from tests.contracts.records import NOW, claimed, ingested

LEASE = 30.0
TRASH = ".pixmill/trash"
KEYS = [
    image_key("req_a", 1, "jpeg"),
    image_key("req_a", 2, "webp"),
    sheet_key("req_a", "input"),
    sheet_key("req_a", "output"),
    original_key("req_a", 1),
]
OTHERS = [image_key("req_b", 1, "jpeg"), sheet_key("req_b", "input")]


@pytest.fixture
def shard(store: SqliteStore, blobs: FolderBlobs) -> Lease:
    """A shard in work, of a request that is stored beside another one."""
    ingested(store, urls=30)
    blobs.put_all(dict.fromkeys([*KEYS, *OTHERS], b"x"))
    return claimed(store, Work.SHARD)


def files(tmp_path: Path) -> set[str]:
    """The keys of all files that the blobs hold, but for what is in the trash."""
    root = tmp_path / "blobs"
    found = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    return {key for key in found if not key.startswith(TRASH)}


def trash(tmp_path: Path) -> list[Path]:
    """What was deleted, and still takes room."""
    return list((tmp_path / "blobs" / TRASH).iterdir())


@pytest.mark.usefixtures("shard")
def test_its_pictures_are_out_of_reach_at_once_and_all_else_soon_after(
    store: SqliteStore, blobs: FolderBlobs, tmp_path: Path
) -> None:
    delete_request(store, blobs, "req_a", lambda: NOW, LEASE)
    with pytest.raises(NotFound):
        store.request("req_a")
    assert files(tmp_path) == {*KEYS[2:], *OTHERS}
    assert trash(tmp_path), "however much it is, no call waits until it is removed for good"
    assert store.claim("w1", now=NOW + LEASE - 1, lease_seconds=LEASE) is None
    purge_request(store, blobs, claimed(store, Work.PURGE, now=NOW + LEASE))
    assert (files(tmp_path), trash(tmp_path)) == (set(OTHERS), [])
    assert store.claim("w1", now=NOW + LEASE * 9, lease_seconds=LEASE) is None


def test_what_a_late_worker_stores_goes_with_the_purge(
    store: SqliteStore, blobs: FolderBlobs, shard: Lease, tmp_path: Path
) -> None:
    delete_request(store, blobs, "req_a", lambda: NOW, LEASE)
    blobs.put(KEYS[0], b"of a worker that has not heard of it yet")
    assert store.renew([shard], until=NOW + LEASE) == {shard.token}
    purge_request(store, blobs, claimed(store, Work.PURGE, now=NOW + LEASE))
    assert files(tmp_path) == set(OTHERS)


@pytest.mark.usefixtures("shard")
def test_a_purge_that_was_cut_short_is_done_again_by_another(
    store: SqliteStore, blobs: FolderBlobs, tmp_path: Path
) -> None:
    delete_request(store, blobs, "req_a", lambda: NOW, LEASE)
    cut = claimed(store, Work.PURGE, now=NOW + LEASE)
    blobs.delete_all("images/req_a")
    store.forget(cut, limit=10)
    store.expire_leases()
    (lost,) = store.lost_leases(now=NOW + LEASE)
    store.take_back(lost, judge(lost), now=NOW + LEASE)
    with pytest.raises(LeaseLost):
        purge_request(store, blobs, cut)
    purge_request(store, blobs, claimed(store, Work.PURGE, now=NOW + LEASE))
    assert files(tmp_path) == set(OTHERS)


def test_what_does_not_exist_cannot_be_deleted(store: SqliteStore, blobs: FolderBlobs) -> None:
    with pytest.raises(NotFound):
        delete_request(store, blobs, "req_a", lambda: NOW, LEASE)

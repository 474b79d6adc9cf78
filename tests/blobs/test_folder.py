"""Blobs in a folder: what a killed process leaves behind does not stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from pixmill.blobs.folder import FolderBlobs


@pytest.fixture
def littered(tmp_path: Path) -> FolderBlobs:
    """Blobs in whose trash a killed process left a folder."""
    blobs = FolderBlobs(tmp_path)
    blobs.put("images/req_a/1.jpg", b"x")
    trash = tmp_path / ".pixmill/trash"
    trash.mkdir()
    (tmp_path / "images/req_a").rename(trash / "1-of-a-killed-process")
    return blobs


def test_deleting_waits_for_nobodys_trash(littered: FolderBlobs, tmp_path: Path) -> None:
    littered.put("images/req_b/1.jpg", b"x")
    littered.delete_all("images/req_b")
    assert len(list((tmp_path / ".pixmill/trash").rglob("*.jpg"))) == 2
    assert list((tmp_path / "images").iterdir()) == []


def test_freeing_room_takes_the_trash_along(littered: FolderBlobs, tmp_path: Path) -> None:
    littered.free_room()
    assert list((tmp_path / ".pixmill/trash").iterdir()) == []


def test_cleaning_takes_the_trash_along(littered: FolderBlobs, tmp_path: Path) -> None:
    littered.clean()
    assert list((tmp_path / ".pixmill/trash").iterdir()) == []

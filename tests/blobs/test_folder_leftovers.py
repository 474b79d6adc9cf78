"""What killed processes left is removed; what somebody is still writing is not."""

from __future__ import annotations

import os
import time
from pathlib import Path

from pixmill.blobs.folder import FolderBlobs


def left_by_a_killed_process(root: Path, name: str, age: float) -> Path:
    """A file that was last written so many seconds ago and never moved into its place."""
    partial = root / ".pixmill" / "partial" / name
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.write_bytes(b"half")
    moment = time.time() - age
    os.utime(partial, (moment, moment))
    return partial


def test_only_what_nobody_touched_for_long_is_removed_while_others_write(tmp_path: Path) -> None:
    old = left_by_a_killed_process(tmp_path, "1-a-0", age=7200)
    fresh = left_by_a_killed_process(tmp_path, "2-b-0", age=60)
    blobs = FolderBlobs(tmp_path)
    blobs.put("images/req_a/1.jpg", b"x")
    blobs.clean(idle_seconds=3600)
    assert not old.exists()
    assert fresh.exists()
    blobs.clean()
    assert not fresh.exists()
    assert blobs.look("images/req_a/1.jpg").size == 1


def test_there_may_be_nothing_to_clean(tmp_path: Path) -> None:
    FolderBlobs(tmp_path / "none").clean()

"""A worker's folder for temporary files: its own while it lives, removed by others if it dies."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pixmill.core.errors import StorageFailure


@contextmanager
def spill_folder(parent: Path, name: str) -> Iterator[Path]:
    """Make a folder below ``parent``, held by a lock until the end, and gone after it.

    The kernel lets go of the lock however the process dies: a folder that can be locked belongs to
    nobody any more, and is removed here. Raises StorageFailure when nothing can be written.
    """
    folder = parent / name
    try:
        held = _made_and_locked(folder)
        _remove_orphans(parent)
    except OSError as error:
        raise StorageFailure(f"Cannot write into {folder}: {error.strerror}.") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def _made_and_locked(folder: Path) -> int:
    """Make a folder and lock it; again if somebody took it for an orphan in between."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        held = _open(folder)
        if held is not None:
            fcntl.flock(held, fcntl.LOCK_EX)
            if os.fstat(held).st_nlink:  # 0 once it was removed
                return held
            os.close(held)


def _remove_orphans(parent: Path) -> None:
    for folder in parent.iterdir():
        held = _open(folder)
        if held is None:
            continue
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:  # somebody lives in it
            pass
        finally:
            os.close(held)


def _open(folder: Path) -> int | None:
    try:
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):  # gone meanwhile, or a stray file
        return None

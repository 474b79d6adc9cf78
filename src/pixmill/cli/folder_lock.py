"""Keep two runs out of one output folder."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pixmill.core.errors import StorageFailure


class FolderBusy(StorageFailure):
    """Another run works in the folder."""


@contextmanager
def locked(folder: Path, lock: Path) -> Iterator[None]:
    """Make the folder if need be and hold it; the kernel lets go when the process dies.

    Raises FolderBusy when another process holds it, StorageFailure when it cannot be written.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("a")
    except OSError as error:
        raise StorageFailure(f"Cannot write into {folder}: {error.strerror}.") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise FolderBusy(
                f"Another pixmill run is at work in {folder}. Wait for it, or use another folder."
            ) from error
        yield

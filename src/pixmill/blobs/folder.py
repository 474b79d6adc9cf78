"""Blobs in a folder: each file is written aside, flushed, and moved into place in one step."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pixmill.core.errors import StorageFailure
from pixmill.core.shards import PRIVATE


class FolderBlobs:
    """Files below a folder, their paths being their keys.

    A file under its final name is whole: it is written to ``.pixmill/partial`` first, flushed to the disk
    (``fdatasync``), then renamed, which POSIX makes atomic within a file system.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._partial = root / PRIVATE / "partial"

    def put(self, key: str, data: bytes | BinaryIO) -> None:
        """Store a whole file durably, in place of any earlier one, or leave things as they were."""
        target = self._path(key)
        partial = self._partial / uuid.uuid4().hex
        try:
            try:
                self._write(partial, data)
                self._move(partial, target)
            except OSError:
                partial.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise self._failure("store", key, error) from error

    def open(self, key: str) -> BinaryIO:
        """Open a stored file for reading and seeking."""
        try:
            return self._path(key).open("rb")
        except OSError as error:
            raise self._failure("read", key, error) from error

    def delete(self, prefix: str) -> None:
        """Remove everything below a key; what is not there is fine."""
        path = self._path(prefix)
        try:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise self._failure("remove", prefix, error) from error

    def keys(self, prefix: str) -> Iterator[str]:
        """List the keys below a prefix, in order."""
        top = self._path(prefix)
        for folder, subfolders, files in os.walk(top):
            subfolders.sort()
            for name in sorted(files):
                yield (Path(folder) / name).relative_to(self._root).as_posix()

    def clean(self) -> None:
        """Remove what a killed process left half-written; only when no other process writes."""
        shutil.rmtree(self._partial, ignore_errors=True)

    def path(self, key: str) -> Path:
        """Return where a key's file lies on this machine."""
        return self._path(key)

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if key.startswith("/") or any(part in {"", ".", ".."} for part in parts) or "\0" in key:
            raise StorageFailure(f"{key!r} is not a valid key.")
        return self._root.joinpath(*parts)

    def _write(self, partial: Path, data: bytes | BinaryIO) -> None:
        try:
            file = partial.open("xb")
        except FileNotFoundError:
            partial.parent.mkdir(parents=True, exist_ok=True)
            file = partial.open("xb")
        with file:
            if isinstance(data, bytes):
                file.write(data)
            else:
                shutil.copyfileobj(data, file, 1024 * 1024)
            file.flush()
            os.fdatasync(file.fileno())

    def _move(self, partial: Path, target: Path) -> None:
        try:
            partial.replace(target)
        except FileNotFoundError:
            target.parent.mkdir(parents=True, exist_ok=True)
            partial.replace(target)

    def _failure(self, verb: str, key: str, error: OSError) -> StorageFailure:
        return StorageFailure(f"Cannot {verb} {key}: {error.strerror or error}.")

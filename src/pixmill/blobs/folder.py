"""Blobs in a folder: each file is written aside and moved into its place in one step."""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from pixmill.core.errors import StorageFailure
from pixmill.core.shards import PRIVATE

CHUNK = 1024 * 1024


class FolderBlobs:
    """Files below a folder, their paths being their keys.

    A file under its final name is whole: it is written to ``.pixmill/partial`` first and then
    renamed, which POSIX makes atomic within a file system. Then the kernel is asked to write out
    the file system (``syncfs``), once for many files; each file's own ``fdatasync`` was a sixth of
    all that a worker does for an image beside its pixels. Until then nobody is told of a file:
    what a power cut leaves empty is written anew.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._partial = self._root / PRIVATE / "partial"
        self._mine = f"{self._partial}/{os.getpid()}-{os.urandom(6).hex()}-"
        self._numbers = itertools.count()

    def put(self, key: str, data: bytes | BinaryIO) -> None:
        """Store a whole file durably, in place of any earlier one, or leave things as they were."""
        self._place(key, data)
        self._flush()

    def put_all(self, files: Mapping[str, bytes]) -> None:
        """Store several whole files; when this returns, all of them survive a power cut."""
        for key, data in files.items():
            self._place(key, data)
        if files:
            self._flush()

    def open(self, key: str) -> BinaryIO:
        """Open a stored file for reading and seeking."""
        try:
            return Path(self._path(key)).open("rb")
        except OSError as error:
            raise _failure("read", key, error) from error

    def clean(self) -> None:
        """Remove what a killed process left half-written; only when no other process writes."""
        shutil.rmtree(self._partial, ignore_errors=True)

    def _place(self, key: str, data: bytes | BinaryIO) -> None:
        target = self._path(key)
        partial = f"{self._mine}{next(self._numbers)}"
        try:
            try:
                _write(partial, data)
                _move(partial, target)
            except OSError:
                Path(partial).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise _failure("store", key, error) from error

    def _flush(self) -> None:
        try:
            descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                _sync_file_system(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _failure("flush", str(self._root), error) from error

    def _path(self, key: str) -> str:
        if "\0" in key or any(part in {"", ".", ".."} for part in key.split("/")):
            raise StorageFailure(f"{key!r} is not a valid key.")
        return f"{self._root}/{key}"


# Plain strings and system calls below: with pathlib and buffered files, this was a fifth of all
# that a worker does for an image beside compressing it.


def _write(partial: str, data: bytes | BinaryIO) -> None:
    descriptor = _create(partial)
    try:
        if isinstance(data, bytes):
            _write_all(descriptor, data)
        else:
            while chunk := data.read(CHUNK):
                _write_all(descriptor, chunk)
    finally:
        os.close(descriptor)


def _sync_file_system(descriptor: int) -> None:
    """Write out the file system that an open file is on (syncfs(2), which Python lacks)."""
    if _LIBC.syncfs(descriptor) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


_LIBC = ctypes.CDLL(None, use_errno=True)


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _create(path: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o644)
    except FileNotFoundError:
        _make_parents(path)
        return os.open(path, flags, 0o644)


def _move(partial: str, target: str) -> None:
    try:
        os.replace(partial, target)
    except FileNotFoundError:
        _make_parents(target)
        os.replace(partial, target)


def _make_parents(path: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)


def _failure(verb: str, key: str, error: OSError) -> StorageFailure:
    return StorageFailure(f"Cannot {verb} {key}: {error.strerror or error}.")

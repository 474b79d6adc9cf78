"""Blobs in a folder: each file is written aside and moved into its place in one step."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from pixmill.blobs.keys import InvalidKey, check_key
from pixmill.core.errors import NotFound, StorageFailure
from pixmill.core.shards import PRIVATE
from pixmill.ports import BlobInfo

CHUNK = 1024 * 1024


MOVES = 100
"""How often a file is moved to a folder that is deleted again and again, before giving up."""


class FolderBlobs:
    """Files below a folder, their paths being their keys.

    A file under its final name is whole: it is written to ``.pixmill/partial`` first and then
    renamed, which POSIX makes atomic within a file system. Then the kernel is asked to write out
    the file system (``syncfs``), once for many files; each file's own ``fdatasync`` was a sixth of
    all that a worker does for an image beside its pixels. Until then nobody is told of a file:
    what a power cut leaves empty is written anew.
    """

    near = True

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._partial = self._root / PRIVATE / "partial"
        self._trash = self._root / PRIVATE / "trash"
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
        """Open a stored file for reading and seeking; raises NotFound."""
        with _looking_for(key):
            return open(self._path(key), "rb", opener=_open_no_link)

    def open_known(self, key: str) -> tuple[BlobInfo, BinaryIO]:
        """Open a stored file and return what is known of this very file; raises NotFound."""
        file = self.open(key)
        try:
            with _looking_for(key):
                return _known(key, os.fstat(file.fileno())), file
        except BaseException:
            file.close()
            raise

    def look(self, key: str) -> BlobInfo:
        """Return what is known of a stored file; raises NotFound."""
        with _looking_for(key):
            return _known(key, Path(self._path(key)).lstat())

    def delete_all(self, folder: str) -> None:
        """Delete all files whose keys begin with ``folder`` and a slash; none is no error.

        They are moved to the trash in one step, however many they are: calls wait for this.
        """
        source = f"{self._path(folder)}/"  # with the slash, a file of that name stays
        try:
            self._trash.mkdir(parents=True, exist_ok=True)
            os.replace(source, self._trash / f"{os.getpid()}-{os.urandom(6).hex()}")
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise _failure("delete", folder, error) from error
        self._flush()  # or a power cut would bring them back, with nobody left to delete them

    def free_room(self) -> None:
        """Empty the trash; others may be doing the same."""
        if self._trash.exists():
            for entry in list(self._trash.iterdir()):
                shutil.rmtree(entry, ignore_errors=True)

    def clean(self, *, idle_seconds: float = 0.0) -> None:
        """Remove what killed processes left half-written, and for good what was deleted.

        Others may be writing if ``idle_seconds`` says for how long none of them lets a file be.
        """
        latest = time.time() - idle_seconds
        try:
            for partial in self._partial.iterdir() if self._partial.exists() else ():
                with suppress(FileNotFoundError):  # finished or removed by others meanwhile
                    if partial.stat().st_mtime <= latest:
                        partial.unlink()
        except OSError as error:
            raise _failure("clean", str(self._partial), error) from error
        self.free_room()

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
            raise _failure("store", f"{key} in {self._root}", error) from error

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
        return f"{self._root}/{check_key(key)}"


def _known(key: str, found: os.stat_result) -> BlobInfo:
    if not stat.S_ISREG(found.st_mode):
        raise NotFound(f"There is no file {key!r}.")
    # A replaced file is another one (its inode), even within one tick of the file system.
    etag = f"{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ino:x}"
    return BlobInfo(found.st_size, etag, found.st_mtime)


def _open_no_link(path: str, flags: int) -> int:
    """Open a file, and no link: links lead elsewhere, and none are made here."""
    return os.open(path, flags | os.O_NOFOLLOW)


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
    for _ in range(MOVES):  # the folder may be deleted just after it was made
        try:
            os.replace(partial, target)
        except FileNotFoundError:
            with suppress(FileNotFoundError):
                _make_parents(target)
        else:
            return
    os.replace(partial, target)


def _make_parents(path: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)


@contextmanager
def _looking_for(key: str) -> Iterator[None]:
    """Tell what cannot be there, or is no file, from what cannot be read."""
    try:
        yield
    except (InvalidKey, FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise NotFound(f"There is no file {key!r}.") from error
    except UnicodeEncodeError as error:  # half a character, as no file name has it
        raise NotFound("There is no such file.") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise NotFound("There is no file with so long a name.") from error
        if error.errno == errno.ELOOP:
            raise NotFound(f"There is no file {key!r}.") from error
        raise _failure("read", key, error) from error


def _failure(verb: str, key: str, error: OSError) -> StorageFailure:
    return StorageFailure(f"Cannot {verb} {key}: {error.strerror or error}.")

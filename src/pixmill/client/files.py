"""Files on their way to and from a service: rewindable on the way up, whole on the way down."""

from __future__ import annotations

import io
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import BinaryIO

Source = str | PathLike[str] | BinaryIO
"""Where a CSV comes from: a path, or a binary file, which is read from where it stands."""

Target = str | PathLike[str] | BinaryIO
"""Where a download goes: a path, or a binary file."""

Sent = Callable[[int, int], object]
"""Is told how many bytes of a file have been sent, of how many."""


@contextmanager
def rewindable(source: Source) -> Iterator[BinaryIO]:
    """The source as a file that can be sent several times; a pipe is copied to disk first.

    Raises OSError with the name that the caller gave, and TypeError for a file of text.
    """
    if isinstance(source, str | PathLike):
        with Path(source).open("rb") as file, rewindable(file) as plain:
            yield plain
        return
    _refuse_text(source, "rb")
    if _is_plain(source):
        yield source
        return
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(source, copy)
        copy.seek(0)
        yield copy


class Counted:
    """A file that tells how much of it has been read, in what httpx asks of a file to send."""

    def __init__(self, file: BinaryIO, sent: Sent) -> None:
        self._file = file
        self._sent = sent
        self._size = file.seek(0, io.SEEK_END)
        file.seek(0)

    def read(self, size: int = -1) -> bytes:
        """Read on, and tell."""
        piece = self._file.read(size)
        self._sent(self._file.tell(), self._size)
        return piece

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go somewhere else, such as back to the beginning to send it all again."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Where it stands."""
        return self._file.tell()


def name_of(source: Source) -> str:
    """The file name under which a source is known."""
    name = source if isinstance(source, str | PathLike) else getattr(source, "name", "")
    return Path(name).name if isinstance(name, str | PathLike) else ""


@contextmanager
def whole(target: Target) -> Iterator[BinaryIO]:
    """A file that takes the target's place only when the block has filled it without an error.

    Raises OSError with the name that the caller gave, and TypeError for a file of text.
    """
    if not isinstance(target, str | PathLike):
        _refuse_text(target, "wb")
        yield target
        return
    path = Path(target).resolve()
    with _named(target):
        if path.exists() and not path.is_file():  # a pipe or a device stays what it is
            with path.open("wb") as file:
                yield file
            return
        partial = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.partial")
        try:
            with partial.open("xb") as file:
                yield file
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def _named(target: str | PathLike[str]) -> Iterator[None]:
    """Say of what cannot be written how the caller called it, not how it is called until then."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target)) from None


def _refuse_text(file: object, mode: str) -> None:
    if isinstance(file, io.TextIOBase):
        raise TypeError(f"A file of text cannot be used here: open it with {mode!r}.")


def _is_plain(file: BinaryIO) -> bool:
    """Whether a file's length is what its descriptor says: not so for pipes and unpackers."""
    plain = isinstance(file, io.BufferedReader | io.FileIO | io.BytesIO)
    return plain and file.seekable() and file.tell() == 0

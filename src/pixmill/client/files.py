"""Files on their way to and from a service: rewindable on the way up, whole on the way down."""

from __future__ import annotations

import io
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import BinaryIO

Source = str | PathLike[str] | BinaryIO
"""Where a CSV comes from: a path, or a binary file, which is read from where it stands."""

Target = str | PathLike[str] | BinaryIO
"""Where a download goes: a path, or a binary file."""


@contextmanager
def rewindable(source: Source) -> Iterator[BinaryIO]:
    """The source as a file that can be sent several times; a pipe is copied to disk first."""
    if isinstance(source, str | PathLike):
        with Path(source).open("rb") as file, rewindable(file) as plain:
            yield plain
        return
    if _is_plain(source):
        yield source
        return
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(source, copy)
        copy.seek(0)
        yield copy


def name_of(source: Source) -> str:
    """The file name under which a source is known."""
    name = source if isinstance(source, str | PathLike) else getattr(source, "name", "")
    return Path(name).name if isinstance(name, str | PathLike) else ""


@contextmanager
def whole(target: Target) -> Iterator[BinaryIO]:
    """A file that takes the target's place only when the block has filled it without an error."""
    if not isinstance(target, str | PathLike):
        yield target
        return
    path = Path(target).resolve()
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


def _is_plain(file: BinaryIO) -> bool:
    """Whether a file's length is what its descriptor says: not so for pipes and unpackers."""
    plain = isinstance(file, io.BufferedReader | io.FileIO | io.BytesIO)
    return plain and file.seekable() and file.tell() == 0

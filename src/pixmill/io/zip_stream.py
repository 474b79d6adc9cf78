"""Writes a ZIP as a stream: stored entries, memory that does not grow with their number.

The layout is that of PKWARE's APPNOTE 6.3. Sizes and checksums stand in the local headers, so no
data descriptors are needed; the central directory waits in a temporary file until its turn.
"""

from __future__ import annotations

import struct
import tempfile
import zlib
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import IO, BinaryIO

CHUNK = 256 * 1024
"""Bytes of a file that are read, and of a stream that are handed on, at once."""

SPOOLED = 256 * 1024
"""Bytes of the central directory that stay in memory before it goes to a file."""


@dataclass(frozen=True, slots=True)
class ZipLimits:
    """From where on the fields of the original format are too small, and ZIP64 is needed."""

    size: int = 0xFFFFFFFF
    count: int = 0xFFFF


@dataclass(frozen=True, slots=True)
class ZipEntry:
    """A file of the archive: its name, and its content, seekable; closed once it is written."""

    name: str
    file: BinaryIO


def zip_stream(
    entries: Iterable[ZipEntry],
    moment: datetime,
    limits: ZipLimits = ZipLimits(),  # frozen, so one default can be shared
) -> Generator[bytes, None, None]:
    """The archive of these entries, all with the same time, in pieces of about ``CHUNK`` bytes."""
    with tempfile.SpooledTemporaryFile(SPOOLED) as directory:
        archive = _Archive(directory, _dos_time(moment), limits)
        pending: list[bytes] = []
        waiting = 0
        for piece in archive.pieces(entries):
            pending.append(piece)
            waiting += len(piece)
            if waiting >= CHUNK:
                yield b"".join(pending)
                pending.clear()
                waiting = 0
        yield b"".join(pending)


class _Archive:
    """An archive that is being written: what its end will have to say of its entries."""

    def __init__(self, directory: IO[bytes], dos_time: int, limits: ZipLimits) -> None:
        self._directory = directory
        self._dos_time = dos_time
        self._limits = limits
        self._offset = 0
        self._count = 0

    def pieces(self, entries: Iterable[ZipEntry]) -> Iterator[bytes]:
        """All bytes of the archive, in order."""
        for entry in entries:
            with closing(entry.file):
                yield from self._entry(entry)
        size = self._directory.tell()
        self._directory.seek(0)
        while piece := self._directory.read(CHUNK):
            yield piece
        yield self._end(size)

    def _entry(self, entry: ZipEntry) -> Iterator[bytes]:
        """One entry; a file that fits into one chunk is read only once."""
        first = entry.file.read(CHUNK)
        size, checksum = len(first), zlib.crc32(first)
        while piece := entry.file.read(CHUNK):
            size += len(piece)
            checksum = zlib.crc32(piece, checksum)
        header = self._local_header(entry.name.encode(), size, checksum)
        yield header
        yield first
        if size > len(first):
            entry.file.seek(len(first))
            yield from _exactly(entry.file, size - len(first))
        self._offset += len(header) + size

    def _local_header(self, name: bytes, size: int, checksum: int) -> bytes:
        """The header before an entry's content; its twin goes into the central directory."""
        large, far = size >= self._limits.size, self._offset >= self._limits.size
        fields = (checksum, *(_FULL if large else size,) * 2, len(name))
        sizes = struct.pack("<QQ", size, size) if large else b""
        place = struct.pack("<Q", self._offset) if far else b""
        version = _ZIP64_VERSION if large or far else _VERSION
        common = struct.pack("<HHHI", version, _UTF8, _STORED, self._dos_time)
        extra = _zip64_extra(sizes + place)
        self._directory.write(
            struct.pack("<4sH", b"PK\x01\x02", _MADE_BY_UNIX | version)
            + common
            + struct.pack("<IIIH", *fields)
            + struct.pack("<HHHHI", len(extra), 0, 0, 0, _PLAIN_FILE)
            + struct.pack("<I", _FULL if far else self._offset)
            + name
            + extra
        )
        self._count += 1
        extra = _zip64_extra(sizes)
        return (
            struct.pack("<4s", b"PK\x03\x04")
            + common
            + struct.pack("<IIIHH", *fields, len(extra))
            + name
            + extra
        )

    def _end(self, size: int) -> bytes:
        """The records that close the archive: where the central directory of this size begins."""
        start, count = self._offset, self._count
        end = b""
        if max(start, size) >= self._limits.size or count >= self._limits.count:
            versions = (_MADE_BY_UNIX | _ZIP64_VERSION, _ZIP64_VERSION)
            end = struct.pack(
                "<4sQHHIIQQQQ", b"PK\x06\x06", 44, *versions, 0, 0, count, count, size, start
            ) + struct.pack("<4sIQI", b"PK\x06\x07", 0, start + size, 1)
        short = count if count < self._limits.count else 0xFFFF
        return end + struct.pack(
            "<4sHHHHIIH",
            b"PK\x05\x06",
            *(0, 0, short, short),
            size if size < self._limits.size else _FULL,
            start if start < self._limits.size else _FULL,
            0,
        )


_VERSION, _ZIP64_VERSION = 20, 45
_MADE_BY_UNIX = 3 << 8
_UTF8 = 1 << 11
_STORED = 0
_PLAIN_FILE = 0o100644 << 16
_FULL = 0xFFFFFFFF
"""Stands in a field that is too small: the true value is in the ZIP64 one."""


def _zip64_extra(values: bytes) -> bytes:
    return struct.pack("<HH", 1, len(values)) + values if values else b""


def _exactly(file: BinaryIO, size: int) -> Iterator[bytes]:
    """So many bytes, as the header has announced them."""
    while size:
        piece = file.read(min(CHUNK, size))
        if not piece:
            raise EOFError("A file became shorter while it was put into a ZIP.")
        yield piece
        size -= len(piece)


def _dos_time(moment: datetime) -> int:
    """Date and time as ZIPs have them: from 1980 to 2107, in steps of two seconds."""
    year = min(max(moment.year, 1980), 2107) - 1980
    date = year << 9 | moment.month << 5 | moment.day
    return date << 16 | moment.hour << 11 | moment.minute << 5 | moment.second // 2

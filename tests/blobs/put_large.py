"""Send 200 MB to a bucket; say by how many bytes the process grew, and how large the object is."""

from __future__ import annotations

import io
import os
import re
import sys
from pathlib import Path

from pixmill.blobs.s3 import S3Blobs
from pixmill.blobs.s3_place import s3_place

SIZE = 200_000_000


class Endless(io.RawIOBase):
    """A file of so many bytes that is nowhere in memory."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._position = 0

    def read(self, size: int = -1) -> bytes:
        part = bytes(min(size, self._size - self._position))
        self._position += len(part)
        return part

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        assert whence == os.SEEK_SET
        self._position = offset
        return offset

    def tell(self) -> int:
        return self._position


def peak() -> int:
    """The most bytes of memory that this process had so far.

    The kernel's other count of them (getrusage) begins with what the parent had.
    """
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


blobs = S3Blobs(s3_place(f"s3://{sys.argv[1]}", os.environ))
blobs.put("images/small", b"x")
before = peak()
blobs.put("images/large", Endless(SIZE))  # type: ignore[arg-type]  # it reads, seeks and tells
grown = peak() - before
print(grown, blobs.look("images/large").size)  # noqa: T201  # for the test that started it
blobs.delete_all("images")

"""A stored object as a file that is read in parts."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it is not there at run time
    from _typeshed import WriteableBuffer

BLOCK = 4 * 1024 * 1024
"""Bytes that are asked for at once: all of nearly every image, and few calls for a large CSV."""


class PartsReader(io.RawIOBase):
    """Reads an object of ``size`` bytes by ``get(start, end)``, one block in memory at a time."""

    def __init__(self, get: Callable[[int, int], bytes], size: int, first: bytes) -> None:
        self._get = get
        self._size = size
        self._start = 0
        self._block = first
        self._position = 0

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """It can be searched."""
        return True

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go somewhere; nothing is asked for until something is read."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"There is nothing before the beginning: {base + offset}.")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill a buffer as far as the block at hand goes; 0 at the end."""
        target = memoryview(buffer).cast("B")
        if self._position >= self._size or not len(target):
            return 0
        within = self._position - self._start
        if not 0 <= within < len(self._block):
            end = min(self._position + BLOCK, self._size)
            self._block = self._get(self._position, end)
            self._start, within = self._position, 0
        part = memoryview(self._block)[within : within + len(target)]
        target[: len(part)] = part
        self._position += len(part)
        return len(part)

"""A source image on its way in: held in memory while small, in a temporary file once it is not."""

from __future__ import annotations

from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from pixmill.core.errors import ImageError, ImageErrorCode
from pixmill.core.model import Fetched
from pixmill.io.limits import FetchLimits

_STOP = -1


class Body:
    """Collects the bytes of one image, within the limits.

    Whoever makes one ends it with ``taken`` or ``discard``. Errors are kept in ``failure`` instead
    of being raised, since ``write`` is called from C.
    """

    __slots__ = ("_chunks", "_file", "_folder", "_in_memory", "_limits", "failure", "size")

    def __init__(self, limits: FetchLimits, folder: Path | None) -> None:
        self._limits = limits
        self._folder = folder
        self._in_memory = min(limits.spill_bytes, limits.max_bytes)
        self._chunks: list[bytes] = []
        self._file: IO[bytes] | None = None
        self.size = 0
        self.failure: ImageError | None = None

    def write(self, data: bytes) -> int | None:
        """Keep the data; anything but None means that there is no point in sending more."""
        self._chunks.append(data)
        self.size += len(data)
        if self.size <= self._in_memory:
            return None
        return self._write_much()

    def taken(self) -> Fetched:
        """Hand over what has arrived; a temporary file is the taker's to delete."""
        if self._file is None:
            whole = b"".join(self._chunks)
            self._chunks.clear()  # libcurl's handle refers to this object until its next request
            return Fetched(whole, self.size)
        try:
            self._file.close()
        except OSError as problem:  # the last bytes are written when the file is closed
            self.discard()
            raise _unwritable(problem) from problem
        return Fetched(Path(self._file.name), self.size)

    def discard(self) -> None:
        """Forget what has arrived."""
        self._chunks.clear()
        if self._file is not None:
            Path(self._file.name).unlink(missing_ok=True)
            try:
                self._file.close()
            except OSError:
                self._file.close()  # its buffer is lost now, as it should be
            self._file = None

    def _write_much(self) -> int | None:
        if self.size > self._limits.max_bytes:
            self.failure = too_large(self._limits)
            return _STOP
        try:
            if self._file is None:
                self._file = NamedTemporaryFile(  # noqa: SIM115  # outlives this function
                    prefix="source-", dir=self._folder, delete=False
                )
            self._file.writelines(self._chunks)
        except OSError as problem:
            self.failure = _unwritable(problem)
            return _STOP
        self._chunks.clear()
        return None


def too_large(limits: FetchLimits) -> ImageError:
    """The error of an image with more bytes than allowed."""
    limit = limits.max_bytes
    size = f"{limit / 2**20:g} MB" if limit >= 2**20 else f"{limit} bytes"
    return ImageError(ImageErrorCode.TOO_LARGE, f"The image is larger than {size}.")


def _unwritable(problem: OSError) -> ImageError:
    return ImageError(
        ImageErrorCode.STORAGE_FAILURE,
        f"The image could not be kept in the temporary folder: {problem.strerror}.",
        retryable=True,
    )

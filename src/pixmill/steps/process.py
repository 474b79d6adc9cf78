"""What came of an image, and what is to be stored and recorded of it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from pixmill.core.model import Failure, Fetched, Image, Outcome, Picture, Stored
from pixmill.core.shards import image_key, original_key

LARGEST_ORIGINAL = 5_000_000
"""Bytes of the largest source that is kept for the before-and-after pictures."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of an image: a picture that is not stored yet, or a failure.

    ``bytes_in`` is the size of the source; ``duration`` is seconds over all attempts. ``original``
    is the source, if it is to be kept beside the picture.
    """

    image: Image
    made: Picture | Failure
    bytes_in: int
    attempts: int
    duration: float
    original: bytes | None = None

    @property
    def bytes_out(self) -> int:
        """The size of the picture; 0 for a failure."""
        return len(self.made.data) if isinstance(self.made, Picture) else 0

    @property
    def bytes_held(self) -> int:
        """What it takes in memory."""
        return self.bytes_out + len(self.original or b"")

    def stored(self) -> tuple[Outcome, dict[str, bytes]]:
        """The outcome to record, and the files that must be stored before."""
        if isinstance(self.made, Failure):
            return self._outcome(self.made), {}
        key = image_key(self.image.request_id, self.image.sequence, self.made.format)
        files = {key: self.made.data}
        if self.original is not None:
            files[original_key(self.image.request_id, self.image.sequence)] = self.original
        return self._outcome(self._stored(key, self.made)), files

    def _outcome(self, result: Stored | Failure) -> Outcome:
        return Outcome(self.image.sequence, result, self.attempts, self.duration)

    def _stored(self, key: str, picture: Picture) -> Stored:
        return Stored(
            key=key,
            format=picture.format,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            width=picture.width,
            height=picture.height,
            source_format=picture.source_format,
            source_width=picture.source_width,
            source_height=picture.source_height,
            notices=picture.notices,
        )


def original_of(fetched: Fetched) -> bytes | None:
    """A source as it is kept; None for one that is too large."""
    if fetched.size > LARGEST_ORIGINAL:
        return None
    return fetched.body if isinstance(fetched.body, bytes) else fetched.body.read_bytes()


def discard(fetched: Fetched) -> None:
    """Remove a source's temporary file, if it has one."""
    if not isinstance(fetched.body, bytes):
        with contextlib.suppress(OSError):  # it goes with its folder, when the worker ends
            fetched.body.unlink()

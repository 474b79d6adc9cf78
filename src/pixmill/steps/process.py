"""Take one image along its way: from a fetched source to a picture and its outcome."""

from __future__ import annotations

from dataclasses import dataclass

from pixmill.core.model import Failure, Fetched, Image, Outcome, Picture, Stored
from pixmill.core.options import Options
from pixmill.core.shards import image_key, original_key
from pixmill.ports import Blobs, Compress, Fetch

LARGEST_ORIGINAL = 5_000_000
"""Bytes of the largest source that is kept for the before-and-after pictures."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What an image meets on its way. Of each request, the first ``originals`` sources are kept."""

    fetch: Fetch
    compress: Compress
    blobs: Blobs
    originals: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """What came of an image: a picture that is not stored yet, or a failure.

    ``bytes_in`` is the size of the source; ``duration`` is seconds over all attempts.
    """

    image: Image
    made: Picture | Failure
    bytes_in: int
    attempts: int
    duration: float

    @property
    def bytes_out(self) -> int:
        """The size of the picture; 0 for a failure."""
        return len(self.made.data) if isinstance(self.made, Picture) else 0

    def stored(self) -> tuple[Outcome, dict[str, bytes]]:
        """The outcome to record, and the file (if any) that must be stored before."""
        if isinstance(self.made, Failure):
            return self._outcome(self.made), {}
        key = image_key(self.image.request_id, self.image.sequence, self.made.format)
        return self._outcome(self._stored(key, self.made)), {key: self.made.data}

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


def compress(tools: Tools, image: Image, fetched: Fetched, options: Options) -> Picture:
    """Compress a fetched source, which is gone afterwards.

    Raises ImageError for what is wrong with the image, StorageFailure for what is wrong with us.
    """
    try:
        picture = tools.compress(fetched, options)
        if image.sequence <= tools.originals:
            _keep_original(tools, image, fetched)
    finally:
        _discard(fetched)
    return picture


def _keep_original(tools: Tools, image: Image, fetched: Fetched) -> None:
    if fetched.size <= LARGEST_ORIGINAL:
        body = fetched.body if isinstance(fetched.body, bytes) else fetched.body.read_bytes()
        tools.blobs.put(original_key(image.request_id, image.sequence), body)


def _discard(fetched: Fetched) -> None:
    if not isinstance(fetched.body, bytes):
        fetched.body.unlink(missing_ok=True)

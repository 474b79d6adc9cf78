"""Take one image along its way: fetch, compress, put."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from pixmill.core.model import Fetched, Image, Picture, Stored
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


def store_picture(tools: Tools, image: Image, fetched: Fetched, options: Options) -> Stored:
    """Compress a fetched source and put the result at the image's key.

    Raises ImageError for what is wrong with the image, StorageFailure for what is wrong with us.
    """
    try:
        picture = tools.compress(fetched, options)
        if image.sequence <= tools.originals:
            _keep_original(tools, image, fetched)
    finally:
        _discard(fetched)
    key = image_key(image.request_id, image.sequence, picture.format)
    tools.blobs.put(key, picture.data)
    return _stored(key, fetched, picture)


def _stored(key: str, fetched: Fetched, picture: Picture) -> Stored:
    return Stored(
        key=key,
        format=picture.format,
        bytes_in=fetched.size,
        bytes_out=len(picture.data),
        width=picture.width,
        height=picture.height,
        source_format=picture.source_format,
        source_width=picture.source_width,
        source_height=picture.source_height,
        sha256=hashlib.sha256(picture.data).hexdigest(),
        notices=picture.notices,
    )


def _keep_original(tools: Tools, image: Image, fetched: Fetched) -> None:
    if fetched.size <= LARGEST_ORIGINAL:
        body = fetched.body if isinstance(fetched.body, bytes) else fetched.body.read_bytes()
        tools.blobs.put(original_key(image.request_id, image.sequence), body)


def _discard(fetched: Fetched) -> None:
    if not isinstance(fetched.body, bytes):
        fetched.body.unlink(missing_ok=True)

"""How a request is cut into shards, and how its files are named."""

from __future__ import annotations

SMALLEST_SHARD = 8
LARGEST_SHARD = 128
SHARDS_WANTED = 32


def shard_size(images: int) -> int:
    """Images in a shard of a request of ``images``.

    Small requests are cut finely, so that every worker gets a part; large ones coarsely, so that
    claims cost little. What a dying worker loses is at most one shard's unfinished images.
    """
    return max(SMALLEST_SHARD, min(LARGEST_SHARD, -(-images // SHARDS_WANTED)))


def image_key(request_id: str, sequence: int, format_name: str) -> str:
    """The key of a stored image: the same for every attempt, so that a rerun rewrites it."""
    return f"{images_of(request_id)}/{sequence:07d}.{EXTENSIONS.get(format_name, format_name)}"


def images_of(request_id: str) -> str:
    """The folder of a request's stored images."""
    return f"images/{request_id}"


def private_folders(request_id: str) -> tuple[str, ...]:
    """The folders of all else that is stored for a request."""
    return f"{PRIVATE}/sheets/{request_id}", f"{PRIVATE}/originals/{request_id}"


def sheet_key(request_id: str, name: str) -> str:
    """The key of a request's CSV: ``input``, ``output`` or ``errors``."""
    return f"{PRIVATE}/sheets/{request_id}/{name}.csv"


def original_key(request_id: str, sequence: int) -> str:
    """The key of a source image that is kept a while for the before-and-after pictures."""
    return f"{PRIVATE}/originals/{request_id}/{sequence:07d}"


EXTENSIONS = {"jpeg": "jpg"}
MEDIA_TYPES = {
    "avif": "image/avif",
    "jpg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
}
"""The media types of stored images, by the extensions of their keys."""

IMMUTABLE = "public, max-age=31536000, immutable"
"""What caches are told of a stored image: its bytes never change."""

PRIVATE = ".pixmill"
"""Keys below this are never served: uploads, sheets, sources kept for the report."""

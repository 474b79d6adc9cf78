"""Opens images with libvips: one named loader per format, and its errors in our words."""

from __future__ import annotations

import re
from typing import Any

import pyvips

from pixmill.core.errors import ImageError, ImageErrorCode
from pixmill.io.codec.sniff import SourceFormat

# Loaders are called by name, so libvips never gets to choose one by its own sniffing.
_LOADERS = {
    SourceFormat.JPEG: pyvips.Image.jpegload_buffer,
    SourceFormat.PNG: pyvips.Image.pngload_buffer,
    SourceFormat.WEBP: pyvips.Image.webpload_buffer,
    SourceFormat.GIF: pyvips.Image.gifload_buffer,
    SourceFormat.TIFF: pyvips.Image.tiffload_buffer,
    SourceFormat.HEIF: pyvips.Image.heifload_buffer,
    SourceFormat.AVIF: pyvips.Image.heifload_buffer,
}
# libheif files sizes that no picture has under the same heading, as a "security limit".
_OUT_OF_MEMORY = re.compile(
    "out of memory|insufficient memory|memory allocation(?!.*security limit)", re.IGNORECASE
)


def open_image(
    data: bytes, kind: SourceFormat, *, shrink: float = 1.0, fail_on: str = "error"
) -> Any:
    """The image, its header read and its pixels still to come, top to bottom, once.

    ``shrink`` is how many times smaller the picture will be made. What a decoder can give smaller
    at once, it does, but never within a factor of two: the rest is left to a better filter.
    Raises pyvips.Error.
    """
    options: dict[str, object] = {"access": "sequential", "fail_on": fail_on}
    if kind is SourceFormat.JPEG:
        options["shrink"] = next((step for step in (8, 4, 2) if shrink >= 2 * step), 1)
    if kind is SourceFormat.WEBP and shrink > 2:
        options["scale"] = 2 / shrink
    return _LOADERS[kind](data, **options)


def out_of_memory(error: Exception) -> bool:
    """Whether a library's error says that memory ran out."""
    return _OUT_OF_MEMORY.search(str(error)) is not None


def explain(error: Exception, kind: SourceFormat) -> Exception:
    """What to raise for a library's error: MemoryError, or an ImageError for people."""
    if out_of_memory(error):
        return MemoryError(str(error))
    if kind is SourceFormat.HEIF:
        return ImageError(
            ImageErrorCode.UNSUPPORTED_FORMAT,
            "The file is a HEIC/HEIF picture whose compression is not read here, or it is damaged."
            " Convert it to JPEG, PNG or WebP first.",
        )
    reason = str(error).strip().splitlines()[-1].strip() if str(error).strip() else "no reason"
    return ImageError(
        ImageErrorCode.CORRUPT_IMAGE,
        f"The {kind.upper()} file is damaged or cut short and cannot be decoded ({reason})."
        " Upload it again.",
    )

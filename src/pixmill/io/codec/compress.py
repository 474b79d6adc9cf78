"""Decides what becomes of an image, and does it: read, choose, encode, compare with the source."""

from __future__ import annotations

from typing import Any

import pyvips

from pixmill.core.errors import ImageError, ImageErrorCode
from pixmill.core.model import Notice, Picture
from pixmill.core.options import Format, Options
from pixmill.io.codec import turbo, vips
from pixmill.io.codec.exif import Exif, build_exif
from pixmill.io.codec.jpeg_segments import without_metadata
from pixmill.io.codec.limits import PixelLimits
from pixmill.io.codec.load import explain
from pixmill.io.codec.lossless import strip_png, strip_webp
from pixmill.io.codec.sniff import SourceFormat
from pixmill.io.codec.source import Source, read_source

__all__ = ["PixelLimits", "compare", "compress"]

_LARGEST_SIDE = {"jpeg": 65_500, "webp": 16_383, "avif": 16_384, "png": 1_000_000}
"""libjpeg's JPEG_MAX_DIMENSION, WEBP_MAX_DIMENSION, what libvips writes as AVIF; PNG has none."""

_CLEARLY_SMALLER = 0.5
"""Below this share of the source there is no need to look how much of it is metadata."""

_QUALITY_STEPS = (0.75, 0.5, 0.3, 0.15)
_PREVIEW_QUALITY = 92
_NO_LIMITS = PixelLimits(max_pixels=2**62, max_side=2**31)


def compress(data: bytes, options: Options, limits: PixelLimits) -> Picture:
    """Compress one image.

    Never larger than the source where the format stays the same: at the same size the source's
    own bytes are kept (without their metadata, if it is to go), at a smaller size the quality is
    lowered a few steps. Raises ImageError.
    """
    source = read_source(data, limits)
    target = _target_format(source, options)
    size = _fit(source.upright_size, options)
    _check_target_size(target, size)
    encoded, damaged = _encode(source, target, size, options.quality, options)
    notices = []
    if target == source.format:
        if size != source.upright_size or source.several_frames:
            encoded = _lower_quality(encoded, source, target, size, options)
        elif len(encoded) > len(data) * _CLEARLY_SMALLER:
            kept, kept_notices = _bare_source(source, options)
            if len(encoded) >= len(kept):
                encoded = kept
                notices += [Notice.KEPT_ORIGINAL, *kept_notices]
    if source.several_frames:
        notices.append(Notice.FIRST_FRAME_ONLY)
    if damaged:
        notices.append(Notice.DAMAGED)
    return Picture(
        encoded, target, *size, source.format.value, *source.upright_size, tuple(notices)
    )


def compare(
    before: bytes, after: bytes, width: int = 480, height: int = 320
) -> tuple[bytes, bytes]:
    """The same central part of both pictures at the same scale, as two JPEG files to look at.

    ``before`` is brought to the size of ``after``; the part is at most ``width`` x ``height``.
    Raises ImageError.
    """
    result = read_source(after, _NO_LIMITS)
    original = read_source(before, _NO_LIMITS)
    size = result.upright_size
    return _preview(original, size, width, height), _preview(result, size, width, height)


def _preview(source: Source, size: tuple[int, int], width: int, height: int) -> bytes:
    try:
        # Strictness off: whatever compress() accepted, damaged or not, is to be shown.
        image: Any = vips.prepare(source, "jpeg", size, Options(), fail_on="none")
        width, height = min(width, image.width), min(height, image.height)
        left, top = (image.width - width) // 2, (image.height - height) // 2
        part = image.crop(left, top, width, height)
        return bytes(part.jpegsave_buffer(Q=_PREVIEW_QUALITY, keep="none"))
    except pyvips.Error as error:
        raise explain(error, source.format) from error


def _target_format(source: Source, options: Options) -> str:
    """The format to write.

    ``auto``: WebP where pixels are transparent, else JPEG. ``keep``: the source's own; a GIF
    becomes PNG (few colours, without loss), and TIFF and HEIC become what ``auto`` gives.
    """
    if options.format is Format.KEEP:
        if source.format in ("jpeg", "png", "webp", "avif"):
            return source.format.value
        if source.format is SourceFormat.GIF:
            return "png"
    if options.format in (Format.KEEP, Format.AUTO):
        return "webp" if vips.has_transparency(source) else "jpeg"
    return options.format.value


def _fit(size: tuple[int, int], options: Options) -> tuple[int, int]:
    """The size within maxWidth and maxHeight that keeps the proportions. Only ever shrinks."""
    width, height = size
    scale = min(1.0, (options.max_width or width) / width, (options.max_height or height) / height)
    if scale == 1.0:
        return size
    return max(1, round(width * scale)), max(1, round(height * scale))


def _check_target_size(target: str, size: tuple[int, int]) -> None:
    if max(size) > _LARGEST_SIDE[target]:
        raise ImageError(
            ImageErrorCode.TOO_MANY_PIXELS,
            f"The image is {size[0]:,} x {size[1]:,} pixels; a {target.upper()} file holds at most"
            f" {_LARGEST_SIDE[target]:,} a side. Choose jpeg or set maxWidth and maxHeight.",
        )


def _encode(
    source: Source, target: str, size: tuple[int, int], quality: int, options: Options
) -> tuple[bytes, bool]:
    if target == "jpeg" and size == source.upright_size and turbo.suits(source, options):
        return turbo.recompress(source, quality)
    return vips.encode(source, target, size, quality, options)


def _lower_quality(
    encoded: bytes, source: Source, target: str, size: tuple[int, int], options: Options
) -> bytes:
    """The first of a few lower qualities that is no larger than the source, else the smallest."""
    if target == "png":
        return encoded  # without loss: there is no quality to lower
    for step in _QUALITY_STEPS:
        if len(encoded) <= len(source.data):
            break
        quality = max(1, round(options.quality * step))
        encoded = min(encoded, _encode(source, target, size, quality, options)[0], key=len)
    return encoded


def _bare_source(source: Source, options: Options) -> tuple[bytes, list[Notice]]:
    """The source's own bytes, without what is to be stripped, as far as that can be done.

    What a viewer needs to show the picture right stays: colour profile and orientation.
    """
    if not options.strip_metadata:
        return source.data, []
    wanted = source.exif if options.keep_copyright else Exif(source.exif.orientation)
    exif = build_exif(wanted)
    if source.jpeg is not None:
        return without_metadata(source.data, source.jpeg, exif), []
    match source.format:
        case SourceFormat.PNG:
            return strip_png(source.data, exif), []
        case SourceFormat.WEBP:
            return strip_webp(source.data, exif), []
        case _:
            return source.data, [Notice.METADATA_KEPT] if source.has_metadata else []

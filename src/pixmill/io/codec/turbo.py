"""JPEG to JPEG through libjpeg-turbo: half the CPU of libvips where nothing else is to be done."""

from __future__ import annotations

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from pixmill.core.errors import ImageError, ImageErrorCode
from pixmill.core.options import Effort, Options
from pixmill.io.codec.icc import is_srgb
from pixmill.io.codec.jpeg_segments import JpegHeader
from pixmill.io.codec.load import explain, out_of_memory
from pixmill.io.codec.sniff import SourceFormat
from pixmill.io.codec.source import Source

FINE_CHROMA_FROM = 90
"""From this quality on colour is kept at full resolution, as libvips and MozJPEG do."""

_MISSING = 128
"""What libjpeg puts where the data has run out: coefficients of zero, which is mid-gray."""

_MOST_MISSING = 0.5


def suits(source: Source, options: Options) -> bool:
    """Whether this path gives the right picture: 8-bit gray or colour, sRGB, upright, bare."""
    header = source.jpeg
    if header is None or header.precision != 8 or header.components not in (1, 3):
        return False
    exif = source.exif
    keeps_metadata = (
        source.has_metadata or source.profile is not None
        if not options.strip_metadata
        else options.keep_copyright and bool(exif.artist or exif.copyright)
    )
    return (
        options.effort is Effort.FAST
        and exif.orientation == 1
        and not keeps_metadata
        and (source.profile is None or is_srgb(source.profile))
    )


def recompress(source: Source, quality: int) -> tuple[bytes, bool]:
    """The JPEG file at this quality, and whether the source is damaged. Raises ImageError."""
    header = source.jpeg
    assert header is not None  # noqa: S101  # suits() has said so
    space = "GRAY" if header.components == 1 else "RGB"
    chroma = "444" if quality >= FINE_CHROMA_FROM else "420"
    # Colour that is halved again needs no smoothing in between: copying each sample is exact the
    # other way round, and saves a fifth of the decoder's time.
    copied = chroma == "420"
    damaged = False
    try:
        pixels = simplejpeg.decode_jpeg(source.data, space, fastupsample=copied)
    except ValueError as error:
        if out_of_memory(error):
            raise MemoryError(str(error)) from error
        refuse_if_mostly_missing(source.data, header)
        pixels = simplejpeg.decode_jpeg(source.data, space, fastupsample=copied, strict=False)
        damaged = True
    if space == "GRAY":
        return simplejpeg.encode_jpeg(pixels, quality, "GRAY", "Gray"), damaged
    return simplejpeg.encode_jpeg(pixels, quality, "RGB", chroma), damaged


def refuse_if_mostly_missing(data: bytes, header: JpegHeader) -> None:
    """Raise ImageError ``corrupt_image`` unless at least half of a damaged JPEG's rows are there.

    A file that ends early still decodes, with gray from there on. A strip that is missing at the
    bottom is worth a notice; a picture that is mostly gray is not the picture.
    """
    space = "CMYK" if header.components == 4 else "GRAY"
    try:
        # An eighth of the size is enough to see it, and costs next to nothing.
        small: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, space, min_height=1, min_width=1, min_factor=8, strict=False
        )
    except ValueError as error:
        raise explain(error, SourceFormat.JPEG) from error
    there = np.flatnonzero((small != _MISSING).any(axis=(1, 2)))
    missing = 1 - (there[-1] + 1) / len(small) if len(there) else 1.0
    if missing > _MOST_MISSING:
        raise ImageError(
            ImageErrorCode.CORRUPT_IMAGE,
            f"The JPEG file is cut short: {missing:.0%} of the picture is missing."
            " Upload it again.",
        )

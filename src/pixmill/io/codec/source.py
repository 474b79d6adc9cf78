"""What can be known of a source image before a pixel of it is decoded."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pyvips

from pixmill.core.errors import ImageError, ImageErrorCode
from pixmill.io.codec.exif import Exif, read_exif
from pixmill.io.codec.jpeg_segments import EXIF_PREFIX, JpegHeader, is_metadata, read_header
from pixmill.io.codec.limits import PixelLimits
from pixmill.io.codec.load import explain, open_image
from pixmill.io.codec.lossless import is_animated_png
from pixmill.io.codec.sniff import SourceFormat, sniff

_METADATA_FIELDS = frozenset({"exif-data", "xmp-data", "iptc-data", "photoshop-data"})


@dataclass(frozen=True, slots=True)
class Source:
    """A source image: its bytes and its header. ``width`` and ``height`` are as stored."""

    data: bytes
    format: SourceFormat
    width: int
    height: int
    exif: Exif
    profile: bytes | None
    has_metadata: bool
    has_alpha: bool = False
    has_palette: bool = False
    several_frames: bool = False
    jpeg: JpegHeader | None = None

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height as a viewer sees them."""
        if self.exif.sideways:
            return self.height, self.width
        return self.width, self.height


def read_source(data: bytes, limits: PixelLimits) -> Source:
    """Sniff the format, read the header, hold it against the limits. Raises ImageError."""
    kind = sniff(data)
    if kind is SourceFormat.JPEG:
        return _read_jpeg(data, limits)
    if kind is SourceFormat.PNG and len(data) >= 24:
        # IHDR comes first (PNG, 5.6): look before libpng allocates anything by it.
        width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
        _check_size(width, height, limits)
    return _read_by_loader(data, kind, limits)


def _read_jpeg(data: bytes, limits: PixelLimits) -> Source:
    header = read_header(data)
    _check_size(header.width, header.height, limits)
    return Source(
        data,
        SourceFormat.JPEG,
        header.width,
        header.height,
        exif=read_exif(header.exif),
        profile=header.icc_profile,
        has_metadata=any(map(is_metadata, header.segments)),
        jpeg=header,
    )


def _read_by_loader(data: bytes, kind: SourceFormat, limits: PixelLimits) -> Source:
    try:
        image = open_image(data, kind)
        fields = set(image.get_fields())
        exif = read_exif(
            image.get("exif-data").removeprefix(EXIF_PREFIX) if "exif-data" in fields else None
        )
        orientation = image.get("orientation") if "orientation" in fields else 1
        source = Source(
            data,
            kind,
            image.width,
            image.height,
            exif=replace(exif, orientation=orientation if 1 <= orientation <= 8 else 1),
            profile=image.get("icc-profile-data") if "icc-profile-data" in fields else None,
            has_metadata=bool(fields & _METADATA_FIELDS),
            has_alpha=image.hasalpha(),
            has_palette="palette" in fields,
            several_frames=("n-pages" in fields and image.get("n-pages") > 1)
            or (kind is SourceFormat.PNG and is_animated_png(data)),
        )
    except pyvips.Error as error:
        raise explain(error, kind) from error
    _check_size(source.width, source.height, limits)
    return source


def _check_size(width: int, height: int, limits: PixelLimits) -> None:
    if width * height > limits.max_pixels:
        raise ImageError(
            ImageErrorCode.TOO_MANY_PIXELS,
            f"The image has {width:,} x {height:,} pixels ({width * height / 1e6:,.1f} million);"
            f" at most {limits.max_pixels / 1e6:,.1f} million are allowed. Make it smaller first.",
        )
    if max(width, height) > limits.max_side:
        raise ImageError(
            ImageErrorCode.TOO_MANY_PIXELS,
            f"The image is {width:,} x {height:,} pixels; no side may be longer than"
            f" {limits.max_side:,}. Make it smaller first.",
        )

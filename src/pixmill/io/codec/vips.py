"""Every other way of a picture: libvips, from the loader to the encoder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyvips

from pixmill.core.options import Effort, Options
from pixmill.io.codec.exif import build_exif
from pixmill.io.codec.icc import is_srgb
from pixmill.io.codec.jpeg_segments import EXIF_PREFIX
from pixmill.io.codec.load import explain, open_image
from pixmill.io.codec.source import Source
from pixmill.io.codec.turbo import refuse_if_mostly_missing

_COLOUR_BANDS = 3

_JPEG_EFFORT: dict[Effort, dict[str, object]] = {
    Effort.FAST: {},
    Effort.BALANCED: {"optimize_coding": True, "interlace": True},
    Effort.MAX: {
        "optimize_coding": True,
        "interlace": True,
        "trellis_quant": True,
        "overshoot_deringing": True,
        "optimize_scans": True,
        "quant_table": 3,  # MozJPEG's own default, tuned on photographs
    },
}
_WEBP_EFFORT = {Effort.FAST: 2, Effort.BALANCED: 4, Effort.MAX: 6}
_PNG_COMPRESSION = {Effort.FAST: 6, Effort.BALANCED: 9, Effort.MAX: 9}
_EFFORT_MOST_PIXELS = 16_000_000
"""Larger WebP and PNG files are made with the fast settings, or they would outlast the CPU cap."""

_PNG_ALL_FILTERS = 0xF8

# CPU of one megapixel of AVIF: up to 0.4 s at effort 2, 0.6 s at 3, 3.5 s at 4 (and 13 s at 6, for
# 3 % fewer bytes). A picture that might not be done within the CPU cap gets a lower effort.
_AVIF_EFFORT = {Effort.FAST: 2, Effort.BALANCED: 3, Effort.MAX: 4}
_AVIF_MOST_PIXELS = {4: 3_000_000, 3: 12_000_000, 2: 20_000_000, 0: 2**62}


def encode(
    source: Source, target: str, size: tuple[int, int], quality: int, options: Options
) -> tuple[bytes, bool]:
    """The picture as a ``target`` file of ``size`` (upright), and whether the source is damaged.

    Raises ImageError.
    """
    try:
        try:
            # Only the JPEG loader tells damage that it got over apart from its errors.
            strictness = "warning" if source.jpeg else "error"
            image = prepare(source, target, size, options, strictness)
            return _save(image, source, target, quality, options), False
        except pyvips.Error as error:
            if source.jpeg is None:
                raise
            translated = explain(error, source.format)
            if isinstance(translated, MemoryError):
                raise translated from error
            refuse_if_mostly_missing(source.data, source.jpeg)
            image = prepare(source, target, size, options, "none")
            return _save(image, source, target, quality, options), True
    except pyvips.Error as error:
        raise explain(error, source.format) from error


def prepare(
    source: Source, target: str, size: tuple[int, int], options: Options, fail_on: str = "error"
) -> Any:
    """The picture as it is to be encoded: sized, in sRGB, flattened if need be, upright."""
    width, height = (size[1], size[0]) if source.exif.sideways else size
    shrink = min(source.width / width, source.height / height)
    image = open_image(source.data, source.format, shrink=shrink, fail_on=fail_on)
    image = _resize(_screen_bands(image), width, height)
    image = _to_srgb(image, source, keep_profile=not options.strip_metadata)
    if image.hasalpha() and target == "jpeg":
        image = _flatten(image, options.background_rgb)
    if source.exif.orientation != 1:
        # Turning needs the rows out of their order; by now the picture is as small as it gets.
        image = image.copy_memory().autorot()
    return image


def has_transparency(source: Source) -> bool:
    """Whether any pixel is not fully opaque. Decodes the image. Raises ImageError."""
    if not source.has_alpha:
        return False
    try:
        image = open_image(source.data, source.format)
        opaque = 65535 if image.format == "ushort" else 255
        return bool(image.extract_band(image.bands - 1).min() < opaque)
    except pyvips.Error as error:
        raise explain(error, source.format) from error


def _screen_bands(image: Any) -> Any:
    """Red, green and blue, or one gray, of a scientific TIFF with bands that no screen shows."""
    if image.interpretation == "cmyk" or (
        image.interpretation != "multiband" and image.bands <= _COLOUR_BANDS + 1
    ):
        return image
    deep = image.format == "ushort"
    if image.bands < _COLOUR_BANDS:
        return image[0].copy(interpretation="grey16" if deep else "b-w")
    image = image.extract_band(0, n=_COLOUR_BANDS)
    return image.copy(interpretation="rgb16" if deep else "srgb")


def _resize(image: Any, width: int, height: int) -> Any:
    if (image.width, image.height) == (width, height):
        return image
    pixel_type = image.format
    alpha = image.hasalpha()
    if alpha:
        image = image.premultiply()  # or the colour of invisible pixels bleeds into the edge
    image = image.resize(width / image.width, vscale=height / image.height)
    return image.unpremultiply().cast(pixel_type) if alpha else image


def _to_srgb(image: Any, source: Source, *, keep_profile: bool) -> Any:
    """8-bit gray or RGB as a browser shows it; an RGB or gray profile may be kept instead."""
    if image.interpretation == "cmyk":
        # Without a profile of its own, libvips' built-in one stands in (a common offset press).
        own = {"embedded": True} if source.profile else {}
        image = image.icc_transform("srgb", input_profile="cmyk", **own)
    elif source.profile and not keep_profile and not is_srgb(source.profile):
        image = _convert_profile(image)
    gray = image.bands < _COLOUR_BANDS
    image = image.colourspace("b-w" if gray else "srgb")
    return image if image.format == "uchar" else image.cast("uchar")


def _convert_profile(image: Any) -> Any:
    gray = image.bands < _COLOUR_BANDS
    converted = image.icc_transform("srgb", embedded=True, intent="relative", depth=8)
    return converted.colourspace("b-w") if gray else converted


def _flatten(image: Any, background: tuple[int, int, int]) -> Any:
    if image.bands > _COLOUR_BANDS:
        return image.flatten(background=list(background))
    red, green, blue = background
    if red == green == blue:
        return image.flatten(background=[red])
    return image.colourspace("srgb").flatten(background=list(background))


def _save(image: Any, source: Source, target: str, quality: int, options: Options) -> bytes:
    image, keep = _choose_metadata(image, source, options)
    pixels = image.width * image.height
    effort = options.effort if pixels <= _EFFORT_MOST_PIXELS else Effort.FAST
    match target:
        case "jpeg":
            data = image.jpegsave_buffer(Q=quality, keep=keep, **_JPEG_EFFORT[options.effort])
        case "webp":
            data = image.webpsave_buffer(Q=quality, effort=_WEBP_EFFORT[effort], keep=keep)
        case "avif":
            level = _avif_effort(options.effort, pixels)
            data = image.heifsave_buffer(Q=quality, compression="av1", effort=level, keep=keep)
        case _:
            data = image.pngsave_buffer(keep=keep, **_png_options(source, image, effort))
    return bytes(data)


def _choose_metadata(image: Any, source: Source, options: Options) -> tuple[Any, str]:
    """The image with the metadata it shall have, and libvips' word for what to write."""
    if not options.strip_metadata:
        wanted = source.has_metadata or source.profile is not None
        return image, "all" if wanted else "none"  # "all" would invent EXIF where there was none
    exif = build_exif(replace(source.exif, orientation=1)) if options.keep_copyright else None
    if exif is None:
        return image, "none"
    image = image.copy()
    for field in image.get_fields():
        if field.startswith("exif-"):
            image.remove(field)
    image.set_type(pyvips.GValue.blob_type, "exif-data", EXIF_PREFIX + exif)
    return image, "exif"


def _avif_effort(effort: Effort, pixels: int) -> int:
    return next(
        level
        for level, most_pixels in _AVIF_MOST_PIXELS.items()
        if level <= _AVIF_EFFORT[effort] and pixels <= most_pixels
    )


def _png_options(source: Source, image: Any, effort: Effort) -> dict[str, object]:
    """PNG is written without loss, so quality has no say; up to 256 colours stay a palette."""
    compression = _PNG_COMPRESSION[effort]
    same_colours = (image.width, image.height) == source.upright_size and not source.profile
    if source.has_palette and same_colours:
        return {"compression": compression, "palette": True, "Q": 100, "dither": 0.0}
    return {"compression": compression, "filter": _PNG_ALL_FILTERS}

"""Tells a file's format from its first bytes, and names what cannot be read."""

from __future__ import annotations

from enum import StrEnum

from pixmill.core.errors import ImageError, ImageErrorCode


class SourceFormat(StrEnum):
    """The formats that are read. Content-Type and file extension are never believed."""

    JPEG = "jpeg"
    PNG = "png"
    WEBP = "webp"
    GIF = "gif"
    TIFF = "tiff"
    HEIF = "heif"
    AVIF = "avif"


_READABLE = (
    (b"\xff\xd8\xff", SourceFormat.JPEG),
    (b"\x89PNG\r\n\x1a\n", SourceFormat.PNG),
    (b"GIF87a", SourceFormat.GIF),
    (b"GIF89a", SourceFormat.GIF),
    (b"II*\0", SourceFormat.TIFF),
    (b"MM\0*", SourceFormat.TIFF),
    (b"II+\0", SourceFormat.TIFF),  # BigTIFF
    (b"MM\0+", SourceFormat.TIFF),
)

# Pictures and documents that people do put behind an image URL, but that are not decoded here:
# either no loader exists, or the loader is too large a target for hostile files (SVG, PDF).
_UNSUPPORTED = (
    (b"%PDF-", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"8BPS", "a Photoshop file (PSD)"),
    (b"\0\0\1\0", "a Windows icon (ICO)"),
    (b"\0\0\2\0", "a Windows cursor (CUR)"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL picture"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"II\xbc", "a JPEG XR picture"),
    (b"gimp xcf", "a GIMP file"),
    (b"v/1\x01", "an OpenEXR picture"),
    (b"#?RADIANCE", "a Radiance HDR picture"),
    (b"qoif", "a QOI picture"),
    (b"DDS ", "a DirectDraw texture"),
)

_NOT_IMAGES = (
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "gzip-compressed data"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"\x1a\x45\xdf\xa3", "a video"),
    (b"OggS", "an audio or video file"),
    (b"ID3", "an audio file"),
)

_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_TARGA_FOOTER = b"TRUEVISION-XFILE.\0"


def sniff(data: bytes) -> SourceFormat:
    """The format of ``data``.

    Raises ImageError: ``empty``, ``unsupported_format`` (a picture or document of a kind that is
    not read, named) or ``not_an_image`` (anything else, named where it can be).
    """
    if not data:
        raise ImageError(ImageErrorCode.EMPTY, "The file is empty. Check what the URL serves.")
    for magic, readable in _READABLE:
        if data.startswith(magic):
            return readable
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return SourceFormat.WEBP
    if data[4:8] == b"ftyp":
        return _sniff_iso_media(data)
    _refuse(data)
    raise ImageError(
        ImageErrorCode.NOT_AN_IMAGE,
        "The file is not an image of any known kind. Check what the URL serves.",
    )


def _sniff_iso_media(data: bytes) -> SourceFormat:
    """HEIF, AVIF and films share one container; its brands tell them apart (ISO 14496-12, 4.3)."""
    box_size = min(int.from_bytes(data[:4], "big"), 256)
    brands = {data[8:12]} | {data[at : at + 4] for at in range(16, box_size - 3, 4)}
    if brands & _AVIF_BRANDS:
        return SourceFormat.AVIF
    if brands & _HEIF_BRANDS:
        return SourceFormat.HEIF
    raise _not_an_image("a video")


def _refuse(data: bytes) -> None:
    for magic, name in _UNSUPPORTED:
        if data.startswith(magic):
            raise _unsupported(name)
    for magic, name in _NOT_IMAGES:
        if data.startswith(magic):
            raise _not_an_image(name)
    # Two letters alone are too weak a sign: the reserved fields of a BMP header must be zero.
    if data.startswith(b"BM") and data[6:10] == b"\0\0\0\0":
        raise _unsupported("a Windows bitmap (BMP)")
    if data.endswith(_TARGA_FOOTER):
        raise _unsupported("a Targa picture (TGA)")
    _refuse_text(data)


def _refuse_text(data: bytes) -> None:
    start = _opening_text(data)
    if start is None:
        return
    if "<svg" in start:
        raise _unsupported("an SVG drawing")
    if start.startswith(("<!doctype html", "<html", "<head", "<body")) or "<html" in start:
        raise _not_an_image("a web page (HTML)", "The URL may need a login, or lead to an error.")
    if start.startswith("<"):
        raise _not_an_image("an XML document")
    if start.startswith(("{", "[")):
        raise _not_an_image("a JSON document")
    raise _not_an_image("plain text")


def _opening_text(data: bytes) -> str | None:
    """The first kilobyte in lower case if it reads as text, else None."""
    opening = data[:1024]
    if opening.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = opening.decode("utf-16", "replace")
    elif opening.translate(None, delete=_TEXT_BYTES):
        return None
    else:
        text = opening.decode("utf-8-sig", "replace")
    return text.lstrip("\ufeff \t\r\n").lower()


_TEXT_BYTES = bytes([*b"\t\n\f\r\x1b", *range(0x20, 0x7F), *range(0x80, 0x100)])


def _unsupported(name: str) -> ImageError:
    return ImageError(
        ImageErrorCode.UNSUPPORTED_FORMAT,
        f"The file is {name}, which is not read here. Convert it to JPEG, PNG or WebP first.",
    )


def _not_an_image(name: str, advice: str = "Check what the URL serves.") -> ImageError:
    return ImageError(ImageErrorCode.NOT_AN_IMAGE, f"The file is {name}, not an image. {advice}")

"""What cannot become a picture: each file ends in the right code, or in a notice."""

from __future__ import annotations

import gzip
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixmill.core.errors import ImageError, ImageErrorCode
from pixmill.core.model import Notice
from pixmill.core.options import Effort, Options
from pixmill.io.codec.compress import PixelLimits, compress
from pixmill.io.codec.sniff import SourceFormat, sniff
from tests.io import pictures

LIMITS = PixelLimits()
PHOTO = pictures.photo(480, 320)


def refusal(data: bytes, options: Options | None = None) -> ImageError:
    with pytest.raises(ImageError) as caught:
        compress(data, options or Options(), LIMITS)
    assert not caught.value.retryable
    return caught.value


@pytest.mark.parametrize(
    ("data", "code", "says"),
    [
        (b"", ImageErrorCode.EMPTY, "empty"),
        (b"<!DOCTYPE html><html><body>404", ImageErrorCode.NOT_AN_IMAGE, "web page"),
        (b"\xef\xbb\xbf\r\n <HTML>", ImageErrorCode.NOT_AN_IMAGE, "web page"),
        (b"<!-- hi -->\n<html lang='de'>", ImageErrorCode.NOT_AN_IMAGE, "web page"),
        (b'{"error":"not found"}', ImageErrorCode.NOT_AN_IMAGE, "JSON"),
        (b"<?xml version='1.0'?><Error/>", ImageErrorCode.NOT_AN_IMAGE, "XML"),
        (b"Not Found", ImageErrorCode.NOT_AN_IMAGE, "plain text"),
        (gzip.compress(b"x" * 99), ImageErrorCode.NOT_AN_IMAGE, "gzip"),
        (b"PK\x03\x04" + bytes(99), ImageErrorCode.NOT_AN_IMAGE, "ZIP"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", ImageErrorCode.NOT_AN_IMAGE, "video"),
        (b"\x93\x04\x88\x01" * 99, ImageErrorCode.NOT_AN_IMAGE, "known kind"),
        (b"<svg xmlns='x'/>", ImageErrorCode.UNSUPPORTED_FORMAT, "SVG"),
        (b"<?xml version='1.0'?><svg/>", ImageErrorCode.UNSUPPORTED_FORMAT, "SVG"),
        (b"%PDF-1.7 ...", ImageErrorCode.UNSUPPORTED_FORMAT, "PDF"),
        (b"BM\0\1\0\0\0\0\0\0" + bytes(50), ImageErrorCode.UNSUPPORTED_FORMAT, "BMP"),
        (b"\0\0\1\0\1\0" + bytes(50), ImageErrorCode.UNSUPPORTED_FORMAT, "ICO"),
        (b"8BPS\0\1" + bytes(50), ImageErrorCode.UNSUPPORTED_FORMAT, "PSD"),
        (b"\xff\x0a" + bytes(50), ImageErrorCode.UNSUPPORTED_FORMAT, "JPEG XL"),
        (bytes(50) + b"TRUEVISION-XFILE.\0", ImageErrorCode.UNSUPPORTED_FORMAT, "TGA"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", ImageErrorCode.UNSUPPORTED_FORMAT, "HEIC"),
        (b"\xff\xd8\xff\xe0 no more", ImageErrorCode.CORRUPT_IMAGE, "JPEG"),
        (b"\x89PNG\r\n\x1a\n", ImageErrorCode.CORRUPT_IMAGE, "PNG"),
        (b"GIF89a", ImageErrorCode.CORRUPT_IMAGE, "GIF"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", ImageErrorCode.CORRUPT_IMAGE, "WEBP"),
        (b"II*\0\x08\0\0\0", ImageErrorCode.CORRUPT_IMAGE, "TIFF"),
        (b"\0\0\0\x18ftypavif\0\0\0\0mif1avif", ImageErrorCode.CORRUPT_IMAGE, "AVIF"),
    ],
)
def test_each_file_is_refused_by_its_right_name(data, code, says):
    error = refusal(data)
    assert error.code is code
    assert says in error.message
    assert error.message.endswith((".", "first."))


def test_the_bytes_decide_the_format():
    assert sniff(pictures.png(PHOTO)) is SourceFormat.PNG
    assert sniff(b"II+\0" + bytes(9)) is SourceFormat.TIFF


@pytest.mark.parametrize(
    "file",
    [
        pictures.gigapixel_png(),
        pictures.resized_header(pictures.jpeg(PHOTO), 65_500, 65_500),
        pictures.resized_header(pictures.jpeg(PHOTO), 65_535, 10),
        b"GIF89a"
        + struct.pack("<HH", 65_000, 65_000)
        + b"\x80\0\0"
        + bytes(6)
        + b"\x2c"
        + struct.pack("<HHHH", 0, 0, 65_000, 65_000)
        + b"\0\x02\x02\x4c\x01\0;",
    ],
    ids=["gigapixel png", "jpeg header", "long side", "gif canvas"],
)
def test_too_many_pixels_are_refused_by_the_header(file):
    error = refusal(file)
    assert error.code is ImageErrorCode.TOO_MANY_PIXELS
    assert "Make it smaller" in error.message


@pytest.mark.parametrize("saver", [pictures.jpeg, pictures.png, pictures.webp])
def test_the_limits_are_inclusive(saver):
    file = saver(PHOTO)
    compress(file, Options(), PixelLimits(480 * 320, 480))
    for limits in (PixelLimits(480 * 320 - 1, 480), PixelLimits(480 * 320, 479)):
        with pytest.raises(ImageError) as caught:
            compress(file, Options(), limits)
        assert caught.value.code is ImageErrorCode.TOO_MANY_PIXELS


def test_compressed_metadata_is_not_unpacked_without_bound():
    for kind in (b"iCCP", b"zTXt"):
        bomb = pictures.with_chunks(
            pictures.png(PHOTO), pictures.chunk(kind, b"name\0\0" + pictures.zeros(300))
        )
        assert compress(bomb, Options(strip_metadata=False), LIMITS).width == 480


def test_a_hundred_thousand_frames_cost_one():
    picture = compress(pictures.gif_of_frames(100_000), Options(), LIMITS)
    assert picture.notices == (Notice.FIRST_FRAME_ONLY,)


def test_thousands_of_scans_are_refused_before_they_are_decoded():
    error = refusal(pictures.jpeg_of_scans(2_000, 7_000, 7_000))
    assert error.code is ImageErrorCode.CORRUPT_IMAGE
    assert "scans" in error.message


@pytest.mark.parametrize("options", [Options(), Options(max_width=100), Options(effort=Effort.MAX)])
@pytest.mark.parametrize("components", [1, 3, 4])
def test_a_jpeg_cut_short_is_damaged_or_corrupt_by_what_is_missing(options, components):
    image = {1: PHOTO[0], 3: PHOTO, 4: PHOTO.colourspace("cmyk")}[components]
    file = pictures.jpeg(image, 90)
    for tenths in range(10):
        cut = file[: len(file) * tenths // 10]
        if tenths >= 6:
            assert Notice.DAMAGED in compress(cut, options, LIMITS).notices, tenths
        elif tenths <= 4:
            error = refusal(cut, options)
            assert error.code in (ImageErrorCode.CORRUPT_IMAGE, ImageErrorCode.EMPTY)
    assert Notice.DAMAGED not in compress(file, options, LIMITS).notices


@pytest.mark.parametrize("options", [Options(), Options(max_width=100)])
def test_a_forged_size_with_hardly_any_data_is_corrupt(options):
    forged = pictures.resized_header(pictures.jpeg(PHOTO)[:900], 7_000, 7_000)
    error = refusal(forged, options)
    assert error.code is ImageErrorCode.CORRUPT_IMAGE
    assert "missing" in error.message


@pytest.mark.parametrize(
    "saver",
    [
        pictures.png,
        pictures.webp,
        lambda i: i.gifsave_buffer(),
        lambda i: i.tiffsave_buffer(compression="lzw"),
        lambda i: i.heifsave_buffer(compression="av1", effort=0),
    ],
)
def test_other_formats_cut_short_are_corrupt(saver):
    file = bytes(saver(PHOTO))
    for tenths in range(1, 10):
        assert refusal(file[: len(file) * tenths // 10]).code is ImageErrorCode.CORRUPT_IMAGE


def test_bytes_behind_the_end_are_no_damage():
    assert compress(pictures.jpeg(PHOTO) + b"more", Options(), LIMITS).notices == ()
    assert compress(pictures.png(PHOTO) + b"more", Options(), LIMITS).notices == ()


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400))
def test_random_bytes_are_refused(data):
    refusal(data)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(
        [
            b"\xff\xd8\xff",
            b"\xff\xd8\xff\xe1",
            b"\x89PNG\r\n\x1a\n",
            b"GIF89a",
            b"II*\0",
            b"RIFF\xff\0\0\0WEBPVP8X",
            b"\0\0\0\x18ftypavif",
        ]
    ),
    st.binary(),
)
def test_random_bytes_behind_a_magic_are_refused(magic, data):
    refusal(magic + data)

"""Metadata goes, stays, or goes in part, as asked; the picture never changes with it."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import pyvips
from hypothesis import given, settings
from hypothesis import strategies as st

from pixmill.core.model import Notice
from pixmill.core.options import Effort, Format, Options
from pixmill.io.codec.compress import PixelLimits, compress
from pixmill.io.codec.exif import Exif, build_exif, read_exif
from pixmill.io.codec.jpeg_segments import EXIF_PREFIX, read_header
from pixmill.io.codec.lossless import png_chunks
from tests.io import pictures

LIMITS = PixelLimits()
SECRET = b"52.5200 N 13.4050 E"
SIGNED = Exif(artist="Ana Müller".encode(), copyright=b"(c) 2026 Ana")
PHOTO = pictures.photo()
KEEP_ALL = Options(strip_metadata=False)


def gossip(file: bytes, exif: Exif = SIGNED) -> bytes:
    """The JPEG file with every kind of metadata that is met in the wild."""
    return (
        pictures.with_segments(
            file,
            pictures.exif_segment(exif),
            pictures.segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x>" + SECRET + b"</x>"),
            pictures.segment(0xED, b"Photoshop 3.0\0" + SECRET),
            pictures.segment(0xE2, b"MPF\0" + SECRET),
            pictures.segment(0xE9, SECRET),
            pictures.segment(0xFE, SECRET),
        )
        + b"trailing film"
        + SECRET
    )


def exif_of(file: bytes) -> Exif:
    """The fields of an output file, whatever its format."""
    image = pyvips.Image.new_from_buffer(file, "")
    if image.get_typeof("exif-data") == 0:
        return Exif()
    return read_exif(image.get("exif-data").removeprefix(EXIF_PREFIX))


def smallest() -> bytes:
    """A JPEG that no encoder makes smaller at quality 95."""
    return pictures.jpeg(PHOTO, 20, optimize_coding=True)


@pytest.mark.parametrize("effort", [Effort.FAST, Effort.BALANCED])
@pytest.mark.parametrize("target", [Format.JPEG, Format.WEBP, Format.PNG, Format.AVIF])
def test_nothing_of_the_metadata_is_left(target, effort):
    picture = compress(
        gossip(pictures.jpeg(PHOTO, 95)), Options(format=target, effort=effort), LIMITS
    )
    assert SECRET not in picture.data
    fields = pyvips.Image.new_from_buffer(picture.data, "").get_fields()
    assert not {"exif-data", "xmp-data", "iptc-data", "icc-profile-data"} & set(fields)


@pytest.mark.parametrize("target", [Format.JPEG, Format.WEBP, Format.PNG, Format.AVIF])
@pytest.mark.parametrize("limit", [None, 100])
def test_copyright_and_artist_are_all_that_is_kept_on_request(target, limit):
    file = gossip(pictures.jpeg(PHOTO, 95), Exif(6, SIGNED.artist, SIGNED.copyright))
    options = Options(format=target, keep_copyright=True, max_width=limit)
    picture = compress(file, options, LIMITS)
    assert exif_of(picture.data) == SIGNED
    assert SECRET not in picture.data


def test_metadata_is_kept_when_it_is_not_to_be_stripped_and_orientation_is_reset():
    stored = pictures.sideways(PHOTO, 6)
    file = gossip(pictures.jpeg(stored, 95), Exif(6, SIGNED.artist, SIGNED.copyright))
    picture = compress(file, KEEP_ALL, LIMITS)
    assert exif_of(picture.data) == SIGNED
    assert SECRET in picture.data
    assert (picture.width, picture.height) == (320, 200)
    difference = np.abs(pictures.pixels(picture.data).astype(int) - pictures.pixels(PHOTO))
    assert difference.mean() < 8


def test_a_colour_profile_is_kept_with_its_colours_when_metadata_is_kept():
    profile = pictures.matrix_profile(pictures.ADOBE_RGB, 563 / 256)
    patch = pictures.with_profile(pictures.patch((200, 60, 60)), profile)
    picture = compress(
        pictures.jpeg(patch, 100, keep="icc"), Options(strip_metadata=False, quality=99), LIMITS
    )
    assert pyvips.Image.new_from_buffer(picture.data, "").get("icc-profile-data") == profile
    assert np.abs(pictures.pixels(picture.data)[30, 30].astype(int) - (200, 60, 60)).max() <= 3


@pytest.mark.parametrize("effort", [Effort.FAST, Effort.BALANCED])
@pytest.mark.parametrize("target", [Format.JPEG, Format.WEBP, Format.PNG, Format.AVIF])
def test_a_file_without_metadata_gets_none(effort, target):
    options = Options(strip_metadata=False, effort=effort, format=target)
    picture = compress(pictures.jpeg(PHOTO, 95), options, LIMITS)
    assert pyvips.Image.new_from_buffer(picture.data, "").get_typeof("exif-data") == 0


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("keep_copyright", [False, True])
def test_a_kept_jpeg_loses_its_metadata_but_no_pixel(orientation, keep_copyright):
    bare = smallest()
    signed = Exif(orientation, SIGNED.artist, SIGNED.copyright)
    options = Options(quality=95, keep_copyright=keep_copyright)
    picture = compress(gossip(bare, signed), options, LIMITS)
    assert picture.notices == (Notice.KEPT_ORIGINAL,)
    assert SECRET not in picture.data
    assert (pictures.pixels(picture.data) == pictures.pixels(bare)).all()
    assert exif_of(picture.data) == (signed if keep_copyright else Exif(orientation))
    upright = (200, 320) if orientation == 6 else (320, 200)
    assert (picture.width, picture.height) == upright
    if orientation == 1 and not keep_copyright:
        assert picture.data == bare


def test_a_kept_jpeg_keeps_its_colour_profile_and_adobe_marker():
    profile = pictures.matrix_profile(pictures.ADOBE_RGB, 563 / 256)
    rich = pictures.jpeg(pictures.with_profile(PHOTO, profile), 20, keep="icc")
    cmyk = pictures.jpeg(PHOTO.colourspace("cmyk"), 5)
    for bare in (rich, cmyk):
        picture = compress(gossip(bare), Options(quality=95), LIMITS)
        assert picture.data == bare
        assert picture.notices == (Notice.KEPT_ORIGINAL,)


def test_a_kept_file_is_untouched_when_metadata_is_kept():
    file = gossip(smallest())
    picture = compress(file, Options(quality=95, strip_metadata=False), LIMITS)
    assert picture.data == file


def test_a_kept_png_loses_its_texts_but_no_pixel():
    bare = pictures.png(PHOTO, palette=True, effort=10)
    exif = build_exif(Exif(3, copyright=b"me"))
    assert exif is not None
    file = pictures.with_chunks(
        bare,
        pictures.chunk(b"tEXt", b"Comment\0" + SECRET),
        pictures.chunk(b"tIME", bytes(7)),
        pictures.chunk(b"prVt", SECRET),
        pictures.chunk(b"eXIf", exif),
    )
    picture = compress(file + SECRET, Options(format=Format.PNG), LIMITS)
    assert picture.notices == (Notice.KEPT_ORIGINAL,)
    assert SECRET not in picture.data
    assert exif_of(picture.data) == Exif(3)
    assert (pictures.pixels(picture.data) == pictures.pixels(bare)).all()
    kinds = {kind for kind, _, _ in png_chunks(picture.data)}
    assert kinds <= {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"eXIf", b"pHYs", b"tRNS", b"bKGD"}


@pytest.mark.parametrize("orientation", [1, 8])
def test_a_kept_webp_loses_its_metadata_but_no_pixel(orientation):
    image = PHOTO.copy()
    image.set_type(pyvips.GValue.blob_type, "xmp-data", SECRET)
    exif = build_exif(Exif(orientation, artist=b"someone"))
    image.set_type(pyvips.GValue.blob_type, "exif-data", EXIF_PREFIX + (exif or b""))
    file = bytes(image.webpsave_buffer(Q=5, effort=6, keep="all"))
    picture = compress(file, Options(quality=95, format=Format.WEBP), LIMITS)
    assert picture.notices == (Notice.KEPT_ORIGINAL,)
    assert SECRET not in picture.data
    assert exif_of(picture.data) == Exif(orientation)
    # The flags of VP8X announce what is there, no more (RFC 9649, 2.7.1).
    assert picture.data[20] & 0x0C == (0x08 if orientation != 1 else 0)
    assert struct.unpack("<I", picture.data[4:8])[0] == len(picture.data) - 8
    assert (pictures.pixels(picture.data) == pictures.pixels(file)).all()


def test_a_kept_avif_says_that_its_metadata_is_still_there():
    image = PHOTO.copy()
    image.set_type(pyvips.GValue.blob_type, "xmp-data", SECRET)
    file = bytes(image.heifsave_buffer(compression="av1", Q=5, keep="all"))
    picture = compress(file, Options(quality=100, format=Format.AVIF), LIMITS)
    assert picture.data == file
    assert picture.notices == (Notice.KEPT_ORIGINAL, Notice.METADATA_KEPT)


@settings(max_examples=50, deadline=None)
@given(
    st.builds(
        Exif,
        st.integers(1, 8),
        st.binary(max_size=40).map(lambda b: b.rstrip(b"\0 ")),
        st.binary(max_size=40).map(lambda b: b.rstrip(b"\0 ")),
    ),
    st.binary(max_size=200),
)
def test_exif_reads_back_what_it_writes_and_survives_anything(exif, junk):
    assert read_exif(build_exif(exif)) == exif
    read_exif(b"II*\0" + junk)
    read_exif(b"MM\0*\0\0\0\x08" + junk)


def test_stray_bytes_between_segments_do_not_hide_the_header():
    file = pictures.jpeg(PHOTO)
    at = file.index(b"\xff\xdb")
    header = read_header(file[:at] + b"\0\0\xff" + file[at:])
    assert (header.width, header.height) == (320, 200)

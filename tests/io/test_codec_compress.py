"""What becomes of an image: format, size, orientation, notices, and never a larger file."""

from __future__ import annotations

import numpy as np
import pytest
import pyvips

from pixmill.core.errors import ImageError, ImageErrorCode
from pixmill.core.model import Notice
from pixmill.core.options import Effort, Format, Options
from pixmill.io.codec.compress import PixelLimits, compare, compress
from pixmill.io.codec.exif import Exif
from pixmill.io.codec.sniff import sniff
from tests.io import pictures

LIMITS = PixelLimits()
PHOTO = pictures.photo(400, 260)
SAVERS = {
    "jpeg": lambda image: pictures.jpeg(image, 90),
    "png": pictures.png,
    "webp": lambda image: pictures.webp(image, Q=90),
    "gif": lambda image: bytes(image.gifsave_buffer()),
    "tiff": lambda image: bytes(image.tiffsave_buffer(compression="lzw")),
    "avif": lambda image: bytes(image.heifsave_buffer(compression="av1", Q=80, effort=0)),
}


def distance(left: bytes | object, right: bytes | object) -> float:
    a, b = pictures.pixels(left), pictures.pixels(right)
    assert a.shape == b.shape
    return float(np.abs(a.astype(int) - b).mean())


@pytest.mark.parametrize("source", SAVERS)
@pytest.mark.parametrize("target", [Format.JPEG, Format.PNG, Format.WEBP, Format.AVIF])
def test_every_format_that_is_read_becomes_every_format_that_is_written(source, target):
    picture = compress(SAVERS[source](PHOTO), Options(quality=80, format=target), LIMITS)
    assert (picture.format, picture.source_format) == (target.value, source)
    assert sniff(picture.data) == target.value
    assert (picture.width, picture.height) == (400, 260)
    assert (picture.source_width, picture.source_height) == (400, 260)
    assert distance(picture.data, PHOTO) < 8


@pytest.mark.parametrize("target", ["jpeg", "webp", "avif", "png"])
@pytest.mark.parametrize("effort", list(Effort))
def test_every_effort_gives_the_picture(target, effort):
    options = Options(quality=60, format=Format(target), effort=effort)
    assert distance(compress(pictures.png(PHOTO), options, LIMITS).data, PHOTO) < 9


def test_more_effort_makes_smaller_jpegs():
    sizes = [
        len(compress(pictures.jpeg(PHOTO, 92), Options(effort=effort), LIMITS).data)
        for effort in (Effort.FAST, Effort.BALANCED, Effort.MAX)
    ]
    assert sizes[0] > sizes[1] > sizes[2]


@pytest.mark.parametrize(
    ("source", "bands", "wanted", "target"),
    [
        ("png", (9, 9, 9), Format.AUTO, "jpeg"),
        ("png", (9, 9, 9, 255), Format.AUTO, "jpeg"),
        ("png", (9, 9, 9, 254), Format.AUTO, "webp"),
        ("webp", (9, 9, 9, 100), Format.AUTO, "webp"),
        ("png", (9, 9, 9), Format.KEEP, "png"),
        ("webp", (9, 9, 9), Format.KEEP, "webp"),
        ("jpeg", (9, 9, 9), Format.KEEP, "jpeg"),
        ("avif", (9, 9, 9), Format.KEEP, "avif"),
        ("gif", (9, 9, 9), Format.KEEP, "png"),
        ("tiff", (9, 9, 9), Format.KEEP, "jpeg"),
        ("tiff", (9, 9, 9, 100), Format.KEEP, "webp"),
    ],
)
def test_auto_and_keep_choose_the_format(source, bands, wanted, target):
    picture = compress(SAVERS[source](pictures.patch(bands)), Options(format=wanted), LIMITS)
    assert (picture.format, sniff(picture.data)) == (target, target)


@pytest.mark.parametrize("source", SAVERS)
@pytest.mark.parametrize(
    ("limits", "size"),
    [
        ({"max_width": 100}, (100, 65)),
        ({"max_height": 130}, (200, 130)),
        ({"max_width": 100, "max_height": 10}, (15, 10)),
        ({"max_width": 399}, (399, 259)),
        ({"max_width": 401, "max_height": 9999}, (400, 260)),
        ({"max_width": 1}, (1, 1)),
    ],
)
def test_limits_only_shrink_and_keep_the_proportions(source, limits, size):
    picture = compress(SAVERS[source](PHOTO), Options(quality=90, **limits), LIMITS)
    assert (picture.width, picture.height) == size
    assert pictures.pixels(picture.data).shape[:2] == size[::-1]


def test_a_shrunk_jpeg_is_as_good_as_a_full_decode_and_resize():
    big = pictures.photo(1600, 1000)
    wanted = big.resize(0.1)
    shrunk = compress(
        pictures.jpeg(big, 95), Options(quality=95, format=Format.PNG, max_width=160), LIMITS
    )
    assert distance(shrunk.data, wanted) < 1.5


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("source", ["jpeg", "png", "webp", "tiff"])
@pytest.mark.parametrize("limit", [None, 100])
def test_every_orientation_gives_the_same_upright_picture(orientation, source, limit):
    stored = pictures.sideways(PHOTO, orientation)
    if source == "jpeg":
        exif = pictures.exif_segment(Exif(orientation))
        file = pictures.with_segments(pictures.jpeg(stored, 95), exif)
    else:
        stored = stored.copy()
        stored.set_type(pyvips.GValue.gint_type, "orientation", orientation)
        save = {"png": "pngsave_buffer", "webp": "webpsave_buffer", "tiff": "tiffsave_buffer"}
        file = bytes(getattr(stored, save[source])())
    options = Options(quality=90, max_width=limit)
    picture = compress(file, options, LIMITS)
    wanted = PHOTO if limit is None else PHOTO.resize(limit / 400)
    assert (picture.width, picture.height) == (wanted.width, wanted.height)
    assert (picture.source_width, picture.source_height) == (400, 260)
    assert distance(picture.data, wanted) < 8
    assert b"Exif" not in picture.data


def test_an_incompressible_original_is_kept_byte_for_byte():
    small = compress(pictures.jpeg(PHOTO), Options(), LIMITS).data
    for effort in (Effort.FAST, Effort.BALANCED):
        again = compress(small, Options(quality=95, effort=effort), LIMITS)
        assert again.data == small
        assert again.notices == (Notice.KEPT_ORIGINAL,)
    for file, wanted in (
        (pictures.webp(PHOTO, Q=5), Format.WEBP),
        (pictures.png(PHOTO, palette=True, effort=10), Format.KEEP),
        (bytes(PHOTO.heifsave_buffer(compression="av1", Q=5, keep="none")), Format.AVIF),
    ):
        kept = compress(file, Options(quality=100, format=wanted), LIMITS)
        assert (kept.data, kept.notices) == (file, (Notice.KEPT_ORIGINAL,))


def test_the_same_format_is_never_larger_than_the_source():
    for quality in (5, 30, 60, 95):
        for saver in ("jpeg", "png", "webp", "avif"):
            file = {
                "jpeg": lambda q=quality: pictures.jpeg(PHOTO, q),
                "png": lambda: pictures.png(PHOTO, palette=True),
                "webp": lambda q=quality: pictures.webp(PHOTO, Q=q),
                "avif": lambda: SAVERS["avif"](PHOTO),
            }[saver]()
            result = compress(file, Options(quality=90, format=Format(saver)), LIMITS)
            assert len(result.data) <= len(file)


def test_a_shrunk_picture_gives_up_quality_before_it_outgrows_its_source():
    file = pictures.jpeg(PHOTO, 30)
    result = compress(file, Options(quality=90, max_width=390), LIMITS)
    assert len(result.data) <= len(file)
    assert result.width == 390
    assert result.notices == ()


def test_the_first_frame_of_an_animation_is_taken_and_said():
    red, blue = pictures.patch((250, 0, 0)), pictures.patch((0, 0, 250))
    film = red.join(blue, "vertical").copy()
    film.set_type(pyvips.GValue.gint_type, "page-height", 64)
    files = [
        bytes(film.gifsave_buffer()),
        bytes(film.webpsave_buffer(lossless=True)),
        bytes(film.tiffsave_buffer()),
        pictures.with_chunks(pictures.png(red), pictures.chunk(b"acTL", b"\0\0\0\2\0\0\0\0")),
    ]
    for file in files:
        picture = compress(file, Options(format=Format.PNG), LIMITS)
        assert Notice.FIRST_FRAME_ONLY in picture.notices
        assert (picture.width, picture.height) == (64, 64)
        assert [int(v) for v in pictures.pixels(picture.data)[32, 32][:3]] == [250, 0, 0]
    for saver in SAVERS.values():
        still = compress(saver(PHOTO), Options(format=Format.PNG), LIMITS)
        assert Notice.FIRST_FRAME_ONLY not in still.notices


def test_an_animation_in_the_wanted_format_still_becomes_one_frame():
    film = pictures.patch((250, 0, 0)).join(pictures.patch((0, 0, 250)), "vertical").copy()
    film.set_type(pyvips.GValue.gint_type, "page-height", 64)
    file = bytes(film.webpsave_buffer(lossless=True))
    picture = compress(file, Options(quality=100, format=Format.WEBP), LIMITS)
    assert picture.notices == (Notice.FIRST_FRAME_ONLY,)
    assert pyvips.Image.new_from_buffer(picture.data, "").get_typeof("n-pages") == 0 or (
        pyvips.Image.new_from_buffer(picture.data, "").get("n-pages") == 1
    )


def test_a_side_that_the_format_cannot_hold_is_refused_with_advice():
    file = pictures.png(pictures.patch((1, 2, 3), 17_000, 4))
    with pytest.raises(ImageError, match="Choose jpeg or set maxWidth") as caught:
        compress(file, Options(format=Format.WEBP), LIMITS)
    assert caught.value.code is ImageErrorCode.TOO_MANY_PIXELS
    assert compress(file, Options(format=Format.WEBP, max_width=500), LIMITS).width == 500
    assert compress(file, Options(), LIMITS).width == 17_000


def test_comparing_shows_the_same_part_of_both_at_one_scale():
    big = pictures.photo(1600, 1000)
    before = pictures.with_segments(
        pictures.jpeg(pictures.sideways(big, 6), 95), pictures.exif_segment(Exif(6))
    )
    after = compress(before, Options(quality=80, max_width=800), LIMITS)
    left, right = compare(before, after.data)
    assert pictures.pixels(left).shape == (320, 480, 3)
    assert distance(left, right) < 5
    assert distance(right, big.resize(0.5).crop(160, 90, 480, 320)) < 6
    tiny = pictures.png(pictures.patch((10, 20, 30), 50, 40))
    assert pictures.pixels(compare(tiny, tiny)[0]).shape == (40, 50, 3)

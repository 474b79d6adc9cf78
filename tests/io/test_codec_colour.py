"""Colour stays true: profiles, CMYK, gray, deep and transparent pixels, seen on the pixels."""

from __future__ import annotations

import numpy as np
import pytest
import pyvips
from hypothesis import given, settings
from hypothesis import strategies as st

from pixmill.core.options import Effort, Format, Options
from pixmill.io.codec import turbo
from pixmill.io.codec.compress import PixelLimits, compress
from pixmill.io.codec.icc import is_srgb
from pixmill.io.codec.source import read_source
from tests.io import pictures

LIMITS = PixelLimits()
TO_PNG = Options(format=Format.PNG)
BUILT_IN_SRGB = bytes(pyvips.Image.profile_load("srgb"))
BUILT_IN_P3 = bytes(pyvips.Image.profile_load("p3"))
ADOBE_RGB = pictures.matrix_profile(pictures.ADOBE_RGB, 563 / 256)


def middle(data: bytes) -> list[int]:
    array = pictures.pixels(data)
    return [int(v) for v in array[array.shape[0] // 2, array.shape[1] // 2]]


def expected_srgb(colour: tuple[int, ...], primaries: object, gamma: float) -> np.ndarray:
    linear = (np.array(colour) / 255) ** gamma
    xyz = np.array(primaries).T @ linear
    srgb = np.linalg.inv(np.array(pictures.SRGB).T) @ xyz
    srgb = srgb.clip(0, 1)
    encoded = np.where(srgb <= 0.0031308, 12.92 * srgb, 1.055 * srgb ** (1 / 2.4) - 0.055)
    return encoded * 255


@pytest.mark.parametrize("colour", [(200, 60, 60), (60, 160, 90), (40, 70, 190), (128, 128, 128)])
@pytest.mark.parametrize("save", [pictures.png, pictures.jpeg, pictures.webp])
def test_a_wide_profile_becomes_the_right_srgb_values(save, colour):
    image = pictures.with_profile(pictures.patch(colour), ADOBE_RGB)
    quality = {"quality": 100} if save is pictures.jpeg else {}
    file = save(image, keep="icc", **quality)
    for options in (TO_PNG, Options(quality=100)):
        picture = compress(file, options, LIMITS)
        wanted = expected_srgb(colour, pictures.ADOBE_RGB, 563 / 256)
        # WebP holds colour at half resolution and limited range, hence its wider tolerance.
        tolerance = 6 if save is pictures.webp else 4
        assert np.abs(np.array(middle(picture.data)) - wanted).max() <= tolerance
        assert b"ICC_PROFILE" not in picture.data
        assert b"iCCP" not in picture.data


def test_display_p3_is_converted_and_not_just_dropped():
    file = pictures.jpeg(
        pictures.with_profile(pictures.patch((200, 80, 80)), BUILT_IN_P3), 100, keep="icc"
    )
    red, green, blue = middle(compress(file, TO_PNG, LIMITS).data)
    assert red > 210
    assert green < 76
    assert blue < 78


def test_a_profile_that_cannot_be_read_counts_as_srgb():
    file = pictures.jpeg(
        pictures.with_profile(pictures.patch((200, 80, 80)), b"junk" * 100), 100, keep="icc"
    )
    assert np.abs(np.array(middle(compress(file, TO_PNG, LIMITS).data)) - (200, 80, 80)).max() <= 2


def test_srgb_is_recognised_by_what_it_does():
    assert is_srgb(BUILT_IN_SRGB)
    assert is_srgb(BUILT_IN_SRGB.replace(b"sRGB", b"Foo!"))
    assert not is_srgb(BUILT_IN_P3)
    assert not is_srgb(ADOBE_RGB)
    assert not is_srgb(pictures.matrix_profile(pictures.SRGB, 1.8))
    assert not is_srgb(bytes(pyvips.Image.profile_load("cmyk")))
    assert not is_srgb(b"")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(BUILT_IN_SRGB) - 1), st.integers(0, 255))
def test_a_broken_profile_never_raises(at, value):
    is_srgb(BUILT_IN_SRGB[:at])
    is_srgb(BUILT_IN_SRGB[:at] + bytes([value]) + BUILT_IN_SRGB[at + 1 :])


def test_only_srgb_jpegs_take_the_fast_path():
    def suits(file: bytes, options: Options | None = None) -> bool:
        return turbo.suits(read_source(file, LIMITS), options or Options())

    photo = pictures.photo()
    assert suits(pictures.jpeg(photo))
    assert suits(pictures.jpeg(pictures.with_profile(photo, BUILT_IN_SRGB), keep="icc"))
    assert suits(pictures.jpeg(photo, interlace=True))
    assert suits(pictures.jpeg(photo[0]))
    assert not suits(pictures.jpeg(pictures.with_profile(photo, BUILT_IN_P3), keep="icc"))
    assert not suits(pictures.jpeg(photo.colourspace("cmyk")))
    assert not suits(pictures.jpeg(photo), Options(effort=Effort.BALANCED))
    assert not suits(pictures.png(photo))


def test_both_jpeg_paths_show_the_same_picture():
    file = pictures.jpeg(pictures.photo(640, 400), 90)
    fast = pictures.pixels(compress(file, Options(), LIMITS).data)
    other = pictures.pixels(compress(file, Options(effort=Effort.BALANCED), LIMITS).data)
    assert np.abs(fast.astype(int) - other).mean() < 1.5


@pytest.mark.parametrize(
    ("ink", "low", "high"),
    [
        ((0, 0, 0, 0), (250, 250, 250), (255, 255, 255)),
        ((0, 0, 0, 255), (0, 0, 0), (70, 70, 70)),
        ((255, 0, 0, 0), (0, 120, 190), (60, 190, 255)),
        ((0, 255, 0, 0), (190, 0, 90), (255, 60, 170)),
        ((0, 0, 255, 0), (230, 210, 0), (255, 255, 60)),
    ],
)
@pytest.mark.parametrize("own_profile", [False, True])
def test_cmyk_inks_look_like_their_colours(ink, low, high, own_profile):
    image = pictures.patch(ink).copy(interpretation="cmyk")
    if own_profile:
        image = pictures.with_profile(image, bytes(pyvips.Image.profile_load("cmyk")))
    file = pictures.jpeg(image, 100, keep="icc" if own_profile else "none")
    colour = np.array(middle(compress(file, TO_PNG, LIMITS).data))
    assert (colour >= low).all(), colour
    assert (colour <= high).all(), colour


def test_gray_stays_gray():
    gray = pictures.photo(bands=1)
    for file in (pictures.jpeg(gray), pictures.png(gray)):
        for options in (Options(), Options(max_width=100), Options(effort=Effort.MAX)):
            assert pictures.pixels(compress(file, options, LIMITS).data).shape[2] == 1


def test_deep_pixels_become_eight_bits_without_a_shift():
    deep = pictures.image_of(np.full((40, 60, 3), (65535, 32896, 257), dtype=np.uint16))
    picture = compress(pictures.png(deep), TO_PNG, LIMITS)
    assert middle(picture.data) == [255, 128, 1]
    gray = pictures.image_of(np.full((40, 60, 1), 32896, dtype=np.uint16))
    assert middle(compress(pictures.png(gray), TO_PNG, LIMITS).data) == [128]


@pytest.mark.parametrize("bands", [5, 7])
def test_bands_that_no_screen_shows_are_left_out(bands):
    image = pictures.photo(bands=bands).copy(interpretation="multiband")
    file = bytes(image.tiffsave_buffer())
    for options in (TO_PNG, Options(), Options(max_width=100)):
        assert pictures.pixels(compress(file, options, LIMITS).data).shape[2] == 3
    seen = pictures.pixels(compress(file, TO_PNG, LIMITS).data)
    assert (seen == pictures.pixels(image)[:, :, :3]).all()


def test_palettes_and_single_bits_are_read():
    flat = pictures.image_of(np.repeat(np.array([[[250, 20, 30], [0, 90, 200]]], np.uint8), 40, 0))
    palette = pictures.png(flat.resize(20, kernel="nearest"), palette=True)
    array = pictures.pixels(compress(palette, TO_PNG, LIMITS).data)
    assert {tuple(p) for p in array.reshape(-1, 3)} == {(250, 20, 30), (0, 90, 200)}
    bits = pictures.png(pictures.image_of(np.eye(64, dtype=np.uint8)[:, :, None] * 255), bitdepth=1)
    assert pictures.pixels(compress(bits, Options(quality=95), LIMITS).data).max() > 200


@pytest.mark.parametrize("background", ["#ffffff", "#336699", "#000000"])
def test_transparency_is_flattened_onto_the_background(background):
    options = Options(quality=100, background=background)
    under = np.array(options.background_rgb)
    for alpha in (0, 128, 255):
        flat = compress(pictures.png(pictures.patch((200, 100, 50, alpha))), options, LIMITS)
        wanted = (np.array((200, 100, 50)) * alpha + under * (255 - alpha)) / 255
        assert np.abs(np.array(middle(flat.data)) - wanted).max() <= 2
    gray = compress(pictures.png(pictures.patch((200, 0))), options, LIMITS)
    assert np.abs(np.resize(middle(gray.data), 3) - under).max() <= 1


def test_deep_transparency_is_flattened_alike():
    deep = pictures.image_of(np.full((40, 60, 4), (51400, 25700, 12850, 32896), dtype=np.uint16))
    flat = compress(pictures.png(deep), Options(quality=100), LIMITS)
    assert np.abs(np.array(middle(flat.data)) - (227, 177, 152)).max() <= 2


def test_the_colour_of_invisible_pixels_does_not_bleed_when_shrinking():
    array = np.zeros((200, 200, 4), np.uint8)
    array[:, :, 1] = 255  # invisible green
    array[50:150, 50:150] = (255, 0, 0, 255)
    options = Options(format=Format.PNG, max_width=33)
    small = pictures.pixels(compress(pictures.png(pictures.image_of(array)), options, LIMITS).data)
    visible = small[small[:, :, 3] > 20]
    assert visible[:, 1].max() <= 2


def test_webp_and_png_keep_transparency():
    file = pictures.png(pictures.patch((200, 100, 50, 128)))
    for wanted in (Format.WEBP, Format.PNG, Format.AVIF):
        array = pictures.pixels(compress(file, Options(format=wanted), LIMITS).data)
        assert array.shape[2] == 4
        assert abs(int(array[30, 30, 3]) - 128) <= 3

"""Make the pictures of the sample catalogue from public-domain photographs.

The results are committed; run this only to change them. It needs the pictures that come inside
scikit-image's package (see NOTICE for who made them), which pixmill itself does not:

    pip install scikit-image==0.26.0
    python examples/make_catalogue.py
"""

from __future__ import annotations

import importlib.util
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyvips

from profiles import display_p3, light_to_inks, press_cmyk

HERE = Path(__file__).parent
IMAGES = HERE / "catalogue" / "images"

SOURCES = {
    "cup": "coffee.png",
    "cat": "chelsea.png",
    "suit": "astronaut.png",
    "launch": "rocket.jpg",
    "stars": "hubble_deep_field.jpg",
    "camera": "camera.png",
    "brick": "brick.png",
    "grass": "grass.png",
    "gravel": "gravel.png",
    "horse": "horse.png",
}
# The textures are grey in the package; as products they need their colour back.
TINTS = {"brick": ((58, 24, 14), (226, 150, 118)), "grass": ((14, 26, 6), (196, 226, 120))}


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture: a part of a source (left, top, width, height, 0 to 1) at a size in pixels."""

    path: str
    source: str
    part: tuple[float, float, float, float]
    size: tuple[int, int]
    options: dict[str, object] = field(default_factory=lambda: {"Q": 90})
    treat: Callable[[pyvips.Image], pyvips.Image] | None = None
    grain: float = 2.6


def turned(image: pyvips.Image) -> pyvips.Image:
    """Store it lying on its side with a note to turn it, as telephones do (orientation 6)."""
    lying = image.rot270().copy()
    lying.set_type(pyvips.GValue.gint_type, "orientation", 6)
    exif = {
        "ifd0-Artist": "Sample photographer",
        "ifd0-Copyright": "CC0",
        "ifd3-GPSLatitude": "52/1 30/1 0/1",
        "ifd3-GPSLatitudeRef": "N",
    }
    for name, text in exif.items():
        lying.set_type(pyvips.GValue.gstr_type, f"exif-{name}", text)
    return lying


def wide_gamut(image: pyvips.Image) -> pyvips.Image:
    """Convert to P3 and make use of it: richer colours than sRGB can hold."""
    with TemporaryDirectory() as folder:
        profile = Path(folder) / "p3.icc"
        profile.write_bytes(display_p3())
        rich = image.colourspace("lch") * [1.02, 1.35, 1]
        rich = rich.copy(interpretation="lch").colourspace("lab")
        return rich.icc_export(output_profile=str(profile), depth=8).copy_memory()


def for_press(image: pyvips.Image, profile: bytes | None) -> pyvips.Image:
    """Separate into inks, with the profile that says what they look like or without one."""
    light = image.colourspace("scrgb").numpy().astype(np.float64)
    inks = np.round(light_to_inks(light) * 255).astype(np.uint8)
    separated = pyvips.Image.new_from_array(inks).copy(interpretation="cmyk")
    if profile:
        separated.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    return separated


def press(image: pyvips.Image) -> pyvips.Image:
    """A picture for print as it should be: with its profile."""
    return for_press(image, press_cmyk())


def plain_press(image: pyvips.Image) -> pyvips.Image:
    """A picture for print as it comes all too often."""
    return for_press(image, None)


def sixteen_bit(image: pyvips.Image) -> pyvips.Image:
    """Spread over 16 bits, as scanners deliver."""
    return (image.colourspace("rgb16") * 1.0).cast("ushort").copy(interpretation="rgb16")


def spinning(image: pyvips.Image) -> pyvips.Image:
    """Four frames under each other: what the GIF writer takes for an animation."""
    frames = [image, image.fliphor(), image.rot180(), image.flipver()]
    strip = pyvips.Image.arrayjoin(frames, across=1).copy()
    strip.set_type(pyvips.GValue.gint_type, "page-height", image.height)
    return strip


def cut_out(image: pyvips.Image) -> pyvips.Image:
    """Keep what is dark; the rest is transparent, and black underneath, which must not show."""
    cover = image.flatten(background=255).colourspace("b-w").invert()
    black = pyvips.Image.black(image.width, image.height, bands=3)
    return black.bandjoin(cover).copy(interpretation="srgb")


WHOLE = (0.0, 0.0, 1.0, 1.0)
SHOTS = (
    Shot("cup-front.jpg", "cup", WHOLE, (1800, 1200), {"Q": 86}),
    Shot("cup-detail.jpg", "cup", (0.22, 0.0, 0.5, 0.75), (1200, 1200)),
    Shot("cup-top.webp", "cup", (0.25, 0.02, 0.5, 0.6), (1250, 1000), {"Q": 85}),
    Shot("cup-spoon.jpg", "cup", (0.5, 0.5, 0.3, 0.45), (800, 800)),
    Shot("board-grain.jpg", "cup", (0.7, 0.5, 0.3, 0.45), (1200, 1200), {"Q": 88}, grain=3.2),
    Shot("board-corner.jpg", "cup", (0.0, 0.6, 0.2, 0.4), (900, 1200), {"Q": 85}),
    Shot("cushion-front.jpg", "cat", WHOLE, (1500, 1000)),
    Shot("cushion-phone.jpg", "cat", (0.2, 0.05, 0.6, 0.95), (1080, 1140), {"Q": 88}, turned),
    Shot("cushion-eye.png", "cat", (0.28, 0.25, 0.2, 0.3), (240, 240), {}, grain=1.0),
    Shot("cushion-thumb.jpg", "cat", WHOLE, (150, 100), {"Q": 22, "keep": "none"}, grain=0.0),
    Shot("suit-front.jpg", "suit", (0.0, 0.36, 0.72, 0.64), (1440, 1280), {"Q": 86}),
    Shot("suit-badge.jpg", "suit", (0.22, 0.64, 0.3, 0.2), (1200, 800)),
    Shot("suit-press.jpg", "suit", (0.0, 0.36, 0.72, 0.64), (810, 720), {"Q": 70}, press),
    Shot("shuttle-model.jpg", "suit", (0.66, 0.0, 0.28, 0.58), (800, 1650)),
    Shot("w_600,h_900/shuttle-side.jpg", "suit", (0.7, 0.05, 0.2, 0.3), (600, 900)),
    Shot("launch-print.jpg", "launch", WHOLE, (1920, 1280), {"Q": 86, "interlace": True}),
    Shot("launch-vivid.jpg", "launch", (0.3, 0.2, 0.5, 0.8), (960, 1024), {"Q": 90}, wide_gamut),
    Shot("launch-press.jpg", "launch", (0.3, 0.2, 0.5, 0.8), (600, 640), {"Q": 70}, plain_press),
    Shot("stars-print.jpg", "stars", WHOLE, (1204, 1050), {"Q": 82}, grain=1.0),
    Shot("stars-detail.jpg", "stars", (0.55, 0.45, 0.4, 0.4), (1000, 872), {"Q": 88}, grain=1.5),
    Shot("stars-scan.png", "stars", (0.1, 0.55, 0.2, 0.2), (200, 174), {}, sixteen_bit, 0.0),
    Shot("tripod-use.jpg", "camera", (0.2, 0.05, 0.8, 0.95), (1100, 1306), {"Q": 88}),
    Shot("tripod-legs.jpg", "camera", (0.42, 0.45, 0.4, 0.55), (1024, 1408), {"Q": 85}),
    Shot("bricks-wall.jpg", "brick", (0.05, 0.05, 0.9, 0.6), (1500, 1000), {"Q": 86}),
    Shot("bricks-close.webp", "brick", (0.1, 0.5, 0.4, 0.4), (1000, 1000), {"Q": 80}),
    Shot("turf-front.jpg", "grass", (0.0, 0.0, 1.0, 0.75), (1200, 900), {"Q": 82}, grain=0.0),
    Shot("turf-close.jpg", "grass", (0.3, 0.3, 0.5, 0.5), (800, 800), {"Q": 85}, grain=1.0),
    Shot("gravel-front.jpg", "gravel", WHOLE, (1000, 1000), {"Q": 82}, grain=0.0),
    Shot("gravel-spin.gif", "gravel", (0.3, 0.3, 0.3, 0.3), (120, 120), {}, spinning, 0.0),
    Shot("horse-sticker.png", "horse", WHOLE, (1200, 984), {}, cut_out, 0.0),
    Shot("horse-white.jpg", "horse", WHOLE, (880, 722), {"Q": 95}, grain=0.0),
)


def open_source(folder: Path, name: str) -> pyvips.Image:
    """Open a source picture, with its colour if it has a tint."""
    image = pyvips.Image.new_from_file(str(folder / SOURCES[name])).copy_memory().copy()
    for metadata in set(image.get_fields()) - set(pyvips.Image.black(1, 1).get_fields()):
        image.remove(metadata)
    if name in TINTS:
        dark, light = (np.array(colour, dtype=float) for colour in TINTS[name])
        image = image.bandjoin([image, image]) * ((light - dark) / 255).tolist() + dark.tolist()
        image = image.cast("uchar").copy(interpretation="srgb")
    return image


def take(image: pyvips.Image, shot: Shot) -> pyvips.Image:
    """Crop, enlarge and sharpen, and add the grain that an enlarged picture lacks."""
    left, top, width, height = shot.part
    box = (left * image.width, top * image.height, width * image.width, height * image.height)
    image = image.crop(*(round(side) for side in box)).copy_memory()
    horizontal, vertical = shot.size[0] / image.width, shot.size[1] / image.height
    image = image.resize(horizontal, vscale=vertical, kernel="lanczos3")
    if image.hasalpha():
        return image if shot.path.endswith(".png") else image.flatten(background=255)
    if horizontal > 1:
        image = image.sharpen(sigma=1.2, m2=2.2)
    return _grained(image, shot) if shot.grain else image


def _grained(image: pyvips.Image, shot: Shot) -> pyvips.Image:
    seed = sum(map(ord, shot.path))
    noise = np.random.default_rng(seed).normal(0, shot.grain, (image.height, image.width, 1))
    pixels = image.numpy().reshape(image.height, image.width, image.bands) + noise
    grained = np.round(pixels).clip(0, 255).astype(np.uint8)
    return pyvips.Image.new_from_array(grained, interpretation=image.interpretation)


def write_shot(folder: Path, shot: Shot) -> None:
    """Make one picture of the table."""
    image = take(open_source(folder, shot.source), shot)
    if shot.treat:
        image = shot.treat(image)
    target = IMAGES / shot.path
    target.parent.mkdir(parents=True, exist_ok=True)
    image.write_to_file(str(target), **shot.options)


def write_broken() -> None:
    """The files that no catalogue is without: cut short, not a picture at all, garbage."""
    whole = (IMAGES / "tripod-use.jpg").read_bytes()
    (IMAGES / "tripod-cut-short.jpg").write_bytes(whole[: len(whole) * 2 // 5])
    noise = random.Random(1).randbytes(4000)  # noqa: S311  # sample data, not a secret
    (IMAGES / "bricks-garbage.jpg").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + noise)
    (IMAGES / "gravel-sign-in.jpg").write_text(
        "<!doctype html>\n<title>Please sign in</title>\n<p>Your session has ended.</p>\n"
    )


def main() -> None:
    """Write every picture into catalogue/images."""
    found = importlib.util.find_spec("skimage")
    if found is None or found.origin is None:
        sys.exit("The source pictures are missing: pip install scikit-image==0.26.0")
    for shot in SHOTS:
        write_shot(Path(found.origin).parent / "data", shot)
    write_broken()
    files = [path for path in IMAGES.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    print(f"{len(files)} files, {size / 1e6:.1f} MB in {IMAGES}")


if __name__ == "__main__":
    main()

"""Photographs for the benchmarks, made from the sample catalogue: always the same ones."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyvips
import simplejpeg
from numpy.typing import NDArray

CATALOGUE = Path(__file__).parent.parent / "examples" / "catalogue" / "images"
COUNT = 48


@dataclass(frozen=True, slots=True)
class Size:
    """A kind of benchmark picture: pixels, and the mean of the file sizes in bytes."""

    name: str
    width: int
    height: int
    bytes: int


SMALL = Size("800×500, 70 kB", 800, 500, 70_000)
LARGE = Size("1600×1000, 310 kB", 1600, 1000, 310_000)


def make_pictures(folder: Path, size: Size, count: int = COUNT) -> list[Path]:
    """Make ``count`` different JPEGs (4:2:0) of a size; those that exist are taken as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:03d}.jpg" for number in range(count)]
    if not all(path.exists() for path in paths):
        photographs = _photographs()
        for number, path in enumerate(paths):
            path.write_bytes(_picture(photographs, number, size))
    return paths


def _photographs() -> list[pyvips.Image]:
    """The catalogue's colour photographs that are large enough to cut from."""
    found = []
    for path in sorted(CATALOGUE.glob("*.jpg")):
        try:
            image = pyvips.Image.new_from_file(str(path)).copy_memory()
        except pyvips.Error:  # the catalogue holds broken ones on purpose
            continue
        if image.interpretation == "srgb" and image.bands == 3 and image.width >= 900:
            found.append(image)
    if not found:
        sys.exit(f"There are no photographs in {CATALOGUE}.")
    return found


def _picture(photographs: list[pyvips.Image], number: int, size: Size) -> bytes:
    """A crop of a photograph, scaled to the size and compressed to its bytes."""
    rng = np.random.default_rng(number)
    image = photographs[number % len(photographs)]
    scale = rng.uniform(0.7, 1.0) * min(image.width / size.width, image.height / size.height)
    width, height = int(size.width * scale), int(size.height * scale)
    left = int(rng.integers(0, image.width - width + 1))
    top = int(rng.integers(0, image.height - height + 1))
    crop = image.crop(left, top, width, height)
    scaled = crop.thumbnail_image(size.width, height=size.height, size="force")
    return _compressed(scaled.numpy(), size.bytes)


def _compressed(pixels: NDArray[np.uint8], wanted: int) -> bytes:
    """The JPEG that comes closest to a number of bytes, by search over the quality."""
    low, high = 20, 98
    while low < high:
        quality = (low + high) // 2
        low, high = (quality + 1, high) if len(_jpeg(pixels, quality)) < wanted else (low, quality)
    around = (_jpeg(pixels, low - 1), _jpeg(pixels, low))
    return min(around, key=lambda jpeg: abs(len(jpeg) - wanted))


def _jpeg(pixels: NDArray[np.uint8], quality: int) -> bytes:
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality, "RGB", "420"))

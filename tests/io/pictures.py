"""Makes the images that the tests need: ordinary, difficult and hostile ones."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyvips
from numpy.typing import NDArray

from pixmill.io.codec.exif import Exif, build_exif
from pixmill.io.codec.jpeg_segments import EXIF_PREFIX

ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
"""Primaries as X Y Z under D50, from the published profiles of these names."""


def pixels(data: bytes | Any) -> NDArray[Any]:
    """The pixels of an image file, as height x width x bands."""
    image = pyvips.Image.new_from_buffer(data, "") if isinstance(data, bytes) else data
    array: NDArray[Any] = image.numpy()
    return array if array.ndim == 3 else array[:, :, np.newaxis]


def photo(width: int = 320, height: int = 200, seed: int = 1, bands: int = 3) -> Any:
    """Smooth shapes with some grain, as photographs have. Its four corners differ in colour."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    layers = []
    for _ in range(bands):
        fx, fy, phase = rng.uniform((0.01, 0.01, 0), (0.06, 0.06, 6))
        slope = 60 * np.sign(rng.uniform(-1, 1)) * (x / width - y / height)
        layers.append(120 + slope + 50 * np.sin(fx * x + fy * y + phase))
    noisy = np.stack(layers, axis=2) + rng.normal(0, 5, (height, width, bands))
    return image_of(noisy.clip(0, 255).astype(np.uint8))


def image_of(array: NDArray[Any]) -> Any:
    """A libvips image of these pixels."""
    bands = array.shape[2]
    interpretation = (
        ("rgb16" if array.dtype == np.uint16 else "srgb")
        if bands > 2
        else ("grey16" if array.dtype == np.uint16 else "b-w")
    )
    image = pyvips.Image.new_from_memory(
        array.tobytes(),
        array.shape[1],
        array.shape[0],
        bands,
        "ushort" if array.dtype == np.uint16 else "uchar",
    )
    return image.copy(interpretation=interpretation)


def patch(colour: Sequence[int], width: int = 64, height: int = 64) -> Any:
    """One flat colour."""
    return image_of(np.full((height, width, len(colour)), colour, dtype=np.uint8))


def jpeg(image: Any | None = None, quality: int = 85, **options: object) -> bytes:
    """A bare JPEG file."""
    image = photo() if image is None else image
    return bytes(image.jpegsave_buffer(Q=quality, **{"keep": "none", **options}))


def png(image: Any | None = None, **options: object) -> bytes:
    """A bare PNG file."""
    image = photo() if image is None else image
    return bytes(image.pngsave_buffer(**{"keep": "none", **options}))


def webp(image: Any | None = None, **options: object) -> bytes:
    """A bare WebP file."""
    image = photo() if image is None else image
    return bytes(image.webpsave_buffer(**{"keep": "none", "effort": 1, **options}))


def with_profile(image: Any, profile: bytes) -> Any:
    """The image with an ICC profile attached; save it with ``keep="icc"``."""
    image = image.copy()
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    return image


def segment(marker: int, payload: bytes) -> bytes:
    """A JPEG marker segment."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(payload) + 2) + payload


def with_segments(file: bytes, *segments: bytes) -> bytes:
    """The JPEG file with more segments, at its start."""
    return file[:2] + b"".join(segments) + file[2:]


def exif_segment(exif: Exif) -> bytes:
    """An APP1 segment with these fields."""
    return segment(0xE1, EXIF_PREFIX + (build_exif(exif) or b"MM\0*\0\0\0\x08\0\0\0\0\0\0"))


def sideways(image: Any, orientation: int) -> Any:
    """The pixels as a camera stores them when ``orientation`` is what turns them upright."""
    turned = {
        1: lambda i: i,
        2: lambda i: i.fliphor(),
        3: lambda i: i.rot180(),
        4: lambda i: i.flipver(),
        5: lambda i: i.rot90().fliphor(),
        6: lambda i: i.rot270(),
        7: lambda i: i.rot270().fliphor(),
        8: lambda i: i.rot90(),
    }
    return turned[orientation](image)


def chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunks(file: bytes, *chunks: bytes) -> bytes:
    """The PNG file with more chunks behind IHDR."""
    return file[:33] + b"".join(chunks) + file[33:]


def matrix_profile(primaries: Sequence[Sequence[float]], gamma: float) -> bytes:
    """A minimal ICC display profile: three primaries, one gamma (ICC.1:2022, 8.3)."""

    def xyz(values: Sequence[float]) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(v * 65536)) for v in values)

    text = b"made for a test\0"
    curve = b"curv\0\0\0\0" + struct.pack(">IHH", 1, round(gamma * 256), 0)
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(79),
        b"cprt": b"text\0\0\0\0" + text,
        b"wtpt": xyz((0.9642, 1.0, 0.8249)),
        **{name: xyz(v) for name, v in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    size = start + len(body)
    header = struct.pack(">I4sI4s4s4s", size, b"none", 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">iii", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + table + body


@lru_cache(maxsize=1)
def zeros(mebibytes: int) -> bytes:
    """Zeros, deflated: about a thousandth of what it unpacks to."""
    packer = zlib.compressobj(9)
    block = bytes(1 << 20)
    return b"".join(packer.compress(block) for _ in range(mebibytes)) + packer.flush()


def gigapixel_png() -> bytes:
    """2.5 gigapixels of one bit in 300 kB, well-formed."""
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 1, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zeros(300)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def resized_header(file: bytes, width: int, height: int) -> bytes:
    """The JPEG file with another size written into its frame header."""
    at = max(file.find(b"\xff\xc0"), file.find(b"\xff\xc2"))
    return file[: at + 5] + struct.pack(">HH", height, width) + file[at + 9 :]


def gif_of_frames(count: int) -> bytes:
    """A GIF of ``count`` frames of 10 x 10 pixels."""
    frame = b"\x21\xf9\x04\0\x01\0\0\0\x2c" + struct.pack("<HHHH", 0, 0, 10, 10)
    frame += b"\0\x02\x02\x4c\x01\0"
    return b"GIF89a" + struct.pack("<HH", 10, 10) + b"\x80\0\0" + bytes(6) + frame * count + b";"


def jpeg_of_scans(count: int, width: int = 2000, height: int = 2000) -> bytes:
    """A progressive JPEG whose last scan comes ``count`` times."""
    file = jpeg(photo(64, 64), interlace=True)
    scan = file[file.rindex(b"\xff\xda") : -2]
    return resized_header(file[:-2] + scan * count + b"\xff\xd9", width, height)

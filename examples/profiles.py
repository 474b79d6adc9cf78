"""Two small colour profiles, built from published numbers, so that the samples need nobody's."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

D50 = np.array([0.9642, 1.0, 0.8249])

# Display P3 (SMPTE EG 432-1 primaries, D65), adapted to D50 as ICC.1:2022 asks.
P3_COLORANTS = (
    (0.51512, 0.24120, -0.00105),
    (0.29198, 0.69225, 0.04189),
    (0.15710, 0.06657, 0.78407),
)
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)  # IEC 61966-2-1

# How much a full layer of each ink darkens red, green and blue light: invented, but like offset
# inks on coated paper, so that ignoring the profile shows.
INK_DENSITIES = np.array(
    [
        [2.6, 0.75, 0.20],  # cyan
        [0.16, 2.7, 0.75],  # magenta
        [0.03, 0.12, 2.5],  # yellow
        [2.9, 2.9, 2.8],  # black
    ]
)
LINEAR_SRGB_TO_D50 = np.array(
    [
        [0.4360, 0.3851, 0.1431],
        [0.2225, 0.7169, 0.0606],
        [0.0139, 0.0971, 0.7141],
    ]
)
CLUT_POINTS = 9


def display_p3() -> bytes:
    """A matrix profile with the primaries of Display P3 and the sRGB curve."""
    curve = b"para" + struct.pack(">IHH", 0, 3, 0) + b"".join(map(_fixed, SRGB_CURVE))
    tags = {b"desc": _text("Sample wide gamut (P3)"), b"cprt": _text("CC0"), b"wtpt": _xyz(*D50)}
    for name, colorant in zip((b"r", b"g", b"b"), P3_COLORANTS, strict=True):
        tags[name + b"XYZ"] = _xyz(*colorant)
        tags[name + b"TRC"] = curve
    return _profile(tags, kind=b"mntr", space=b"RGB ", connection=b"XYZ ", version=0x04300000)


def press_cmyk() -> bytes:
    """A table profile of an imaginary press: inks to colours only, which is all a reader needs."""
    steps = np.linspace(0, 1, CLUT_POINTS)
    inks = np.stack(np.meshgrid(steps, steps, steps, steps, indexing="ij"), axis=-1)
    lab = _lab(inks_to_light(inks.reshape(-1, 4)))
    # 16-bit Lab as version 2 profiles have it (ICC.1:2001-04, 6.5.10): 0xFF00 is L* 100.
    table = (
        np.round((lab + np.array([0, 128, 128])) * [652.8, 256, 256]).clip(0, 65535).astype(">u2")
    )
    identity = [0x10000 if row == column else 0 for row in range(3) for column in range(3)]
    straight = struct.pack(">2H", 0, 65535)
    a2b = b"mft2" + struct.pack(">IBBBx9I2H", 0, 4, 3, CLUT_POINTS, *identity, 2, 2)
    a2b += straight * 4 + table.astype(">u2").tobytes() + straight * 3
    tags = {
        b"desc": _old_description("Sample press CMYK"),
        b"cprt": b"text" + bytes(4) + b"CC0\0",
        b"wtpt": _xyz(*D50),
        b"A2B0": a2b,
    }
    return _profile(tags, kind=b"prtr", space=b"CMYK", connection=b"Lab ", version=0x02400000)


def inks_to_light(inks: Floats) -> Floats:
    """Linear sRGB light that is left after the inks (0 to 1 each; densities add up)."""
    return np.exp(-(inks @ INK_DENSITIES))


def light_to_inks(light: Floats) -> Floats:
    """The inks that leave this light: the exact opposite, with some of the grey made of black."""
    wanted = -np.log(np.maximum(light, 0.002))
    black = 0.6 * wanted.min(axis=-1, keepdims=True) / INK_DENSITIES[3].max()
    colours = (wanted - black * INK_DENSITIES[3]) @ np.linalg.inv(INK_DENSITIES[:3])
    return np.concatenate([colours, black], axis=-1).clip(0, 1)


def _lab(light: Floats) -> Floats:
    ratio = light @ LINEAR_SRGB_TO_D50.T / D50
    root = np.where(ratio > 216 / 24389, np.cbrt(ratio), (ratio * 24389 / 27 + 16) / 116)
    x, y, z = root[:, 0], root[:, 1], root[:, 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def _profile(
    tags: dict[bytes, bytes], *, kind: bytes, space: bytes, connection: bytes, version: int
) -> bytes:
    offset = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = struct.pack(">I4xI", offset + len(body), version) + kind + space + connection
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    header += b"".join(map(_fixed, D50))
    return header.ljust(128, b"\0") + table + body


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _xyz(*values: float) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(map(_fixed, values))


def _text(text: str) -> bytes:
    encoded = text.encode("utf-16-be")
    return b"mluc" + struct.pack(">III2s2sII", 0, 1, 12, b"en", b"US", len(encoded), 28) + encoded


def _old_description(text: str) -> bytes:
    ascii_text = text.encode() + b"\0"
    return b"desc" + struct.pack(">II", 0, len(ascii_text)) + ascii_text + bytes(8 + 3 + 67)

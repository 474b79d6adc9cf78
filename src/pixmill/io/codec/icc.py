"""Recognises an sRGB colour profile by what it does, not by its name (ICC.1:2022)."""

from __future__ import annotations

from functools import lru_cache

# The primaries of sRGB adapted to D50, as columns X Y Z (IEC 61966-2-1 with Bradford).
_SRGB_COLORANTS = {
    b"rXYZ": (0.4361, 0.2225, 0.0139),
    b"gXYZ": (0.3851, 0.7169, 0.0971),
    b"bXYZ": (0.1431, 0.0606, 0.7141),
}
_COLORANT_TOLERANCE = 0.003
_CURVE_TOLERANCE = 1.5 / 255
"""On the encoded scale: less than what JPEG itself moves, far less than the eye sees."""

_PROBES = tuple(step / 16 for step in range(1, 16))


@lru_cache(maxsize=32)
def is_srgb(profile: bytes) -> bool:
    """Whether pixels under this profile can be shown as sRGB unchanged.

    A gray profile counts if its curve is that of sRGB. Anything that cannot be read, or that works
    by look-up tables, is not recognised: converting is then the safe way.
    """
    try:
        tags = _tags(profile)
        space = profile[16:20]
        if any(tag in tags for tag in (b"A2B0", b"A2B1", b"A2B2")):
            return False
        if space == b"GRAY":
            return _is_srgb_curve(tags[b"kTRC"])
        if space != b"RGB ":
            return False
        return all(map(_is_srgb_curve, (tags[b"rTRC"], tags[b"gTRC"], tags[b"bTRC"]))) and all(
            abs(is_ - should) < _COLORANT_TOLERANCE
            for tag, wanted in _SRGB_COLORANTS.items()
            for is_, should in zip(_fixed(tags[tag][8:20]), wanted, strict=True)
        )
    except (ArithmeticError, KeyError, TypeError, ValueError):
        return False


def _tags(profile: bytes) -> dict[bytes, bytes]:
    count = min(int.from_bytes(profile[128:132], "big"), 100)
    tags = {}
    for at in range(132, 132 + 12 * count, 12):
        start, size = (int.from_bytes(profile[at + i : at + i + 4], "big") for i in (4, 8))
        tags[profile[at : at + 4]] = profile[start : start + size]
    return tags


def _fixed(data: bytes) -> list[float]:
    """Numbers of the type s15Fixed16."""
    return [
        int.from_bytes(data[at : at + 4], "big", signed=True) / 65536
        for at in range(0, len(data), 4)
    ]


def _is_srgb_curve(tag: bytes) -> bool:
    return all(
        abs(_encode_srgb(_linear(tag, probe)) - probe) < _CURVE_TOLERANCE for probe in _PROBES
    )


def _encode_srgb(linear: float) -> float:
    if linear <= 0.0031308:
        return 12.92 * linear
    return float(1.055 * linear ** (1 / 2.4) - 0.055)


def _linear(tag: bytes, x: float) -> float:
    """The curve's value at ``x``: a table, a gamma or a formula (ICC.1:2022, 10.6 and 10.18)."""
    if tag[:4] == b"para":
        return _parametric(int.from_bytes(tag[8:10], "big"), _fixed(tag[12:]), x)
    if tag[:4] != b"curv":
        raise ValueError(tag[:4])
    count = int.from_bytes(tag[8:12], "big")
    if count == 0:
        return x
    if count == 1:
        return float(x ** (_entry(tag, 0) / 256))
    position = x * (count - 1)
    low, high = _entry(tag, int(position)), _entry(tag, int(position) + 1)
    return (low + (high - low) * (position % 1)) / 65535


def _entry(tag: bytes, index: int) -> int:
    return int.from_bytes(tag[12 + 2 * index : 14 + 2 * index], "big")


def _parametric(kind: int, values: list[float], x: float) -> float:
    g, a, b, c, d, e, f = [*values[:7], *(0.0 for _ in range(7 - len(values)))]
    if kind == 0:
        return float(x**g)
    if kind == 3:
        return float((a * x + b) ** g) if x >= d else c * x
    if kind == 4:
        return float((a * x + b) ** g + e) if x >= d else c * x + f
    raise ValueError(kind)

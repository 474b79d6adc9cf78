"""How large a picture may be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PixelLimits:
    """How large a picture may be, in pixels: altogether, and on its longer side."""

    max_pixels: int = 50_000_000
    max_side: int = 65_500

"""What one download may cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Bounds on one image's way from its server.

    Sizes are bytes, times are seconds. ``deadline`` covers everything, all redirects included;
    ``stall`` is how long nothing may arrive; a body above ``spill_bytes`` moves from memory to a
    temporary file.
    """

    max_bytes: int = 50 * 2**20
    max_redirects: int = 5
    deadline: float = 60.0
    stall: int = 15
    connect_timeout: float = 10.0
    spill_bytes: int = 4 * 2**20

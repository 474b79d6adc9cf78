"""How many cores and worker processes there are to be."""

from __future__ import annotations

import math
import os
from pathlib import Path

CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")
"""Which share of its machine's cores a container may use: microseconds, in how many of them."""


def cores() -> int:
    """Processor cores that this process may use; of a part of one, the whole."""
    allowed = len(os.sched_getaffinity(0))
    try:
        quota, _, period = CPU_LIMIT.read_text().partition(" ")
    except OSError:  # no container, or one without such limits
        return allowed
    return allowed if quota.strip() == "max" else min(allowed, math.ceil(int(quota) / int(period)))


def few_workers() -> int:
    """One worker for every four cores: what one pump keeps at work, if the images are small."""
    return -(-cores() // 4)

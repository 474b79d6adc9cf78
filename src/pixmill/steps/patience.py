"""Patience with a store that is away for a moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from pixmill.core.errors import StoreUnavailable

R = TypeVar("R")

PATIENCE_SECONDS = 60.0
"""How long a store may be away before the worker stops; its leases then bring the work back."""

HURRIED_SECONDS = 5.0
"""The same, when the worker stops anyway."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0


def patiently(call: Callable[[], R], hurried: Callable[[], bool] = lambda: False) -> R:
    """Call until the store is there. Raises StoreUnavailable if that takes too long."""
    begun = time.monotonic()
    pause = _FIRST_PAUSE
    while True:
        try:
            return call()
        except StoreUnavailable:
            allowed = HURRIED_SECONDS if hurried() else PATIENCE_SECONDS
            if time.monotonic() + pause > begun + allowed:
                raise
            time.sleep(pause)
            pause = min(_LONGEST_PAUSE, pause * 2)

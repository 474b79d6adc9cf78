"""Pixel children for a caller that waits: one thing at a time."""

from __future__ import annotations

import time

from pixmill.io.codec.limits import PixelLimits
from pixmill.io.loop import Loop
from pixmill.io.pixel_children import Comparison, PixelChildren
from pixmill.io.pixel_process import ChildLimits

__all__ = ["ChildLimits", "Comparer", "PixelLimits"]


class Comparer:
    """A child process that shows the same part of two pictures."""

    def __init__(self, pixel_limits: PixelLimits, child_limits: ChildLimits) -> None:
        """Start the child. Raises PixelsUnavailable."""
        self._loop = Loop()
        self._children: PixelChildren[None] = PixelChildren(
            1, pixel_limits, child_limits, self._loop
        )

    def compare(self, before: bytes, after: bytes) -> Comparison:
        """The same part of both pictures. Raises ImageError, or PixelsUnavailable."""
        self._children.compare(None, before, after)
        while True:
            for _, answer in self._children.ended(time.monotonic()):
                if isinstance(answer, Exception):
                    raise answer
                if isinstance(answer, Comparison):
                    return answer
            self._loop.wait(self._children.patience(time.monotonic()))

    def close(self) -> None:
        """End the child."""
        self._children.close()
        self._loop.close()

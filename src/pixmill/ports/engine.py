"""What those who accept work need of an engine."""

from __future__ import annotations

from typing import Protocol


class Engine(Protocol):
    """Brings open work of the store to workers, on this machine or on many.

    The store is the truth: an engine that forgets, repeats or delays what it was told changes
    nothing but the time at which work is done.
    """

    def start(self) -> None:
        """Begin; returns at once."""

    def wake(self) -> None:
        """Hear that there may be new work. Returns at once, for any thread, and never raises."""

    def look(self) -> str | None:
        """See that all is well; return why workers cannot go on or be reached, if so.

        Call it a few times a second.
        """

    def stop(self, grace: float) -> None:
        """End; workers of its own have ``grace`` seconds to hand back their work."""

"""Let shards into the pump: many at once, or one alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Many may be inside together; one that must be alone waits for all others to leave.

    While one is alone, or waits to be, nobody else gets in, so that it is not kept waiting by
    newcomers. A worker that dies with one alone inside had one image in hand, and only that one.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._alone = 0
        self._closed = False

    @contextmanager
    def entered(self, *, alone: bool) -> Iterator[bool]:
        """Wait to get in, and leave at the end. Yields False if the gate was closed meanwhile."""
        with self._changed:
            self._alone += alone
            self._changed.wait_for(lambda: self._closed or self._admits(alone=alone))
            self._inside += 1
        try:
            yield not self._closed
        finally:
            with self._changed:
                self._inside -= 1
                self._alone -= alone
                self._changed.notify_all()

    def close(self) -> None:
        """Let nobody in any more; who waits is told."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def reserved(self) -> bool:
        """Whether somebody is alone inside or waits to be."""
        return self._alone > 0

    def _admits(self, *, alone: bool) -> bool:
        return self._inside == 0 if alone else self._alone == 0

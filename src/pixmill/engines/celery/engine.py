"""The Engine port on Celery, for those who accept work and leave it to workers elsewhere."""

from __future__ import annotations

import threading

from pixmill.engines.celery.publisher import Publisher

FAREWELL_SECONDS = 1.0


class CeleryEngine:
    """Tells workers of work from a thread of its own; it has none of its own."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=publisher.run, args=(self._stop,), name="publisher", daemon=True
        )

    def start(self) -> None:
        """Begin to tell."""
        self._thread.start()

    def wake(self) -> None:
        """Tell now of what may be new."""
        self._publisher.wake()

    def look(self) -> str | None:
        """Why workers cannot be reached, if they cannot."""
        return self._publisher.failure

    def stop(self, grace: float) -> None:
        """Stop telling; others do, as soon as they look."""
        self._stop.set()
        self._publisher.wake()
        if self._thread.ident:  # it holds nothing, so one that waits for its broker is left alone
            self._thread.join(min(grace, FAREWELL_SECONDS))

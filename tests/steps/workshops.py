"""A workshop of plain functions, each call in a thread of its own, for tests of the steps."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence

from pixmill.core.model import Fetched, Image, Picture, SheetRules
from pixmill.core.options import Options
from pixmill.steps.pump import Job

Fetch = Callable[[Image, SheetRules], Fetched]
Compress = Callable[[Fetched, Options], Picture]
Ended = tuple[Job, Fetched | Picture | Exception]


def compress(fetched: Fetched, _options: Options) -> Picture:
    """Half of the source's bytes."""
    assert isinstance(fetched.body, bytes)
    return Picture(fetched.body[: fetched.size // 2], "jpeg", 4, 3, "png", 8, 6)


def found(image: Image, _rules: SheetRules | None = None) -> Fetched:
    """A source of twenty bytes that depend on the image."""
    return Fetched(image.url.encode()[-20:], 20)


class ThreadedWorkshop:
    """Its functions may block as they like: the pump must not notice."""

    def __init__(self, fetch: Fetch = found, compress: Compress = compress) -> None:
        self._fetch = fetch
        self._compress = compress
        self._ended: queue.SimpleQueue[Ended | None] = queue.SimpleQueue()
        self.begun = 0

    def fetch(self, ticket: Job, image: Image, rules: SheetRules) -> None:
        """Call the function that fetches."""
        self.begun += 1
        self._begin(ticket, lambda: self._fetch(image, rules))

    def compress(self, ticket: Job, fetched: Fetched, options: Options) -> None:
        """Call the function that compresses."""
        self._begin(ticket, lambda: self._compress(fetched, options))

    def wait(self, seconds: float | None) -> Sequence[Ended]:
        """The next that has ended."""
        try:
            ended = self._ended.get(timeout=seconds)
        except queue.Empty:
            return []
        return [ended] if ended else []

    def wake(self) -> None:
        """End the wait."""
        self._ended.put(None)

    def _begin(self, ticket: Job, call: Callable[[], Fetched | Picture]) -> None:
        def run() -> None:
            try:
                ended: Fetched | Picture | Exception = call()
            except Exception as error:
                ended = error
            self._ended.put((ticket, ended))

        threading.Thread(target=run, daemon=True).start()

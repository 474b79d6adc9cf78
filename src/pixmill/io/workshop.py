"""Where one thread has many images fetched and compressed, and waits for all of them at once."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from pixmill.core.errors import ImageError, ImageErrorCode
from pixmill.core.model import Fetched, Image, Picture, SheetRules
from pixmill.core.options import Options
from pixmill.io.fetch import Fetcher
from pixmill.io.loop import Loop
from pixmill.io.pixel_children import Comparison, PixelChildren

T = TypeVar("T")

ReadLocal = Callable[[str, Path], Fetched]
"""Read the file that a ``file:`` URL names, relative to a folder; raises ImageError."""

_NAP_SECONDS = 0.016
_LEAST_NAP_SECONDS = 0.001

_READERS = 4
"""Threads for local files: enough for a disk, and nothing else waits for a slow one."""


class PollingWorkshop(Generic[T]):
    """Fetches and compresses for one thread, which waits in one place for whatever ends next.

    While the pixel children have work at hand it sleeps for a few milliseconds at a time, so that
    several images are seen to at once by code that is warm: waking for each doubles its cost. As
    soon as one of them could run dry, every event counts.
    """

    def __init__(
        self, loop: Loop, fetcher: Fetcher[T], children: PixelChildren[T], read_local: ReadLocal
    ) -> None:
        self._loop = loop
        self._fetcher = fetcher
        self._children = children
        self._files: _FileReader[T] = _FileReader(read_local, loop.wake)

    def fetch(self, ticket: T, image: Image, rules: SheetRules) -> None:
        """Begin to get an image's source, as its request's rules allow."""
        if image.url.startswith("file:"):
            self._files.read(ticket, image.url, rules.local_folder)
        else:
            self._fetcher.start(ticket, image.url)

    def compress(self, ticket: T, fetched: Fetched, options: Options) -> None:
        """Begin to make a picture of a source, which stays the caller's."""
        self._children.compress(ticket, fetched, options)

    def wait(self, seconds: float | None) -> list[tuple[T, Fetched | Picture | Exception]]:
        """What has ended since; waits up to so long for the first. Raises PixelsUnavailable."""
        ended = self._ended()
        if not ended:
            self._rest(math.inf if seconds is None else seconds)
            ended = self._ended()
        return ended

    def wake(self) -> None:
        """End the wait, or the next one. For any thread."""
        self._loop.wake()

    def close(self) -> None:
        """Break off everything; when no thread waits any more."""
        self._children.close()
        self._fetcher.close()
        self._loop.close()

    def _ended(self) -> list[tuple[T, Fetched | Picture | Exception]]:
        made = self._children.ended(time.monotonic())
        ended: list[tuple[T, Fetched | Picture | Exception]] = [
            (ticket, picture)
            for ticket, picture in made
            if not isinstance(picture, Comparison)  # nobody asks for one here
        ]
        return ended + self._fetcher.ended() + self._files.ended()

    def _rest(self, seconds: float) -> None:
        nap = min(_NAP_SECONDS, seconds, self._children.busy_for())
        if nap >= _LEAST_NAP_SECONDS:
            time.sleep(nap)
            self._loop.wait(0)
            return
        now = time.monotonic()
        seconds = min(seconds, self._children.patience(now), self._fetcher.patience(now))
        self._loop.wait(None if seconds == math.inf else seconds)


class _FileReader(Generic[T]):
    """Reads local files in threads of its own, which start when the first one is named."""

    def __init__(self, read: ReadLocal, wake: Callable[[], None]) -> None:
        self._read = read
        self._wake = wake
        self._wanted: queue.SimpleQueue[tuple[T, str, Path]] = queue.SimpleQueue()
        self._found: queue.SimpleQueue[tuple[T, Fetched | Exception]] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def read(self, ticket: T, url: str, folder: str | None) -> None:
        if folder is None:
            self._found.put((ticket, _NOT_LOCAL))
            self._wake()
            return
        if len(self._threads) < _READERS:
            self._threads.append(threading.Thread(target=self._work, name="files", daemon=True))
            self._threads[-1].start()
        self._wanted.put((ticket, url, Path(folder)))

    def ended(self) -> list[tuple[T, Fetched | Exception]]:
        ended = []
        while not self._found.empty():  # the only taker: what is there stays there
            ended.append(self._found.get())
        return ended

    def _work(self) -> None:
        while True:
            ticket, url, folder = self._wanted.get()
            try:
                found: Fetched | Exception = self._read(url, folder)
            except Exception as error:  # the boundary of an image: what is wrong is its own affair
                found = error
            self._found.put((ticket, found))
            self._wake()


_NOT_LOCAL = ImageError(
    ImageErrorCode.INVALID_URL, "Files of your own can be named with `pixmill run` only."
)

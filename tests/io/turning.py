"""Parts that never wait, for tests that do: one thread turns the loop, any thread may call."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from typing import Any

from pixmill.core.errors import PixelsUnavailable
from pixmill.core.model import Fetched, Picture
from pixmill.core.options import Options
from pixmill.io.fetch import Fetcher
from pixmill.io.loop import Loop
from pixmill.io.pixel_children import Comparison, PixelChildren
from pixmill.io.pixels import ChildLimits, PixelLimits

Ticket = Future[Any]


class Turner:
    """A thread that turns a loop and hands what has ended to whoever waits for it."""

    def __init__(
        self,
        loop: Loop,
        ended: Callable[[], Iterable[tuple[Ticket, object]]],
        patience: Callable[[float], float],
    ) -> None:
        self._loop = loop
        self._ended = ended
        self._patience = patience
        self._calls: queue.SimpleQueue[tuple[Callable[..., None], Ticket, tuple[Any, ...]]] = (
            queue.SimpleQueue()
        )
        self._waiting: set[Ticket] = set()
        self._over = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)  # or a failed test hangs
        self._thread.start()

    def call(self, begin: Callable[..., None], *arguments: object) -> Any:
        """Begin something in the loop's thread and wait for what comes of it."""
        ticket: Ticket = Future()
        self._calls.put((begin, ticket, arguments))
        self._loop.wake()
        while self._thread.is_alive() and not wait([ticket], 0.2).done:
            pass
        if not ticket.done():
            raise self._failure or PixelsUnavailable("closed")
        return ticket.result()

    def stop(self) -> None:
        """End the thread; whoever waits is told."""
        self._over = True
        self._loop.wake()
        if threading.current_thread() is not self._thread:
            self._thread.join(10)

    def _run(self) -> None:
        try:
            while not self._over:
                self._turn()
        except Exception as error:
            self._failure = error
        for ticket in self._waiting:
            ticket.set_exception(self._failure or PixelsUnavailable("closed"))

    def _turn(self) -> None:
        self._begin()
        self._give_back()
        if self._calls.empty():
            self._loop.wait(min(1.0, self._patience(time.monotonic())))

    def _begin(self) -> None:
        while not self._calls.empty():
            begin, ticket, arguments = self._calls.get()
            self._waiting.add(ticket)
            begin(ticket, *arguments)

    def _give_back(self) -> None:
        for ticket, result in self._ended():
            self._waiting.discard(ticket)
            if isinstance(result, Exception):
                ticket.set_exception(result)
            else:
                ticket.set_result(result)


class WaitingFetcher:
    """A fetcher whose ``fetch`` blocks."""

    def __init__(self, fetcher: Fetcher[Ticket], loop: Loop) -> None:
        self.fetcher = fetcher
        self._loop = loop
        self._closed = False
        self._turner = Turner(loop, fetcher.ended, fetcher.patience)

    def fetch(self, url: str) -> Fetched:
        """Fetch and wait. Raises ImageError."""
        fetched = self._turner.call(self.fetcher.start, url)
        assert isinstance(fetched, Fetched)
        return fetched

    def close(self) -> None:
        """Stop and close all connections."""
        if not self._closed:
            self._closed = True
            self._turner.stop()
            self.fetcher.close()
            self._loop.close()


class WaitingChildren:
    """Pixel children whose ``compress`` blocks."""

    def __init__(
        self,
        count: int,
        pixel_limits: PixelLimits | None = None,
        child_limits: ChildLimits | None = None,
    ) -> None:
        self._loop = Loop()
        self.children: PixelChildren[Ticket] = PixelChildren(
            count, pixel_limits or PixelLimits(), child_limits or ChildLimits(), self._loop
        )
        self._closed = False
        try:
            self.children.start()
        except PixelsUnavailable:
            self.children.close()
            self._loop.close()
            raise
        self._turner = Turner(
            self._loop, lambda: self.children.ended(time.monotonic()), self.children.patience
        )

    def wait_until_ready(self) -> None:
        """Return when all children can take images."""
        while not all(line.ready for line in list(self.children._lines)):
            time.sleep(0.01)

    def compress(self, fetched: Fetched, options: Options) -> Picture:
        """Compress and wait. Raises ImageError, PixelsUnavailable."""
        picture = self._turner.call(self.children.compress, fetched, options)
        assert isinstance(picture, Picture)
        return picture

    def compare(self, before: bytes, after: bytes) -> Comparison:
        """Compare and wait. Raises like compress()."""
        comparison = self._turner.call(self.children.compare, before, after)
        assert isinstance(comparison, Comparison)
        return comparison

    def pids(self) -> list[int]:
        """The children's process ids, dead ones that nobody has seen yet included."""
        return self.children.pids()

    def close(self) -> None:
        """End the children; whoever waits is told."""
        if not self._closed:
            self._closed = True
            self._turner.stop()
            self.children.close()
            self._loop.close()

"""Waiting for many sockets at once: whoever watches one is told when something happens on it."""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections.abc import Callable

Handler = Callable[[int, int], None]
"""Called with the file descriptor and the events (``select.EPOLL…``) that it is ready for."""


class Loop:
    """An epoll and its handlers. One thread uses it; any thread may wake that one."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._closing = threading.Lock()
        self._closed = False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.watch(self._wake, select.EPOLLIN, self._woken)

    def watch(self, descriptor: int, events: int, handler: Handler) -> None:
        """Call ``handler`` whenever the descriptor is ready for one of the events."""
        known = descriptor in self._handlers
        self._handlers[descriptor] = handler
        if known:
            with contextlib.suppress(FileNotFoundError):  # closed since, its number used anew
                self._epoll.modify(descriptor, events)
                return
        self._epoll.register(descriptor, events)

    def unwatch(self, descriptor: int) -> None:
        """Call nobody any more. The descriptor may be closed already."""
        if self._handlers.pop(descriptor, None):
            with contextlib.suppress(OSError):
                self._epoll.unregister(descriptor)

    def wait(self, seconds: float | None) -> None:
        """Wait until something happens, for so long at most, and tell those who watch.

        A time that has passed already is no wait at all; epoll would take it for one without end.
        """
        for descriptor, events in self._epoll.poll(None if seconds is None else max(0.0, seconds)):
            if handler := self._handlers.get(descriptor):
                handler(descriptor, events)

    def wake(self) -> None:
        """End the wait, or the next one, at once. For any thread."""
        with self._closing:
            if not self._closed:
                os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Let go of the descriptors."""
        self._epoll.close()
        with self._closing:  # or the number could be another file's when somebody wakes us
            self._closed = True
            os.close(self._wake)

    def _woken(self, descriptor: int, _events: int) -> None:
        os.eventfd_read(descriptor)

"""All transfers of one thread on libcurl's multi handle, whose sockets the loop watches."""

from __future__ import annotations

import math
import select
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import pycurl

from pixmill.io.loop import Loop
from pixmill.io.transfer import Answer, Transfer

W = TypeVar("W")

_KEPT_ALIVE = 256
"""Connections that libcurl keeps in all, those in use included."""


class Transfers(Generic[W]):
    """Runs requests without waiting for any; whose each one is, the caller says when it starts it.

    Connections are kept alive and shared by all. Handles are reused, the last used first: there
    are never more than there were requests at once.
    """

    def __init__(self, loop: Loop, make: Callable[[], Transfer]) -> None:
        self._loop = loop
        self._make = make
        self._idle: list[Transfer] = []
        self._running: dict[pycurl.Curl, tuple[Transfer, W]] = {}
        self._due: float | None = None
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, _KEPT_ALIVE)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)

    def start(
        self, whose: W, url: str, host: str, seconds: float, addresses: Sequence[str] = ()
    ) -> None:
        """Request a checked URL, which has ``seconds`` to be answered in full.

        ``addresses`` are the host's, if it has a name.
        """
        transfer = self._idle.pop() if self._idle else self._make()
        try:
            curl = transfer.begin(url, host, seconds, addresses)
            self._multi.add_handle(curl)
        except Exception:
            transfer.close()
            raise
        self._running[curl] = (transfer, whose)

    def ended(self) -> list[tuple[W, Answer | Exception]]:
        """What came of the requests that have ended; an ImageError where there is no answer."""
        if self._due is not None and self._due <= time.monotonic():
            self._due = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        ended: list[tuple[W, Answer | Exception]] = []
        left = True
        while left:
            left, good, bad = self._multi.info_read()
            ended += [self._end(curl, None) for curl in good]
            ended += [self._end(curl, (code, detail)) for curl, code, detail in bad]
        return ended

    def patience(self, now: float) -> float:
        """Seconds after which libcurl is to be asked though nothing happens."""
        return math.inf if self._due is None else max(0.0, self._due - now)

    def close(self) -> None:
        """Break off what runs, and close all connections."""
        for curl in self._running:
            self._multi.remove_handle(curl)
        self._multi.close()
        for transfer in (*self._idle, *(transfer for transfer, _ in self._running.values())):
            transfer.close()
        self._idle.clear()
        self._running.clear()

    def _end(
        self, curl: pycurl.Curl, problem: tuple[int, str] | None
    ) -> tuple[W, Answer | Exception]:
        transfer, whose = self._running.pop(curl)
        self._multi.remove_handle(curl)
        self._idle.append(transfer)
        try:
            return whose, transfer.answer(problem)
        except Exception as error:  # whatever it is, it is the affair of this request alone
            return whose, error

    def _watch(self, what: int, descriptor: int, _multi: object, _data: object) -> None:
        """CURLMOPT_SOCKETFUNCTION: what libcurl waits for on a socket."""
        if what == pycurl.POLL_REMOVE:
            self._loop.unwatch(descriptor)
            return
        reading = select.EPOLLIN if what & pycurl.POLL_IN else 0
        writing = select.EPOLLOUT if what & pycurl.POLL_OUT else 0
        self._loop.watch(descriptor, reading | writing, self._act)

    def _act(self, descriptor: int, events: int) -> None:
        reading = pycurl.CSELECT_IN if events & ~select.EPOLLOUT else 0
        writing = pycurl.CSELECT_OUT if events & select.EPOLLOUT else 0
        self._multi.socket_action(descriptor, reading | writing)

    def _set_timer(self, milliseconds: int) -> None:
        """CURLMOPT_TIMERFUNCTION: when libcurl wants to be asked at the latest."""
        self._due = None if milliseconds < 0 else time.monotonic() + milliseconds / 1000

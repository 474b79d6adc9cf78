"""Host names, looked up in threads of their own: one for a name, however many wait for it.

libcurl would look them up itself, in a pool of 20 threads with one line of waiting for all: a few
images of a shop whose name servers do not answer would keep every other shop waiting.
"""

from __future__ import annotations

import queue
import re
import socket
import threading
from collections.abc import Callable

Addresses = tuple[str, ...]

_KEPT_SECONDS = 60.0  # as libcurl does; what DNS itself allows is not told
_MOST_KEPT = 4096
_MOST_AT_ONCE = 64
"""Threads at most. It takes so many names without an answer to keep another waiting."""

_NO_NAME = re.compile(r"\[.*|(.*\.)?localhost\.?|(.*\.)?(\d+|0x[0-9a-f]*)\.?")
"""What libcurl resolves by itself: addresses in all their spellings, and this host (RFC 6761)."""


def is_name(host: str) -> bool:
    """Whether a host (in lower case) has to be looked up."""
    return not _NO_NAME.fullmatch(host)


class Names:
    """What the names of hosts stand for. One thread asks; it is woken when an answer has come."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._known: dict[str, tuple[float, Addresses]] = {}
        self._asked: set[str] = set()
        self._line: dict[str, None] = {}  # asked, but no thread for it yet; in order
        self._found: queue.SimpleQueue[tuple[str, Addresses]] = queue.SimpleQueue()
        self._begun: list[str] = []
        self._busy = 0

    def addresses(self, name: str, now: float) -> Addresses | None:
        """A name's addresses, if they are known; else they are looked up and will be ``found``."""
        until, addresses = self._known.get(name, (0.0, ()))
        if now < until:
            return addresses
        if name not in self._asked:
            self._asked.add(name)
            self._line[name] = None
            self._look_up()
        return None

    def waiting(self, name: str) -> bool:
        """Whether no thread has begun yet to look up a name that was asked for."""
        return name in self._line

    def begun(self) -> list[str]:
        """The names that threads have begun to look up since."""
        begun, self._begun = self._begun, []
        return begun

    def forget(self, name: str) -> None:
        """Do not look up a name for which nobody waits any more, unless that has begun."""
        if name in self._line:
            del self._line[name]
            self._asked.discard(name)

    def found(self, now: float) -> list[tuple[str, Addresses]]:
        """The names that were looked up since; without addresses if they have none."""
        found = []
        while not self._found.empty():  # the only taker: what is there stays there
            name, addresses = self._found.get()
            self._busy -= 1
            self._asked.discard(name)
            if addresses:
                self._keep(name, addresses, now)
            found.append((name, addresses))
        self._look_up()
        return found

    def _keep(self, name: str, addresses: Addresses, now: float) -> None:
        self._known.pop(name, None)
        self._known[name] = (now + _KEPT_SECONDS, addresses)
        if len(self._known) > _MOST_KEPT:
            del self._known[next(iter(self._known))]  # the oldest

    def _look_up(self) -> None:
        while self._line and self._busy < _MOST_AT_ONCE:
            self._busy += 1
            name = next(iter(self._line))
            del self._line[name]
            self._begun.append(name)
            # A daemon: nobody waits for a name server at the end.
            threading.Thread(target=self._ask, args=(name,), daemon=True).start()

    def _ask(self, name: str) -> None:
        try:
            answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
            addresses = tuple(str(address[0]) for *_, address in answers)
        except (OSError, UnicodeError):  # UnicodeError: no name at all
            addresses = ()
        self._found.put((name, addresses))
        self._wake()

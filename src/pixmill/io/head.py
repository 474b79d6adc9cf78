"""The head of an answer, kept as it came: what must be known though the body never arrives."""

from __future__ import annotations

import string
from collections.abc import Callable
from urllib.parse import quote, urljoin

_ENDS = (b"\r\n", b"\n")


class Head:
    """Collects header lines; nothing is read in them unless it is asked for.

    What is asked of is the last head: provisional answers (1xx) have their own.
    """

    __slots__ = ("_lines", "add")

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self.add: Callable[[bytes], None] = self._lines.append  # called from C for each line

    @property
    def status(self) -> int:
        """The HTTP status; 0 if there is none."""
        words = (self._last() or [b""])[0].split(None, 2)
        return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0

    @property
    def whole(self) -> bool:
        """Whether all of it has arrived."""
        return any(line in _ENDS for line in self._last())

    @property
    def length(self) -> int | None:
        """The bytes that the body has, if the server says so."""
        value = self._field(b"content-length")
        return int(value) if value and value.isdigit() else None

    def target(self, url: str) -> str | None:
        """Where the answer to a request for ``url`` redirects to, if anywhere."""
        value = self._field(b"location")
        if not value:
            return None
        location = quote(value, safe=string.punctuation)
        try:
            return urljoin(url, location)
        except ValueError:  # whoever checks it will say so
            return location

    def _field(self, name: bytes) -> bytes | None:
        for line in self._last():
            key, _, value = line.partition(b":")
            if key.strip().lower() == name:
                return value.strip()
        return None

    def _last(self) -> list[bytes]:
        for at in range(len(self._lines) - 1, -1, -1):
            if self._lines[at].startswith(b"HTTP/"):
                return self._lines[at:]
        return []

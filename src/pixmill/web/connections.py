"""What a connection may cost before anybody knows what it wants."""

from __future__ import annotations

import asyncio
import json
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pixmill.web.problems import KINDS, MEDIA_TYPE, CallRefused, Code, to_json

LONGEST_HEAD: Final = 64 * 1024
"""Bytes that a request line and its headers may have together."""
PIECE: Final = 8 * 1024
"""Bytes that are read at once, and by which a head may be longer."""
LINGER_SECONDS: Final = 1.0
LINGER_BYTES: Final = 1024 * 1024
"""For how long a refused client may go on sending, and how much, so that it comes to read why."""


class GuardedConnection(HttpToolsProtocol):
    """uvicorn's connection, with limits on the size and the age of a head.

    The parser collects a head in memory, however long it gets, and copies a header anew with each
    piece of it. So bytes are counted that come without a head, or a part of a body, being complete:
    that also bounds what may follow a body in chunks (trailers).
    """

    head_seconds = 15.0
    """How long a head may take from its first byte on, or from the start of the connection."""

    _unheard = 0
    _in_head = True
    _refused = False
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Give the first head its time."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave no timer behind."""
        self._forget_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass on what was received, as long as it leads somewhere."""
        if self._refused:
            self._unheard += len(data)
            if self._unheard > LINGER_BYTES:
                self.transport.close()
            return
        for start in range(0, len(data), PIECE):
            if self.transport.is_closing():
                return
            if self._unheard >= LONGEST_HEAD:
                self._refuse()
                return
            piece = data[start : start + PIECE]
            self._unheard += len(piece)
            super().data_received(piece)
        if self._in_head and self._deadline is None and not self._answering():
            self._expect_head()

    def on_headers_complete(self) -> None:
        """A head is complete."""
        self._unheard = 0
        self._in_head = False
        self._forget_deadline()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of a body came."""
        self._unheard = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A call has come in whole; what follows is the head of the next."""
        self._unheard = 0
        self._in_head = True
        super().on_message_complete()

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _expect_head(self) -> None:
        self._deadline = self.loop.call_later(self.head_seconds, self._too_slow)

    def _forget_deadline(self) -> None:
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if self._in_head and not self._answering():
            self.transport.close()

    def _refuse(self) -> None:
        """Say why, unless an answer is on its way, and hang up."""
        self._refused = True
        self._forget_deadline()
        if self._answering():
            self.transport.close()
            return
        self.transport.write(_TOO_LARGE)
        self.loop.call_later(LINGER_SECONDS, self.transport.close)


def _too_large() -> bytes:
    refused = CallRefused(Code.HEADERS_TOO_LARGE, KINDS[Code.HEADERS_TOO_LARGE].what_to_do)
    body = json.dumps(to_json(refused.document)).encode()
    head = (
        "HTTP/1.1 431 Request Header Fields Too Large",
        f"content-type: {MEDIA_TYPE}",
        f"content-length: {len(body)}",
        "connection: close",
    )
    return "\r\n".join((*head, "", "")).encode() + body


_TOO_LARGE: Final = _too_large()

"""Answers that are sent piece by piece, and close what they read from however they end."""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping
from typing import BinaryIO

import anyio
from anyio import to_thread
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from pixmill.core.errors import PixmillError
from pixmill.web.ranges import Span

log = logging.getLogger(__name__)

CHUNK = 256 * 1024
"""Bytes that are read from a file and sent at once."""


class Streamed(StreamingResponse):
    """Sends what a generator yields, each piece made in a thread.

    When the client goes away the generator is not asked again; it is closed in any case.
    """

    def __init__(
        self,
        pieces: Generator[bytes, None, None],
        headers: Mapping[str, str],
        *,
        status_code: int = 200,
        file: BinaryIO | None = None,
    ) -> None:
        super().__init__(pieces, status_code, headers)
        self._pieces = pieces
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer; if what it is made of goes meanwhile, break it off."""
        try:
            await super().__call__(scope, receive, send)
        except PixmillError as error:  # too late to answer anything else
            log.warning("%r is broken off: %s", scope["path"], error.message)
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(self._close)

    def _close(self) -> None:
        self._pieces.close()
        if self._file:  # a generator that never began could not close it
            self._file.close()


def stream_file(
    file: BinaryIO, span: Span, headers: Mapping[str, str], status_code: int = 200
) -> Streamed:
    """An answer with these bytes of an open file, which is closed at the end."""
    length = {"Content-Length": str(span.end - span.start)}
    pieces = _pieces(file, span)
    return Streamed(pieces, {**headers, **length}, status_code=status_code, file=file)


def _pieces(file: BinaryIO, span: Span) -> Generator[bytes, None, None]:
    file.seek(span.start)
    left = span.end - span.start
    while left and (piece := file.read(min(CHUNK, left))):
        yield piece
        left -= len(piece)

"""What parent and pixel child say to each other: a JSON header and raw bytes in one frame."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_START = struct.Struct("!IQI")
"""Sizes of header and body in bytes, and the microseconds that the answer took."""

_ROOM = 1 << 20
_LARGEST = 1 << 30
"""Bytes that no picture has: a child that announces more is not to be believed."""

Header = dict[str, Any]

OUT_OF_MEMORY = 3
"""Exit status of a child whose image needed more than the cap: its heap cannot be trusted now."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that has arrived."""

    header: bytes
    body: bytes
    microseconds: int


def frame_parts(header: bytes, body: bytes, microseconds: int = 0) -> list[bytes]:
    """A frame as the buffers to send."""
    return [_START.pack(len(header), len(body), microseconds) + header, body]


def send_frame(connection: socket.socket, header: bytes, body: bytes, microseconds: int) -> None:
    """Send one frame, however long that takes. Raises OSError."""
    parts: list[bytes | memoryview] = list(frame_parts(header, body, microseconds))
    while parts:
        parts = unsent(parts, connection.sendmsg(parts))


def unsent(parts: list[bytes | memoryview], sent: int) -> list[bytes | memoryview]:
    """What is left of the buffers when so many bytes of them are sent."""
    rest: list[bytes | memoryview] = []
    for part in parts:
        if sent < len(part):
            rest.append(memoryview(part)[sent:] if sent else part)
        sent = max(0, sent - len(part))
    return rest


def read_frame(connection: socket.socket) -> tuple[bytes, bytes]:
    """Wait for the next frame; its header and body. Raises EOFError at the end.

    Each part is received in one call and in its own size, so that nothing is copied again.
    """
    header_size, body_size, _ = _START.unpack(_exactly(connection, _START.size))
    return _exactly(connection, header_size), _exactly(connection, body_size)


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = connection.recv(size, socket.MSG_WAITALL)
    if len(data) == size:
        return data
    parts = [data]  # a signal, or the end, has cut it short
    while size := size - len(parts[-1]):
        if not parts[-1]:
            raise EOFError
        parts.append(connection.recv(size, socket.MSG_WAITALL))
    return b"".join(parts)


class FrameBuffer:
    """Takes what has arrived from a socket that must not be waited for, and finds the frames."""

    def __init__(self) -> None:
        self._data = bytearray(_ROOM)
        self._filled = 0

    def fill(self, connection: socket.socket) -> None:
        """Take what is there. Raises BlockingIOError if nothing is, EOFError at the end."""
        count = connection.recv_into(memoryview(self._data)[self._filled :])
        if not count:
            raise EOFError
        self._filled += count

    def frames(self) -> Iterator[Frame]:
        """The frames that have arrived whole. Raises EOFError for what cannot be one."""
        view = memoryview(self._data)
        begin = needed = 0
        while self._filled - begin >= _START.size:
            header_size, body_size, microseconds = _START.unpack_from(view, begin)
            body = begin + _START.size + header_size
            end = body + body_size
            if end - begin > _LARGEST:
                raise EOFError
            if end > self._filled:
                needed = end - begin
                break
            header = bytes(view[begin + _START.size : body])
            yield Frame(header, bytes(view[body:end]), microseconds)
            begin = end
        self._keep_from(begin, needed)

    def _keep_from(self, begin: int, needed: int) -> None:
        """Move a frame that has only begun to the front of a buffer that can take all of it."""
        if not begin and needed <= len(self._data):
            return
        rest = self._data[begin : self._filled]
        room = max(needed, _ROOM)
        if len(self._data) != room:
            self._data = bytearray(room)
        self._data[: len(rest)] = rest
        self._filled = len(rest)


def pack_header(header: Header) -> bytes:
    """A header as it travels."""
    return json.dumps(header, separators=(",", ":")).encode()


def unpack_header(header: bytes) -> Header:
    """A header as it was meant."""
    parsed: Header = json.loads(header)
    return parsed

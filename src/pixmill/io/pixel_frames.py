"""What parent and pixel child say to each other: a JSON header and raw bytes in one frame."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from typing import Any

_SIZES = struct.Struct("!IQ")

Header = dict[str, Any]

OUT_OF_MEMORY = 3
"""Exit status of a child whose image needed more than the cap: its heap cannot be trusted now."""


def send_frame(connection: socket.socket, header: bytes, body: bytes) -> None:
    """Send one frame. Raises OSError."""
    start = _SIZES.pack(len(header), len(body)) + header
    sent = connection.sendmsg((start, body))
    if sent < len(start):
        connection.sendall(start[sent:])
        sent = len(start)
    if sent < len(start) + len(body):
        connection.sendall(memoryview(body)[sent - len(start) :])


class FrameReader:
    """Reads frames from a connection with as few calls as it can.

    Each call lets go of the interpreter lock and has to win it back, which costs more than the
    bytes it moves. One thread reads at a time.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._ahead = b""

    def read(self) -> tuple[bytes, bytes]:
        """The next frame's header and body. Raises EOFError at the end, OSError on a timeout."""
        data = self._at_least(_SIZES.size)
        header_size, body_size = _SIZES.unpack_from(data)
        start = _SIZES.size + header_size
        self._ahead = data
        data = self._at_least(start)
        end = start + body_size
        self._ahead = data[end:]
        body = data[start:end]
        if len(body) < body_size:
            body = b"".join([body, *self._exactly(body_size - len(body))])
        return data[_SIZES.size : start], body

    def _exactly(self, size: int) -> Iterator[bytes]:
        """The rest of a large body, in one piece unless a signal or the end cuts it short."""
        while size:
            part = self._connection.recv(size, socket.MSG_WAITALL)
            if not part:
                raise EOFError
            size -= len(part)
            yield part

    def _at_least(self, size: int) -> bytes:
        parts = [self._ahead]
        missing = size - len(self._ahead)
        while missing > 0:
            part = self._connection.recv(max(missing, _READ_AHEAD))
            if not part:
                raise EOFError
            parts.append(part)
            missing -= len(part)
        return b"".join(parts) if len(parts) > 1 else parts[0]


_READ_AHEAD = 128 * 1024


def pack_header(header: Header) -> bytes:
    """A header as it travels."""
    return json.dumps(header, separators=(",", ":")).encode()


def unpack_header(header: bytes) -> Header:
    """A header as it was meant."""
    parsed: Header = json.loads(header)
    return parsed

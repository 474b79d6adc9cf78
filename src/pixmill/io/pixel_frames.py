"""What parent and pixel child say to each other: a JSON header and raw bytes in one frame."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

_SIZES = struct.Struct("!IQ")

Header = dict[str, Any]

OUT_OF_MEMORY = 3
"""Exit status of a child whose image needed more than the cap: its heap cannot be trusted now."""


def send_frame(connection: socket.socket, header: bytes, body: bytes) -> None:
    """Send one frame. Raises OSError."""
    start = _SIZES.pack(len(header), len(body)) + header
    connection.sendall(start)
    if body:
        connection.sendall(body)


def receive_frame(connection: socket.socket) -> tuple[bytes, bytes]:
    """The next frame's header and body. Raises EOFError at the end, OSError on a timeout."""
    header_size, body_size = _SIZES.unpack(_receive(connection, _SIZES.size))
    return _receive(connection, header_size), _receive(connection, body_size)


def _receive(connection: socket.socket, size: int) -> bytes:
    if not size:
        return b""
    data = connection.recv(size, socket.MSG_WAITALL)
    if len(data) == size:
        return data
    # A signal or the end cut it short.
    parts = [data]
    missing = size - len(data)
    while missing:
        part = connection.recv(missing, socket.MSG_WAITALL)
        if not part:
            raise EOFError
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def pack_header(header: Header) -> bytes:
    """A header as it travels."""
    return json.dumps(header, separators=(",", ":")).encode()


def unpack_header(header: bytes) -> Header:
    """A header as it was meant."""
    parsed: Header = json.loads(header)
    return parsed

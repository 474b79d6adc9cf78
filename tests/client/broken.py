"""Servers that misbehave, down to the bytes that they send."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

Answer = bytes | Callable[[socket.socket], None]
"""What a connection gets once its call was read: bytes, or whatever a function does to it."""


@dataclass
class Broken:
    """A server and the calls that reached it, head and body."""

    port: int
    calls: list[tuple[str, bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def headers(self, number: int) -> dict[str, str]:
        """The headers of a call, by their names in lower case."""
        lines = self.calls[number][0].split("\r\n")[1:]
        pairs = (line.partition(": ") for line in lines)
        return {name.lower(): value for name, _, value in pairs}

    def paths(self) -> list[str]:
        """Method and path of each call."""
        return [head.split(" HTTP/")[0] for head, _ in self.calls]


def answer(
    status: str, body: str | bytes = b"", kind: str = "application/json", **extra: str
) -> bytes:
    """The bytes of a whole answer; ``Retry_After="1"`` is a header."""
    body = body.encode() if isinstance(body, str) else body
    given = {name.replace("_", "-"): value for name, value in extra.items()}
    headers = {"Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close"}
    lines = [f"HTTP/1.1 {status}", *(f"{n}: {v}" for n, v in (headers | given).items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@contextmanager
def server(*answers: Answer) -> Iterator[Broken]:
    """A server whose first connection gets the first answer, and so on; the last one repeats."""
    listening = socket.create_server(("127.0.0.1", 0))
    broken = Broken(listening.getsockname()[1])
    opened: list[socket.socket] = []
    hands: list[threading.Thread] = []

    def accept() -> None:
        with suppress(OSError):  # closed at the end
            while True:
                connection, _ = listening.accept()
                opened.append(connection)
                given = answers[min(len(opened), len(answers)) - 1]
                hand = threading.Thread(target=_serve, args=(connection, broken, given))
                hands.append(hand)
                hand.start()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield broken
    finally:
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        for connection in opened:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for hand in [thread, *hands]:
            hand.join()
        for connection in opened:
            connection.close()


def hang(connection: socket.socket) -> None:
    """Say nothing until the other side gives up."""
    with suppress(OSError):
        connection.recv(1)


def cut(connection: socket.socket) -> None:
    """Hang up without a word."""
    connection.shutdown(socket.SHUT_RDWR)


def _serve(connection: socket.socket, broken: Broken, given: Answer) -> None:
    with suppress(OSError):
        call = _read(connection)
        if call is None:
            return
        broken.calls.append(call)
        if callable(given):
            given(connection)
        else:
            connection.sendall(given)
            connection.shutdown(socket.SHUT_WR)


def _read(connection: socket.socket) -> tuple[str, bytes] | None:
    """The head and the body of a call; None if there is none."""
    seen = b""
    while b"\r\n\r\n" not in seen:
        piece = connection.recv(65536)
        if not piece:
            return None
        seen += piece
        if seen.startswith(b"\x16"):  # a TLS handshake: whoever speaks plain http answers that
            return "TLS", b""
    head, _, body = seen.partition(b"\r\n\r\n")
    text = head.decode()
    length = next(
        (
            int(line[15:])
            for line in text.split("\r\n")
            if line.lower().startswith("content-length")
        ),
        0,
    )
    kept = [body]
    size = len(body)
    while size < length and (piece := connection.recv(65536)):
        size += len(piece)
        if size < 1_000_000:  # what is sent to see how much memory it takes is not kept
            kept.append(piece)
    return text, b"".join(kept)

"""A proxy before a broker that breaks a connection when so many pieces have come by."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PIECE = 65_536


class BreakingProxy(socketserver.ThreadingTCPServer):
    """Passes bytes on to a server on loopback.

    ``break_after`` says how many more pieces the clients may send until the connection that brings
    the next one is broken, towards both sides; None breaks nothing. ``broken`` counts.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, target_port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target_port = target_port
        self.break_after: int | None = None
        self.broken = 0
        self._lock = threading.Lock()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    def handle_error(self, *_: object) -> None:
        """Say nothing: broken connections are what it is for."""

    def breaks_now(self) -> bool:
        """Count a piece; whether it is the one."""
        with self._lock:
            if self.break_after is None:
                return False
            self.break_after -= 1
            if self.break_after >= 0:
                return False
            self.break_after = None
            self.broken += 1
            return True


@contextmanager
def breaking_proxy(target_port: int) -> Iterator[BreakingProxy]:
    """Run a proxy; it is gone at the end."""
    proxy = BreakingProxy(target_port)
    thread = threading.Thread(target=proxy.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()


class _Handler(socketserver.BaseRequestHandler):
    server: BreakingProxy

    def handle(self) -> None:
        """Pass on what the client says, and in another thread what it is answered."""
        client: socket.socket = self.request
        with socket.create_connection(("127.0.0.1", self.server.target_port)) as target:
            threading.Thread(target=_pass_on, args=(target, client), daemon=True).start()
            with suppress(OSError):
                while piece := client.recv(PIECE):
                    if self.server.breaks_now():
                        break
                    target.sendall(piece)
            for side in (client, target):
                _reset(side)


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(PIECE):
            sink.sendall(piece)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


def _reset(side: socket.socket) -> None:
    """Let a connection end with a reset, as when a machine falls over."""
    with suppress(OSError):
        side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        side.shutdown(socket.SHUT_RDWR)

"""Image servers, hostile and friendly, on the loopback interface: real TCP and real TLS.

A server is a function that gets one `Visit` per request and writes whatever it likes to the
connection. Returning keeps the connection open; raising `Hangup` closes it.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pixmill.core.addresses import AddressPolicy
from pixmill.io.fetch import Fetcher, FetchLimits
from pixmill.io.loop import Loop
from tests.io.turning import Ticket, WaitingFetcher

LOOPBACK = "127.0.0.0/8,[::1]"
IMAGE = bytes(range(256)) * 280  # about 70 kB; fetching does not look inside


class Hangup(Exception):
    """Close the connection now."""


@dataclass(frozen=True)
class Visit:
    """One request that arrived: what was asked, and the connection to answer on."""

    path: str
    head: str
    connection: socket.socket
    closing: threading.Event

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def respond(self, body: bytes = b"", *, status: str = "200 OK", headers: str = "") -> None:
        """A proper answer; ``headers`` are extra lines, each with its line end."""
        head = f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
        self.send(head.encode("latin-1") + body)

    def redirect(self, location: str, status: str = "302 Found") -> None:
        self.respond(b"moved", status=status, headers=f"Location: {location}\r\n")

    def wait(self, seconds: float = 60) -> None:
        """Do nothing for a while, or until the server is closed."""
        if self.closing.wait(seconds):
            raise Hangup

    def reset(self) -> None:
        """Close with a RST instead of a FIN."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Hangup


@dataclass
class Origin:
    """A running server and what it has seen."""

    port: int
    scheme: str = "http"
    connections: int = 0
    visits: list[Visit] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str = "/a.jpg", host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"


Answer = Callable[[Visit], None]


def image(visit: Visit) -> None:
    """Answer every request with an image."""
    visit.respond(IMAGE, headers="Content-Type: image/jpeg\r\n")


@contextlib.contextmanager
def origin(
    answer: Answer = image,
    *,
    address: str = "127.0.0.1",
    port: int = 0,
    tls: ssl.SSLContext | None = None,
) -> Iterator[Origin]:
    """Serve on a free port of ``address`` until the block ends."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.create_server((address, port), family=family, backlog=128)
    running = Origin(listener.getsockname()[1], "https" if tls else "http")
    threads: list[threading.Thread] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            running.connections += 1
            thread = threading.Thread(target=_converse, args=(running, connection, answer, tls))
            threads.append(thread)
            thread.start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield running
    finally:
        running.closing.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join()
        for thread in threads:
            thread.join(10)


def _converse(
    running: Origin, connection: socket.socket, answer: Answer, tls: ssl.SSLContext | None
) -> None:
    with contextlib.suppress(OSError, Hangup), contextlib.ExitStack() as stack:
        stack.callback(connection.close)
        connection.settimeout(0.2)  # how often closing is looked at
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            connection = tls.wrap_socket(connection, server_side=True)
            stack.callback(connection.close)
        while head := _request_head(connection, running.closing):
            connection.settimeout(20)
            visit = Visit(head.split(" ", 2)[1], head, connection, running.closing)
            running.visits.append(visit)
            answer(visit)
            connection.settimeout(0.2)


def _request_head(connection: socket.socket, closing: threading.Event) -> str:
    data = b""
    while b"\r\n\r\n" not in data:
        try:
            more = connection.recv(65536)
        except TimeoutError:
            if closing.is_set():
                return ""
            continue
        if not more:
            return ""
        data += more
    return data.decode("latin-1")


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def fetching(
    folder: Path,
    *,
    allowed: str = LOOPBACK,
    limits: FetchLimits | None = None,
    ca_file: str | None = None,
) -> Iterator[WaitingFetcher]:
    """A fetcher that may visit the loopback interface; nothing must be left in its folder."""
    spill_folder = folder / "spill"
    spill_folder.mkdir(exist_ok=True)
    policy = AddressPolicy.parse(allowed)
    loop = Loop()
    fetcher: Fetcher[Ticket] = Fetcher(
        policy, limits or FetchLimits(), spill_folder, "pixmill-tests/1", loop, ca_file
    )
    waiting = WaitingFetcher(fetcher, loop)
    try:
        yield waiting
    finally:
        waiting.close()
        left = list(spill_folder.iterdir())
        assert not left, f"left behind: {left}"


@contextlib.contextmanager
def full_backlog() -> Iterator[int]:
    """A port whose queue of connections is full: the next one is never taken."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@contextlib.contextmanager
def blurting(words: bytes) -> Iterator[int]:
    """A port that says its words to whoever connects, without listening, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.sendall(words)
                        connection.shutdown(socket.SHUT_WR)
                        connection.recv(65536)

        thread = threading.Thread(target=speak)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()

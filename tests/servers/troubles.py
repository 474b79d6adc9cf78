"""A proxy between pixmill and an HTTP server that makes the troubles of a bad day."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Trouble(Enum):
    """What happens to a call on its way."""

    NONE = auto()
    REFUSED = auto()
    """Answered with 500; the server never hears of it."""
    SLOW_DOWN = auto()
    """Answered with 503; the server never hears of it."""
    CUT_REQUEST = auto()
    """The connection breaks in the middle of the request's body, for the server too."""
    CUT_ANSWER = auto()
    """The server does it; the connection breaks in the middle of its answer."""
    LOST_ANSWER = auto()
    """The server does it, and nobody hears of that."""


@dataclass(frozen=True, slots=True)
class HttpCall:
    """A call that came by: which number it is, and what it asks for."""

    number: int
    method: str
    path: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The trouble of an answer that the server never gave."""

    status: int
    body: bytes


Plan = Callable[[HttpCall], Trouble | Answered]


class TroubleProxy(ThreadingHTTPServer):
    """Passes calls on to a server on loopback, as ``plan`` says, after ``delay`` seconds.

    ``calls`` lists what came by, ``most_at_once`` says how many were held up together.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, target_port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target_port = target_port
        self.plan: Plan = lambda _call: Trouble.NONE
        self.delay = 0.0
        self.calls: list[HttpCall] = []
        self.most_at_once = 0
        self._waiting = 0
        self._lock = threading.Lock()

    @property
    def endpoint(self) -> str:
        """The URL of the proxy."""
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: broken connections are what it is for."""

    def next_call(self, method: str, path: str) -> HttpCall:
        """Note a call."""
        with self._lock:
            call = HttpCall(len(self.calls), method, path)
            self.calls.append(call)
        return call

    def hold_up(self) -> None:
        """Let a call wait, and count those that wait together."""
        with self._lock:
            self._waiting += 1
            self.most_at_once = max(self.most_at_once, self._waiting)
        time.sleep(self.delay)
        with self._lock:
            self._waiting -= 1


@contextmanager
def trouble_proxy(target_port: int) -> Iterator[TroubleProxy]:
    """Run a proxy; it is gone at the end."""
    proxy = TroubleProxy(target_port)
    thread = threading.Thread(target=proxy.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: TroubleProxy
    wbufsize = -1

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # named by the library
        """Say nothing."""

    def handle_one_request(self) -> None:
        """Serve any method alike."""
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        call = self.server.next_call(self.command, self.path)
        self.server.hold_up()
        self._serve(self.server.plan(call), int(self.headers.get("Content-Length", "0")))

    def _serve(self, trouble: Trouble | Answered, length: int) -> None:
        if trouble is Trouble.CUT_REQUEST:
            self._pass_half(length)
            return
        body = self.rfile.read(length)
        if isinstance(trouble, Answered):
            self._answer(trouble.status, {}, trouble.body)
        elif trouble in {Trouble.REFUSED, Trouble.SLOW_DOWN}:
            status = 500 if trouble is Trouble.REFUSED else 503
            self._answer(status, {}, b"<Error><Code>Trouble</Code></Error>")
        else:
            self._pass_on(trouble, body)

    def _pass_on(self, trouble: Trouble | Answered, body: bytes) -> None:
        status, headers, answer = self._ask(body)
        if trouble is not Trouble.LOST_ANSWER:
            self._answer(status, headers, answer, cut=trouble is Trouble.CUT_ANSWER)
        if trouble is not Trouble.NONE:
            self._break()

    def _pass_half(self, length: int) -> None:
        """Hand the server half of a call, then break both connections."""
        with socket.create_connection(("127.0.0.1", self.server.target_port)) as target:
            head = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
            target.sendall(self.raw_requestline + head.encode("latin-1") + b"\r\n")
            target.sendall(self.rfile.read(length // 2))
            _reset_at_close(target)
        self._break()

    def _ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        target = http.client.HTTPConnection("127.0.0.1", self.server.target_port)
        target.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            target.putheader(name, value)  # with the host that the signature is about
        target.endheaders(body)
        answer = target.getresponse()
        found = answer.read()
        target.close()
        kept = {
            name: value
            for name, value in answer.getheaders()
            if name.lower() not in {"connection", "transfer-encoding"}
        }
        return answer.status, kept, found

    def _answer(
        self, status: int, headers: dict[str, str], body: bytes, *, cut: bool = False
    ) -> None:
        with suppress(OSError):
            self.send_response_only(status)
            length = headers.get("Content-Length", str(len(body)))
            for name, value in {**headers, "Content-Length": length}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if cut else body)
            self.wfile.flush()

    def _break(self) -> None:
        _reset_at_close(self.connection)
        self.close_connection = True


def _reset_at_close(connection: socket.socket) -> None:
    """Let a connection end with a reset, as when a machine falls over."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RD)

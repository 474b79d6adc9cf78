"""A real receiver of webhooks on loopback, whose messages an independent library verifies."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook

from pixmill.core.webhooks import secret_text

SECRET = bytes(range(32))


@dataclass(frozen=True)
class Message:
    """One POST as it came."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float

    @property
    def id(self) -> str:
        """The webhook-id."""
        return self.headers["webhook-id"]

    def verified(self, secret: bytes = SECRET) -> dict[str, Any]:
        """The body, once the library has nothing against it."""
        told = Webhook(secret_text(secret)).verify(self.body, dict(self.headers))
        assert told == json.loads(self.body)
        return dict(told)


Reply = tuple[int, Mapping[str, str]]


@dataclass
class Receiver:
    """Keeps all messages; ``reply`` says what each is answered, and may take its time."""

    reply: Callable[[Message], Reply] = lambda _: (204, {})
    messages: list[Message] = field(default_factory=list)
    port: int = 0
    closing: threading.Event = field(default_factory=threading.Event)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def url(self, path: str = "/hook") -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}{path}"

    def take(self, message: Message) -> Reply:
        """Keep a message and answer it."""
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()
        return self.reply(message)

    def wait_for(self, count: int, timeout: float = 60) -> list[Message]:
        """The messages, once there are so many."""
        with self._changed:
            enough = self._changed.wait_for(lambda: len(self.messages) >= count, timeout)
            assert enough, f"{len(self.messages)} messages came, not {count}"
            return list(self.messages)


@contextmanager
def receiving(reply: Callable[[Message], Reply] = lambda _: (204, {})) -> Iterator[Receiver]:
    """A receiver that listens until the end of the block."""
    receiver = Receiver(reply)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, headers = receiver.take(
                Message(self.path, dict(self.headers.items()), body, time.time())
            )
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

        def handle_error(self, *_: object) -> None:
            """Senders of these tests die on purpose."""

    server = Server(("127.0.0.1", 0), Handler)
    receiver.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()

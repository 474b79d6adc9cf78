"""A little HTTP server that takes webhooks in and judges them, for trying things out."""

from __future__ import annotations

import socketserver
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from typing import Any

from pixmill.core.errors import InvalidSetting
from pixmill.core.received import LONGEST_BODY, MessageRefused, check_message
from pixmill.web.problems import KINDS, CallRefused, Code
from pixmill.web.webhook_schemas import WebhookMessage, parse_message

SILENCE_SECONDS = 15.0

Secrets = Callable[[], Sequence[bytes]]
"""The secrets that are live when it is called, so that a rotation is seen at once."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A call that came in: its message, or why it is not believed; and what was answered."""

    at: datetime
    webhook_id: str | None
    message: WebhookMessage | None
    refusal: str | None
    status: int


def judge(headers: Mapping[str, str], body: bytes, secrets: Secrets, status: int) -> Arrival:
    """What to make of a call; a message that is believed is answered with ``status``."""
    now = time.time()
    at, webhook_id = datetime.fromtimestamp(now, UTC), headers.get("webhook-id")
    try:
        check_message(headers, body, secrets(), now)
        message = parse_message(body)
    except MessageRefused as refused:
        return Arrival(at, webhook_id, None, refused.message, KINDS[Code(refused.code)].status)
    except CallRefused as refused:
        return Arrival(at, webhook_id, None, str(refused), refused.document.status)
    return Arrival(at, webhook_id, message, None, status)


class Receiver(socketserver.ThreadingTCPServer):
    """Listens on loopback and hands over what arrives, one after the other."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(
        self, port: int, secrets: Secrets, status: int, show: Callable[[Arrival], None]
    ) -> None:
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise InvalidSetting(
                f"Cannot listen on 127.0.0.1:{port}: {error.strerror}. Choose another port with"
                " --port."
            ) from None
        self.secrets, self.status, self.show = secrets, status, show
        self.address = f"127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Let a call that broke off be: its sender knows."""


class _Handler(BaseHTTPRequestHandler):
    server: Receiver
    protocol_version = "HTTP/1.1"
    timeout = SILENCE_SECONDS

    def do_POST(self) -> None:
        """Judge a call and answer it."""
        size = self.headers.get("Content-Length", "")
        if not (size.isascii() and size.isdigit()):
            self._answer(411, "Send the length of the body.")
            return
        if int(size) > LONGEST_BODY:
            self._answer(413, f"A body may have {LONGEST_BODY:,} bytes.")
            return
        body = self.rfile.read(int(size))
        if len(body) == int(size):
            headers = {name.lower(): text for name, text in self.headers.items()}
            arrival = judge(headers, body, self.server.secrets, self.server.status)
            self._answer(arrival.status, arrival.refusal or "")
            self.server.show(arrival)

    def do_GET(self) -> None:
        """Tell whoever looks with a browser what this is."""
        self._answer(405, "Webhooks come by POST.")

    def _answer(self, status: int, text: str) -> None:
        body = f"{text}\n".encode() if text else b""
        self.send_response(status)
        if status not in {204, 304}:
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
        if status >= 400:
            self.send_header("Connection", "close")  # what is left of the body is not read
        self.end_headers()
        self.wfile.write(body if status not in {204, 304} else b"")

    def version_string(self) -> str:
        return "pixmill"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the signature of http.server
        """Say nothing: what arrives is shown by whoever started this."""

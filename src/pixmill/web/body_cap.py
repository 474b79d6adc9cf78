"""Caps the size of a call's body while it streams in, whatever it says of itself."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pixmill.core.received import LONGEST_BODY
from pixmill.web.handlers import problem_response
from pixmill.web.problems import CallRefused, Code

UPLOAD_PATH = "/api/upload"
WEBHOOK_PATH = "/api/webhook"
FORM_ROOM = 64 * 1024
"""What the other parts of an upload may take, and the whole body of any other call, in bytes."""


class BodyCapMiddleware:
    """Refuses a body at once if it says that it is too large, or else when it has become so."""

    def __init__(self, app: ASGIApp, *, max_upload_size: int) -> None:
        self._app = app
        self._max_upload_size = max_upload_size

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a call on with a body that never grows past the cap."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        cap = self._cap(path)
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdigit() and int(declared) > cap:
            refused = CallRefused(Code.UPLOAD_TOO_LARGE, self._detail(path))
            await problem_response(refused)(scope, receive, send)
            return
        seen = 0

        async def receive_capped() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > cap:
                # The one kind of exception that FastAPI lets through while it reads a body.
                raise HTTPException(413, self._detail(path))
            return message

        await self._app(scope, receive_capped, send)

    def _cap(self, path: str) -> int:
        if path == UPLOAD_PATH:
            return FORM_ROOM + self._max_upload_size
        return LONGEST_BODY if path == WEBHOOK_PATH else FORM_ROOM

    def _detail(self, path: str) -> str:
        if path == UPLOAD_PATH:
            return upload_too_large(self._max_upload_size)
        return f"The body of this call may have {self._cap(path):,} bytes."


def upload_too_large(max_size: int) -> str:
    """What is said about an upload that is larger than so many bytes."""
    return f"An upload may have {max_size:,} bytes. Split the CSV, or raise the service's limit."

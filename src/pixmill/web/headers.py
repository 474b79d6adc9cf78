"""The headers that every answer carries: what browsers may do with it, and who may call again."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pixmill.web.rates import Allowance

SECURITY: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
HSTS = "max-age=31536000"
ALLOWED = (
    "Authorization",
    "Idempotency-Key",
    "If-None-Match",
    "If-Range",
    "Last-Event-ID",
    "Range",
    "X-API-Key",
)
"""What pages of other origins may send, where CORS lets them call at all."""
EXPOSED = (
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Range",
    "ETag",
    "Idempotency-Replayed",
    "Location",
    "RateLimit-Limit",
    "RateLimit-Remaining",
    "RateLimit-Reset",
    "Retry-After",
)
"""What pages of other origins may read of an answer, where CORS lets them read it at all."""


class HeadersMiddleware:
    """Adds the headers that an answer does not set itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a call on, and its answer back with more headers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        defaults = _defaults(scope)

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                allowance: Allowance | None = state.get("allowance")
                for name, value in (defaults | (allowance.headers() if allowance else {})).items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_on)


def _defaults(scope: Scope) -> dict[str, str]:
    found = dict(SECURITY)
    if scope["path"].startswith("/api/files/"):
        # Pictures are there to be shown on other sites.
        found["Cross-Origin-Resource-Policy"] = "cross-origin"
    else:
        found["Cache-Control"] = "no-store"
    if scope["scheme"] == "https":
        found["Strict-Transport-Security"] = HSTS
    return found

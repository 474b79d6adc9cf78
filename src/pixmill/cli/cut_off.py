"""What becomes of calls that are still going on when a stop cannot wait any longer."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pixmill.web.handlers import RETRY_AFTER, problem_response
from pixmill.web.problems import CallRefused, Code


class CutOff:
    """Tells the callers of calls that the server cancels to come back; it does so at a stop only.

    An answer that has begun is left unfinished, which callers notice.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a call on."""
        begun = False

        async def send_on(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        except asyncio.CancelledError:
            if scope["type"] == "http" and not begun:
                await problem_response(_STOPPING)(scope, receive, send)


_STOPPING = CallRefused(
    Code.STORE_UNAVAILABLE,
    "The service is stopping. Send the call again in a moment.",
    headers={"Retry-After": str(RETRY_AFTER), "Connection": "close"},
)

"""One log line for each call that the service answers."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("pixmill.calls")

_LONG_ID = re.compile(r"\b((?:req|msg)_[a-z2-7]{6})[a-z2-7]{20}\b")


class CallLog:
    """Logs method, path, status, milliseconds, key id and address of each call at its end.

    What follows the ``?`` of a URL is left out: nobody knows what people put there. A call that
    was broken off before its answer began has no status.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a call on, and log it when it is over."""
        if scope["type"] != "http" or not log.isEnabledFor(logging.INFO):
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        state: dict[str, Any] = scope.setdefault("state", {})
        status: int | None = None

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        finally:
            fields = {
                "method": scope["method"],
                "path": _path(scope),
                "status": status,
                "milliseconds": round((time.monotonic() - started) * 1000, 1),
                "key": state.get("key_id"),
                "address": (scope.get("client") or ("",))[0],
            }
            log.info(
                "%s %s %s %.1f ms, key %s, from %s",
                *(value if value is not None else "-" for value in fields.values()),
                extra={"fields": fields},
            )


def in_short(fields: Mapping[str, Any]) -> str:
    """A call for people who watch: ids are cut, and what is not known is left out."""
    words = (
        fields["method"],
        _LONG_ID.sub(r"\1…", fields["path"]),
        fields["status"] or "broken off",
        f"{fields['milliseconds']:.1f} ms",
        f"key {fields['key']}" if fields["key"] else "",
        fields["address"],
    )
    return " ".join(str(word) for word in words if word)


def _path(scope: Scope) -> str:
    """The path as it came, percent-encoded: no line break in it can forge a line of the log."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.decode("ascii", "backslashreplace")

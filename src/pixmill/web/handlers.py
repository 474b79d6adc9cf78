"""Turns everything that is raised during a call into a problem document."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request as Call
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pixmill.core.errors import (
    AlreadyAccepted,
    InvalidOption,
    NotFound,
    PixmillError,
    SheetRejected,
    StorageFailure,
    StoreUnavailable,
    WrongState,
)
from pixmill.web.problems import KINDS, MEDIA_TYPE, CallRefused, Code, for_http, to_json

log = logging.getLogger(__name__)

RETRY_AFTER = 5
"""Seconds after which a store that was away is worth another call."""
LONGEST_DETAIL = 2000

_CODES: Mapping[type[PixmillError], Code] = {
    NotFound: Code.NOT_FOUND,
    WrongState: Code.WRONG_STATE,
    AlreadyAccepted: Code.IDEMPOTENCY_KEY_REUSED,
    InvalidOption: Code.INVALID_OPTION,
}
_STATUSES = {
    404: Code.NOT_FOUND,
    405: Code.METHOD_NOT_ALLOWED,
    413: Code.UPLOAD_TOO_LARGE,
    415: Code.UNSUPPORTED_MEDIA_TYPE,
    416: Code.RANGE_NOT_SATISFIABLE,
}


def add_handlers(app: FastAPI) -> None:
    """Answer everything that an endpoint may raise, but what nobody expected."""
    app.add_exception_handler(CallRefused, _refused)
    app.add_exception_handler(PixmillError, _explained)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _by_status)


def problem_response(refused: CallRefused) -> Response:
    """The answer of a refused call."""
    return JSONResponse(
        to_json(refused.document),
        status_code=refused.document.status,
        headers=dict(refused.headers),
        media_type=MEDIA_TYPE,
    )


async def _refused(_call: Call, error: Exception) -> Response:
    assert isinstance(error, CallRefused)  # noqa: S101  # registered for nothing else
    return problem_response(error)


async def _explained(call: Call, error: Exception) -> Response:
    """Answer what pixmill raises on purpose."""
    assert isinstance(error, PixmillError)  # noqa: S101  # registered for nothing else
    return problem_response(refusal_of(error, _where(call.scope)))


def refusal_of(error: PixmillError, where: str) -> CallRefused:
    """How an error is told to whoever calls; what only the service's owner may know is logged."""
    if isinstance(error, SheetRejected):
        return CallRefused(
            Code.SHEET_REJECTED,
            for_http(error.message),
            errors=error.problems,
            total_errors=error.total,
        )
    if isinstance(error, StoreUnavailable):
        log.warning("%s: %s", where, error.message)
        return CallRefused(
            Code.STORE_UNAVAILABLE,
            f"The store is away for a moment. Try again in {RETRY_AFTER} seconds.",
            headers={"Retry-After": str(RETRY_AFTER)},
        )
    if isinstance(error, StorageFailure):
        log.error("%s: %s", where, error.message)
        return CallRefused(Code.STORAGE_FAILURE, KINDS[Code.STORAGE_FAILURE].what_to_do)
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            return CallRefused(code, error.message[:LONGEST_DETAIL])
    return incident(error, where)


def incident(error: Exception, where: str) -> CallRefused:
    """An error that nobody expected: logged in full under an id, of which the caller learns."""
    name = secrets.token_hex(4)
    log.error("%s: incident %s", where, name, exc_info=error)
    return CallRefused(
        Code.INTERNAL_ERROR, f"This should not happen. The service's log tells more: {name}."
    )


def _where(scope: Scope) -> str:
    """The call, on one line whatever its path holds."""
    return f"{scope['method']} {scope['path']!r}"


async def _invalid(_call: Call, error: Exception) -> Response:
    """Say which parameter of a call is wrong, and what it may be."""
    assert isinstance(error, RequestValidationError)  # noqa: S101  # registered for nothing else
    first: Mapping[str, Any] = error.errors()[0]
    place, *names = first["loc"]
    name = ".".join(str(part) for part in names)
    what = f"{place} parameter {name!r}" if name else f"{place}"
    detail = f"The {what} is not valid: {_sentence(first)}."
    return problem_response(CallRefused(Code.INVALID_CALL, detail[:LONGEST_DETAIL]))


def _sentence(first: Mapping[str, Any]) -> str:
    return str(first["msg"]).removeprefix("Value error, ").rstrip(".")


async def _by_status(call: Call, error: Exception) -> Response:
    """Answer what the framework refuses itself, such as an unknown path."""
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for nothing else
    code = _STATUSES.get(error.status_code, Code.INVALID_CALL)
    if code is Code.NOT_FOUND:
        detail = "There is nothing at this address. /api/openapi.json lists the calls."
    elif code is Code.METHOD_NOT_ALLOWED:
        detail = f"{call.method[:20]} is not a method of this address."
    else:
        detail = str(error.detail)
    return problem_response(CallRefused(code, detail, headers=error.headers))


class IncidentsMiddleware:
    """Answers what no handler expected, inside of the middlewares that add headers.

    Starlette would answer it outside of them all.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a call on; if it breaks before it is answered, answer it."""
        started = False

        async def send_on(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        except Exception as error:  # the service goes on whatever one call meets
            if started or scope["type"] != "http":
                raise
            refused = incident(error, _where(scope))
            await problem_response(refused)(scope, receive, send)

"""``GET /api/requests/{requestId}/events``: progress as it happens, as Server-Sent Events.

The one call that is async, since it does nothing but wait: a thread for each open page would be a
waste. The store is asked in a few threads that all streams share.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from typing import Annotated

import anyio
from fastapi import APIRouter, Header
from starlette.requests import Request as Call
from starlette.responses import Response, StreamingResponse

from pixmill.core.errors import NotFound, PixmillError
from pixmill.core.model import Request
from pixmill.web import views
from pixmill.web.access import Caller, Reader, owned, still_allowed
from pixmill.web.lanes import Lane
from pixmill.web.problems import Code, documented
from pixmill.web.schemas import RequestId
from pixmill.web.service import Service, Services

POLL_SECONDS = 0.5
HEARTBEAT_SECONDS = 15.0
"""Silence after which a comment is sent, so that nobody between takes the stream for dead."""
CHECK_SECONDS = 2.0
"""How long a stream may go on with a key that was revoked, or without one once there are keys."""
RETRY_MILLISECONDS = 3000
READERS = 4
"""Threads in which the store is asked for all streams together."""

router = APIRouter(tags=["requests"])

_readers = Lane("event_readers", READERS)

_EXAMPLE = """\
retry: 3000

id: PROCESSING.40.2.1795300000123456
event: progress
data: {"requestId":"req_4c7t2yqm5ghx3vd6w7ze2kbnoa","status":"PROCESSING","processedImages":40,\
"failedImages":2,"totalImages":50,"completionPercentage":84.0,"updatedAt":"2026-11-22T06:26:40Z"}

id: COMPLETED.48.2.1795300004123456
event: done
data: {"requestId":"req_4c7t2yqm5ghx3vd6w7ze2kbnoa","status":"COMPLETED","processedImages":48,\
"failedImages":2,"totalImages":50,"completionPercentage":100.0,"updatedAt":"2026-11-22T06:26:44Z"}

"""

_EVENT = {
    "type": "object",
    "description": "Each event of the stream.",
    "required": ["id", "event", "data"],
    "properties": {
        "id": {"type": "string"},
        "event": {"type": "string", "enum": ["progress", "done"]},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/Progress"},
        },
    },
}


@router.get(
    "/requests/{request_id}/events",
    operation_id="streamEvents",
    summary="Watch a request",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Events until the request is finished: `progress` whenever something"
            " has changed, then `done`. The data of both is a `Progress` as JSON.",
            "content": {
                "text/event-stream": {
                    "schema": {"type": "string"},
                    "example": _EXAMPLE,
                    "itemSchema": _EVENT,  # OpenAPI 3.2's word; older readers go by the schema
                }
            },
        },
        204: {"description": "The request is finished, and the client knows it: do not reconnect."},
        **documented(Code.NOT_FOUND, Code.STORAGE_FAILURE),
    },
)
async def stream_events(
    call: Call,
    service: Services,
    caller: Reader,
    request_id: RequestId,
    last_event_id: Annotated[
        str | None,
        Header(
            alias="Last-Event-ID",
            description="The id of the last event that was seen: what it told is not repeated.",
        ),
    ] = None,
) -> Response:
    """Progress until the request is finished, for `EventSource` and its like."""
    request = await _readers.run(lambda: owned(service, caller, request_id))
    if request.status.terminal and last_event_id == _state(request):
        return Response(status_code=204)
    return StreamingResponse(
        _events(call, service, caller, request, last_event_id),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


_NEVER = threading.Event()


async def _events(
    call: Call, service: Service, caller: Caller, request: Request, seen: str | None
) -> AsyncIterator[str]:
    """The stream: ends with the request or the caller's right to see it, and when we stop."""
    closing: threading.Event = getattr(call.app.state, "closing", _NEVER)
    yield f"retry: {RETRY_MILLISECONDS}\n\n"
    silent = unchecked = 0.0
    current: Request | None = request
    while True:
        if current and _state(current) != seen:
            seen, silent = _state(current), 0.0
            yield _event(current)
            if current.status.terminal:
                return
        elif silent >= HEARTBEAT_SECONDS:
            silent = 0.0
            yield ": still here\n\n"
        if closing.is_set():
            return
        await anyio.sleep(POLL_SECONDS)
        silent += POLL_SECONDS
        unchecked += POLL_SECONDS
        try:
            if unchecked >= CHECK_SECONDS:
                unchecked = 0.0
                if not await _readers.run(lambda: still_allowed(call, service, caller)):
                    return
            current = await _readers.run(lambda: service.store.request(request.id))
        except NotFound:
            return
        except PixmillError:  # the store is away for a moment; the next look may be luckier
            current = None


def _event(request: Request) -> str:
    name = "done" if request.status.terminal else "progress"
    data = views.progress(request).model_dump_json(by_alias=True)
    return f"id: {_state(request)}\nevent: {name}\ndata: {data}\n\n"


def _state(request: Request) -> str:
    """What an event tells, in short."""
    moment = int(request.updated_at.timestamp() * 1_000_000)
    return f"{request.status}.{request.processed_images}.{request.failed_images}.{moment}"

"""``GET /api/files/…``: the stored images, for web pages and whatever caches stand before them.

No key is needed: the ids in the addresses cannot be guessed. Nothing but a stored image has an
address here, since only what looks exactly like the key of one is looked for at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Mapping
from email.utils import formatdate, parsedate_to_datetime
from typing import Annotated, Any, BinaryIO

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Path
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request as Call
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from pixmill.core.errors import NotFound
from pixmill.core.shards import IMMUTABLE, MEDIA_TYPES
from pixmill.ports import BlobInfo, Blobs
from pixmill.web.etags import has_already
from pixmill.web.problems import CallRefused, Code, documented
from pixmill.web.ranges import NotSatisfiable, Span, span_of
from pixmill.web.streams import stream_file

SMALL = 256 * 1024
"""Bytes up to which a file is read at once, in the event loop: a thread would cost more."""

KEY = re.compile(r"images/req_[a-z2-7]{26}/[0-9]{7,18}\.[a-z0-9]{2,5}")
"""The keys of stored images (``core.shards.image_key``)."""

THREADS = 64
"""Images that are got from afar at once. Threads of their own, so that other calls never wait."""


class _InLoop(APIRoute):
    """A route whose endpoint is called right in the event loop, with nothing in between.

    When files are far away, it is called in a thread: everybody would wait for it.
    """

    def get_route_handler(self) -> Callable[[Call], Coroutine[Any, Any, Response]]:
        threads: CapacityLimiter | None = None

        async def answer(call: Call) -> Response:
            nonlocal threads
            # The router's own pattern lets a line break at the end pass unseen.
            key = call.scope["path"].partition("/files/")[2]
            response: Response
            if call.app.state.service.blobs.near:
                response = self.endpoint(call, key)
            else:
                threads = threads or CapacityLimiter(THREADS)
                response = await to_thread.run_sync(self.endpoint, call, key, limiter=threads)
            return response

        return answer

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in {"GET", "HEAD"}:  # a route by itself knows its own method only
            raise HTTPException(405, headers={"Allow": "GET, HEAD"})
        await super().handle(scope, receive, send)


router = APIRouter(route_class=_InLoop, tags=["results"])

Key = Annotated[
    str,
    Path(
        description="The key of a stored image, as output URLs have it.",
        examples=["images/req_4c7t2yqm5ghx3vd6w7ze2kbnoa/0000001.jpg"],
    ),
]
_IMAGE: Mapping[str, Any] = {
    "content": {
        media: {"schema": {"type": "string", "format": "binary"}} for media in MEDIA_TYPES.values()
    }
}
_HEADERS: Mapping[str, Any] = {
    name: {"description": what, "schema": {"type": "string"}}
    for name, what in {
        "ETag": "A strong tag of the image.",
        "Last-Modified": "When it was stored.",
        "Cache-Control": "The image never changes.",
        "Accept-Ranges": "Ranges of bytes can be asked for.",
    }.items()
}
_RANGE = {"Content-Range": {"description": "Which bytes.", "schema": {"type": "string"}}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {**_IMAGE, "description": "The image.", "headers": _HEADERS},
    206: {**_IMAGE, "description": "A part of the image.", "headers": {**_HEADERS, **_RANGE}},
    304: {"description": "The image is what the client has already.", "headers": _HEADERS},
    **documented(
        Code.NOT_FOUND, Code.RANGE_NOT_SATISFIABLE, Code.STORE_UNAVAILABLE, Code.STORAGE_FAILURE
    ),
}


@router.head(
    "/files/{key:path}",
    operation_id="headFile",
    summary="Look at a stored image",
    response_class=Response,
    responses=_RESPONSES,
)
@router.get(
    "/files/{key:path}",
    operation_id="getFile",
    summary="Get a stored image",
    response_class=Response,
    responses=_RESPONSES,
)
def stored_file(call: Call, key: Key) -> Response:
    """A stored image. It needs no key and never changes; caches may keep it for ever.

    Ranges are served one at a time; who asks for several gets the whole image.
    """
    if KEY.fullmatch(key) is None:
        raise _missing()
    blobs: Blobs = call.app.state.service.blobs
    try:
        maybe_empty = call.method == "HEAD" or _conditional(call)
        if maybe_empty and (answer := _without_body(call, key, blobs.look(key))):
            return answer
        return _with_body(call, key, *blobs.open_known(key))
    except NotFound:
        raise _missing() from None


def _missing() -> CallRefused:
    # It may be stored later, and is never there again once deleted: caches must not keep either.
    return CallRefused(
        Code.NOT_FOUND, "There is no such image.", headers={"Cache-Control": "no-store"}
    )


def _headers(info: BlobInfo) -> dict[str, str]:
    return {
        "ETag": f'"{info.etag}"',
        "Last-Modified": formatdate(info.modified, usegmt=True),
        "Cache-Control": IMMUTABLE,
        "Accept-Ranges": "bytes",
    }


def _media_type(key: str) -> str:
    return MEDIA_TYPES.get(key.rpartition(".")[2], "application/octet-stream")


def _conditional(call: Call) -> bool:
    return "if-none-match" in call.headers or "if-modified-since" in call.headers


def _without_body(call: Call, key: str, info: BlobInfo) -> Response | None:
    """The answer to a call that needs no byte of the image; None if it does."""
    headers = _headers(info)
    if _unchanged(call, headers["ETag"], info.modified):
        return Response(status_code=304, headers=headers)
    if call.method != "HEAD":
        return None
    size = {"Content-Type": _media_type(key), "Content-Length": str(info.size)}
    return Response(headers={**headers, **size})


def _with_body(call: Call, key: str, info: BlobInfo, file: BinaryIO) -> Response:
    """The answer with the bytes of an open file, which is closed in the end."""
    try:
        headers = {**_headers(info), "Content-Type": _media_type(key)}
        span = _span(call, headers, info.size)
        if span:
            headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{info.size}"
        status = 206 if span else 200
        if info.size > SMALL:
            return stream_file(file, span or Span(0, info.size), headers, status)
        data = file.read()
    except BaseException:
        file.close()
        raise
    file.close()
    return Response(data[span.start : span.end] if span else data, status, headers)


def _unchanged(call: Call, tag: str, modified: float) -> bool:
    """Whether the client has the image already; its tag, if sent, counts before its time."""
    if "if-none-match" in call.headers:
        return has_already(call, tag)
    since = call.headers.get("if-modified-since")
    if since is None:
        return False
    try:
        return int(modified) <= parsedate_to_datetime(since).timestamp()
    except (ValueError, OverflowError):  # no date
        return False


def _span(call: Call, headers: Mapping[str, str], size: int) -> Span | None:
    """The bytes that are asked for, if ``If-Range`` still stands for this file."""
    condition = call.headers.get("if-range")
    if condition is not None and condition not in {headers["ETag"], headers["Last-Modified"]}:
        return None
    try:
        return span_of(call.headers.get("range"), size)
    except NotSatisfiable:
        raise CallRefused(
            Code.RANGE_NOT_SATISFIABLE,
            f"The image has {size} bytes.",
            headers={"Content-Range": f"bytes */{size}"},
        ) from None

"""``GET /api/download/{requestId}``: the CSVs that come out, and all images in a ZIP."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import PurePath
from typing import Annotated, Any, BinaryIO, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as Call
from starlette.responses import Response, StreamingResponse

from pixmill import wiring
from pixmill.core.model import Request
from pixmill.io.zip_stream import ZipEntry, zip_stream
from pixmill.steps.download import Sheet, ensure_terminal, has_sheets, open_sheet, pictures
from pixmill.web.access import Reader, owned
from pixmill.web.lanes import Lane
from pixmill.web.problems import Code, documented
from pixmill.web.ranges import Span
from pixmill.web.schemas import RequestId
from pixmill.web.service import Service, Services
from pixmill.web.streams import Streamed, stream_file

router = APIRouter(prefix="/download", tags=["results"])

MADE_AT_ONCE = 2
"""Sheets that are made at the same time; more would only take the processor from other calls."""
MOST_WAITING = 20
"""Calls that may wait for a sheet to be made; the others are told to come back."""

_making = Lane("sheets", MADE_AT_ONCE, most_waiting=MOST_WAITING)

Partial = Annotated[
    bool, Query(description="Give what there is, even if the request is not finished.")
]

_ATTACHMENT = {
    "Content-Disposition": {
        "description": "A file name made from that of the upload.",
        "schema": {"type": "string"},
    }
}
_PROBLEMS = documented(Code.NOT_FOUND, Code.WRONG_STATE, Code.BUSY, Code.STORAGE_FAILURE)
_OUTPUT_EXAMPLE = """\
Serial Number,Product Name,Input Image Urls,Output Image Urls
1,Mug,https://shop.example/mug.jpg,https://cdn.example/images/req_4c7t2yqm5ghx3vd6w7ze2kbnoa/0000001.jpg
"""
_ERRORS_EXAMPLE = """\
Serial Number,Product Name,Input Image Url,Error Code,Error Message,Attempts
2,Cup,https://shop.example/cup.jpg,http_error,The server answered 404.,1
"""


def _file(media_type: str, description: str, **content: Any) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a call that answers with a file."""
    answer = {
        "description": description,
        "headers": _ATTACHMENT,
        "content": {media_type: content},
    }
    return {200: answer, **_PROBLEMS}


def wanted(
    service: Services,
    caller: Reader,
    request_id: RequestId,
    partial: Partial = False,  # noqa: FBT002  # a query parameter is always given by name
) -> Request:
    """The request of which something is wanted, if it can be had by now."""
    request = owned(service, caller, request_id)
    ensure_terminal(request, partial=partial)
    return request


Wanted = Annotated[Request, Depends(wanted)]


async def _opened(call: Call, service: Service, request: Request, sheet: Sheet) -> BinaryIO:
    """A sheet. One that has to be made first waits for its turn, in no thread."""

    def found() -> BinaryIO:
        url_of = wiring.url_of(service.settings)
        return open_sheet(service.store, service.blobs, request, sheet, url_of)

    if has_sheets(request):
        return await run_in_threadpool(found)
    return await _making.run_for(call, found)


@router.get(
    "/{request_id}",
    operation_id="downloadCsv",
    summary="Get the output CSV",
    response_class=StreamingResponse,
    responses=_file(
        "text/csv",
        "The CSV, in UTF-8.",
        schema={"type": "string"},
        examples={"output": {"value": _OUTPUT_EXAMPLE}, "errors": {"value": _ERRORS_EXAMPLE}},
    ),
)
async def download_csv(
    call: Call,
    service: Services,
    request: Wanted,
    report: Annotated[
        Literal["errors"] | None,
        Query(description="`errors`: the error report instead, one line for each failed image."),
    ] = None,
) -> Response:
    """The CSV that was uploaded, with the URLs of the stored images beside those of their sources.

    Positions match; a blank is an image that failed, or that is not there yet.
    """
    sheet = Sheet.ERRORS if report else Sheet.OUTPUT
    file = await _opened(call, service, request, sheet)
    headers = _attachment(request, f"{sheet}.csv") | {"Content-Type": "text/csv; charset=utf-8"}
    return stream_file(file, Span(0, file.seek(0, os.SEEK_END)), headers)


@router.get(
    "/{request_id}/images.zip",
    operation_id="downloadImages",
    summary="Get all images",
    response_class=StreamingResponse,
    responses=_file(
        "application/zip",
        "A ZIP of `output.csv` and all stored images, named as in their URLs.",
        schema={"type": "string", "format": "binary"},
    ),
)
async def download_images(call: Call, service: Services, request: Wanted) -> Response:
    """The output CSV and all images in one ZIP, made while it is sent."""
    sheet = await _opened(call, service, request, Sheet.OUTPUT)
    entries = _entries(service, request, ZipEntry("output.csv", sheet))
    headers = _attachment(request, "images.zip") | {"Content-Type": "application/zip"}
    return Streamed(zip_stream(entries, request.created_at), headers, file=sheet)


def _entries(service: Service, request: Request, sheet: ZipEntry) -> Iterator[ZipEntry]:
    yield sheet
    for name, file in pictures(service.store, service.blobs, request.id):
        yield ZipEntry(name, file)


def _attachment(request: Request, what: str) -> dict[str, str]:
    """The header that names the file after the upload (RFC 6266): plain, and as it truly is."""
    stem = _UNSAFE.sub("_", PurePath(request.filename.replace("\\", "/")).stem)[:LONGEST_STEM]
    name = f"{stem.strip(' .') or 'products'}-{what}"
    plain = name.encode("ascii", "replace").decode().replace("?", "_")
    true = quote(name.encode("utf-8", "replace"), safe="")
    return {"Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{true}"}


LONGEST_STEM = 100
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f"%*/:;<>?\\|\u2028-\u202e\u2066-\u2069]')
"""What file names of some system cannot have, or what would show another name than it is."""

"""``GET /api/download/{requestId}``: the CSVs that come out, and all images in a ZIP."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import PurePath
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query
from starlette.responses import Response, StreamingResponse

from pixmill import wiring
from pixmill.core.model import Request
from pixmill.io.zip_stream import ZipEntry, zip_stream
from pixmill.steps.download import Sheet, ensure_terminal, open_sheet, pictures
from pixmill.web.access import Reader, owned
from pixmill.web.problems import Code, documented
from pixmill.web.ranges import Span
from pixmill.web.schemas import RequestId
from pixmill.web.service import Service, Services
from pixmill.web.streams import Streamed, stream_file

router = APIRouter(prefix="/download", tags=["results"])

Partial = Annotated[
    bool, Query(description="Give what there is, even if the request is not finished.")
]

_ATTACHMENT = {
    "Content-Disposition": {
        "description": "A file name made from that of the upload.",
        "schema": {"type": "string"},
    }
}
_PROBLEMS = documented(Code.NOT_FOUND, Code.WRONG_STATE, Code.STORAGE_FAILURE)
_OUTPUT_EXAMPLE = """\
Serial Number,Product Name,Input Image Urls,Output Image Urls
1,Mug,https://shop.example/mug.jpg,https://cdn.example/images/req_4c7t2yqm5ghx3vd6w7ze2kbnoa/0000001.jpg
"""
_ERRORS_EXAMPLE = """\
Serial Number,Product Name,Input Image Url,Error Code,Error Message,Attempts
2,Cup,https://shop.example/cup.jpg,http_error,The server answered 404.,1
"""


def _file(media_type: str, description: str, **more: Any) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a call that answers with a file."""
    content = {"schema": {"type": "string", "format": "binary"}, **more}
    answer = {
        "description": description,
        "headers": _ATTACHMENT,
        "content": {media_type: content},
    }
    return {200: answer, **_PROBLEMS}


@router.get(
    "/{request_id}",
    operation_id="downloadCsv",
    summary="Get the output CSV",
    response_class=StreamingResponse,
    responses=_file(
        "text/csv",
        "The CSV, in UTF-8.",
        examples={"output": {"value": _OUTPUT_EXAMPLE}, "errors": {"value": _ERRORS_EXAMPLE}},
    ),
)
def download_csv(
    service: Services,
    caller: Reader,
    request_id: RequestId,
    report: Annotated[
        Literal["errors"] | None,
        Query(description="`errors`: the error report instead, one line for each failed image."),
    ] = None,
    partial: Partial = False,  # noqa: FBT002  # a query parameter is always given by name
) -> Response:
    """The CSV that was uploaded, with the URLs of the stored images beside those of their sources.

    Positions match; a blank is an image that failed, or that is not there yet.
    """
    request = owned(service, caller, request_id)
    ensure_terminal(request, partial=partial)
    sheet = Sheet.ERRORS if report else Sheet.OUTPUT
    file = open_sheet(service.store, service.blobs, request, sheet, wiring.url_of(service.settings))
    headers = _attachment(request, f"{sheet}.csv") | {"Content-Type": "text/csv; charset=utf-8"}
    return stream_file(file, Span(0, file.seek(0, os.SEEK_END)), headers)


@router.get(
    "/{request_id}/images.zip",
    operation_id="downloadImages",
    summary="Get all images",
    response_class=StreamingResponse,
    responses=_file(
        "application/zip", "A ZIP of `output.csv` and all stored images, named as in their URLs."
    ),
)
def download_images(
    service: Services,
    caller: Reader,
    request_id: RequestId,
    partial: Partial = False,  # noqa: FBT002  # a query parameter is always given by name
) -> Response:
    """The output CSV and all images in one ZIP, made while it is sent."""
    request = owned(service, caller, request_id)
    ensure_terminal(request, partial=partial)
    sheet = open_sheet(
        service.store, service.blobs, request, Sheet.OUTPUT, wiring.url_of(service.settings)
    )
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

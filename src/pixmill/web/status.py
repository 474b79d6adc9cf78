"""``GET /api/status/{requestId}``: where a request stands, with a page of its products."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header
from starlette.requests import Request as Call
from starlette.responses import Response

from pixmill import wiring
from pixmill.core.model import Request, RequestStatus
from pixmill.steps.finish import images_of
from pixmill.web import views
from pixmill.web.access import Reader, owned
from pixmill.web.cursors import USUAL, after_sequence, sequence_of
from pixmill.web.etags import has_already, tag_of
from pixmill.web.paging import CursorParameter, Limit
from pixmill.web.problems import Code, documented
from pixmill.web.schemas import ProductStatus, RequestDetail, RequestId
from pixmill.web.service import Service, Services

router = APIRouter(tags=["requests"])

_HEADERS = {
    "ETag": {
        "description": "Changes with the answer: send it as If-None-Match.",
        "schema": {"type": "string"},
    }
}


@router.get(
    "/status/{request_id}",
    operation_id="getStatus",
    summary="See where a request stands",
    response_model=RequestDetail,
    responses={
        200: {"headers": _HEADERS},
        304: {"description": "Nothing has changed.", "headers": _HEADERS},
        **documented(Code.NOT_FOUND, Code.STORAGE_FAILURE),
    },
)
def get_status(
    call: Call,
    service: Services,
    caller: Reader,
    request_id: RequestId,
    limit: Limit = USUAL,
    cursor: CursorParameter = None,
    if_none_match: Annotated[
        str | None, Header(description="An `ETag` of before: 304 if nothing has changed since.")
    ] = None,
) -> Response:
    """Where a request stands, with a page of its products in the order of the CSV.

    Products are listed from the moment on when all of them are known (status PROCESSING).
    """
    after = sequence_of(cursor)
    request = owned(service, caller, request_id)
    headers = {
        "ETag": _tag(request, after, limit, service.settings.public_url),
        "Cache-Control": "private, no-cache",
    }
    if if_none_match is not None and has_already(call, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    detail = _detail(service, request, after, limit)
    body = detail.model_dump_json(by_alias=True)
    return Response(body, headers=headers, media_type="application/json")


def _tag(request: Request, after: int, limit: int, public_url: str) -> str:
    """A tag of all that the answer depends on. Products change only with the counters."""
    return tag_of(
        *(request.id, str(request.status), request.processed_images, request.failed_images),
        *(request.updated_at, request.error, after, limit, public_url),
    )


def _detail(service: Service, request: Request, after: int, limit: int) -> RequestDetail:
    products, more = _products(service, request, after, limit)
    return RequestDetail(
        **views.summary_fields(request), products=tuple(products), next_cursor=more
    )


def _products(
    service: Service, request: Request, after: int, limit: int
) -> tuple[list[ProductStatus], str | None]:
    """A page of products, and the cursor of the next one."""
    if request.status is RequestStatus.PENDING:  # a page would end where the ingest is just now
        return [], None
    found = service.store.products(request.id, after=after, limit=limit + 1)
    page = found[:limit]
    images = images_of(service.store, request.id, page)
    url_of = wiring.url_of(service.settings)
    products = [views.product(product, images, url_of) for product in page]
    return products, after_sequence(page[-1].sequence) if len(found) > limit else None

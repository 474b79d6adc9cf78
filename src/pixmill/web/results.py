"""``GET /api/results/{requestId}``: what became of each image, and the totals."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from pixmill import wiring
from pixmill.core.model import ImageStatus, Request, RequestStatus
from pixmill.web import views
from pixmill.web.access import Reader, owned
from pixmill.web.cursors import USUAL, after_sequence, sequence_of
from pixmill.web.paging import CursorParameter, Limit
from pixmill.web.problems import Code, documented
from pixmill.web.schemas import RequestId, ResultPage, ResultTotals
from pixmill.web.service import Services

router = APIRouter(tags=["results"])


@router.get(
    "/results/{request_id}",
    operation_id="getResults",
    summary="See what became of each image",
    response_model=ResultPage,
    responses=documented(Code.NOT_FOUND, Code.STORAGE_FAILURE),
)
def get_results(
    service: Services,
    caller: Reader,
    request_id: RequestId,
    status: Annotated[
        ImageStatus | None, Query(description="Only images that have this status.")
    ] = None,
    limit: Limit = USUAL,
    cursor: CursorParameter = None,
) -> Response:
    """The images of a request, each distinct URL once; the first page has totals over all of them.

    Images are listed from the moment on when all of them are known (status PROCESSING).
    """
    after = sequence_of(cursor)
    request = owned(service, caller, request_id)
    found = []
    if request.status is not RequestStatus.PENDING:  # as with products: all are known, or none
        found = service.store.images(request_id, status=status, after=after, limit=limit + 1)
    page = found[:limit]
    url_of = wiring.url_of(service.settings)
    results = ResultPage(
        request_id=request.id,
        status=request.status,
        totals=_totals(service, request) if cursor is None else None,
        images=tuple(views.image(image, url_of) for image in page),
        next_cursor=after_sequence(page[-1].sequence) if len(found) > limit else None,
    )
    # Made here: the framework would check and copy a thousand images once more.
    return Response(results.model_dump_json(by_alias=True), media_type="application/json")


def _totals(service: Services, request: Request) -> ResultTotals:
    """The sums over all images of a request: each of them is read."""
    found = service.store.totals(request.id)
    return views.totals(found, _seconds(request, service.clock()))


def _seconds(request: Request, now: float) -> float:
    """How long a request took, or has taken so far."""
    end = request.finished_at or datetime.fromtimestamp(now, UTC)
    return (end - request.created_at).total_seconds()

"""``/api/requests``: list, cancel, retry and delete requests."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from pixmill.core.model import RequestStatus
from pixmill.steps.delete import delete_request
from pixmill.web import views
from pixmill.web.access import Reader, Submitter, owned
from pixmill.web.cursors import USUAL, before_request, request_of
from pixmill.web.paging import CursorParameter, Limit
from pixmill.web.problems import Code, documented
from pixmill.web.schemas import RequestId, RequestPage, RequestSummary, RetryAccepted
from pixmill.web.service import Services

router = APIRouter(prefix="/requests", tags=["requests"])


@router.get(
    "",
    operation_id="listRequests",
    summary="List requests",
    responses=documented(Code.STORAGE_FAILURE),
)
def list_requests(
    service: Services,
    caller: Reader,
    status: Annotated[
        RequestStatus | None, Query(description="Only requests that have this status.")
    ] = None,
    limit: Limit = USUAL,
    cursor: CursorParameter = None,
) -> RequestPage:
    """Your requests, newest first."""
    found = service.store.requests(
        caller.owner, status=status, before=request_of(cursor), limit=limit + 1
    )
    page = found[:limit]
    return RequestPage(
        requests=tuple(map(views.summary, page)),
        next_cursor=before_request(page[-1]) if len(found) > limit else None,
    )


@router.post(
    "/{request_id}/cancel",
    operation_id="cancelRequest",
    summary="Cancel a request",
    responses=documented(Code.NOT_FOUND, Code.WRONG_STATE, Code.STORAGE_FAILURE),
)
def cancel_request(service: Services, caller: Submitter, request_id: RequestId) -> RequestSummary:
    """Stop a request: what is done stays, what is not fails as `cancelled` and can be retried."""
    owned(service, caller, request_id)
    cancelled = service.store.cancel_request(request_id, now=service.clock())
    service.wake()  # somebody may have to be told
    return views.summary(cancelled)


@router.post(
    "/{request_id}/retry",
    operation_id="retryRequest",
    summary="Retry what failed",
    status_code=202,
    responses=documented(Code.NOT_FOUND, Code.WRONG_STATE, Code.STORAGE_FAILURE),
)
def retry_request(service: Services, caller: Submitter, request_id: RequestId) -> RetryAccepted:
    """Try the failed images of a finished request again; what is done stays as it is.

    If none failed, yet it was cancelled or has an `errorMessage`, what is missing of it is made.
    """
    owned(service, caller, request_id)
    retried = service.store.retry_failed(request_id, now=service.clock())
    service.wake()
    request = service.store.request(request_id)
    return RetryAccepted(request_id=request.id, status=request.status, retried_images=retried)


@router.delete(
    "/{request_id}",
    operation_id="deleteRequest",
    summary="Delete a request",
    status_code=204,
    responses=documented(Code.NOT_FOUND, Code.STORAGE_FAILURE),
)
def remove_request(service: Services, caller: Submitter, request_id: RequestId) -> None:
    """Delete a request with its records and files, whether it is finished or not."""
    owned(service, caller, request_id)
    delete_request(
        service.store, service.blobs, request_id, service.clock, service.settings.lease_seconds
    )

"""``POST /api/upload``: hand over a CSV."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header
from pydantic import AfterValidator
from starlette.responses import Response

from pixmill.core.addresses import AddressPolicy
from pixmill.core.errors import InvalidOption
from pixmill.core.events import USUAL_EVENTS, Webhook
from pixmill.core.model import Accepted
from pixmill.io.post import check_endpoint
from pixmill.steps.submit import Order, submit_once
from pixmill.web.access import Submitter
from pixmill.web.form import LONGEST_KEY, UploadForm
from pixmill.web.problems import Code, documented, to_sheet_problem
from pixmill.web.schemas import UploadAccepted
from pixmill.web.service import Services
from pixmill.wiring import sheet_limits

router = APIRouter()

VALIDATED_AT_ONCE = 2
"""Uploads that are validated at the same time; more would only take threads from other calls."""


def _visible(key: str) -> str:
    if not (0 < len(key) <= LONGEST_KEY and all("!" <= letter <= "~" for letter in key)):
        raise ValueError(f"It must be 1 to {LONGEST_KEY} visible ASCII characters, without spaces")
    return key


IdempotencyKey = Annotated[
    str | None,
    AfterValidator(lambda key: key if key is None else _visible(key)),
    Header(
        alias="Idempotency-Key",
        description="Makes the upload safe to repeat: the same key with the same file and options"
        " gives the first answer again, without another request, for 24 hours.",
        json_schema_extra={"minLength": 1, "maxLength": LONGEST_KEY, "pattern": "^[!-~]+$"},
    ),
]

FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {"$ref": "#/components/schemas/UploadForm"},
            "encoding": {
                "csv": {"contentType": "text/csv, application/octet-stream"},
                "options": {"contentType": "application/json"},
            },
        }
    },
}


def told(
    service: Services, caller: Submitter, form: UploadForm, key: IdempotencyKey = None
) -> Webhook | None:
    """Who is told of the request. A URL that would never be called is refused now.

    Not so if the upload was accepted before: that answer hangs on no name server.
    """
    url = form.webhook_url or service.settings.webhook_url
    known = key and service.store.accepted(caller.owner, key, now=service.clock())
    if form.webhook_url and not known:
        check_endpoint(url, AddressPolicy.parse(service.settings.allowed_addresses))
    if form.webhook_events and not url:
        raise InvalidOption(
            "'webhookEvents' needs a 'webhookUrl', since this service has no default one."
        )
    return Webhook(url, form.webhook_events or USUAL_EVENTS) if url else None


Told = Annotated[Webhook | None, Depends(told)]


def submitted(
    service: Services,
    caller: Submitter,
    form: UploadForm,
    webhook: Told,
    key: IdempotencyKey = None,
) -> tuple[Accepted, bool]:
    """The accepted upload, durable by now, and whether it had been accepted before."""
    return submit_once(
        service.store,
        service.blobs,
        form.csv,
        Order(form.filename, form.options, form.rules, caller.owner, webhook),
        sheet_limits(service.settings),
        service.clock,
        key=key,
    )


Submitted = Annotated[tuple[Accepted, bool], Depends(submitted, max_concurrency=VALIDATED_AT_ONCE)]


@router.post(
    "/upload",
    operation_id="upload",
    tags=["requests"],
    status_code=202,
    response_description="Accepted and durable: it completes without anyone's help.",
    responses={
        202: {
            "headers": {
                "Location": {
                    "description": "Where the status is told.",
                    "schema": {"type": "string", "format": "uri-reference"},
                },
                "Idempotency-Replayed": {
                    "description": "There if this is the answer to an earlier upload.",
                    "schema": {"type": "string", "enum": ["true"]},
                },
            }
        },
        **documented(
            Code.INVALID_CALL,
            Code.INVALID_OPTION,
            Code.SHEET_REJECTED,
            Code.IDEMPOTENCY_KEY_REUSED,
            Code.UNSUPPORTED_MEDIA_TYPE,
            Code.STORAGE_FAILURE,
        ),
    },
    openapi_extra={"requestBody": FORM},
)
def upload(service: Services, submitted: Submitted, response: Response) -> UploadAccepted:
    """Validate a CSV and accept it. Nothing is kept of one that is refused."""
    accepted, replayed = submitted
    service.wake()
    response.headers["Location"] = f"/api/status/{accepted.request_id}"
    if replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return UploadAccepted(
        request_id=accepted.request_id,
        total_images=accepted.total_images,
        total_products=accepted.total_products,
        skipped_rows=accepted.skipped_rows,
        warnings=tuple(map(to_sheet_problem, accepted.warnings)),
    )

"""``/api/webhook``: takes in the webhooks of this service or another pixmill, and lists them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import ClientDisconnect
from starlette.requests import Request as Call

from pixmill.core.received import MessageRefused, check_message
from pixmill.core.webhooks import Receipt
from pixmill.web.access import Admin
from pixmill.web.cursors import USUAL, before_receipt, receipt_of
from pixmill.web.outgoing import MESSAGE
from pixmill.web.paging import CursorParameter, Limit
from pixmill.web.problems import KINDS, CallRefused, Code, documented
from pixmill.web.rates import count_call
from pixmill.web.service import Services
from pixmill.web.webhook_schemas import (
    ReceiptPage,
    WebhookMessage,
    WebhookReceipt,
    parse_message,
)

router = APIRouter(prefix="/webhook", tags=["webhooks"])

MOST_KEPT = 20_000
"""Bytes of a message that a receipt keeps as they are; of a longer one, all but its products."""


def counted(call: Call, service: Services) -> None:
    """Count a call that shows no key for its address."""
    count_call(call, service, None)


async def read_body(call: Call, _counted: Annotated[None, Depends(counted)]) -> bytes:
    """The body as it arrived: it is what was signed."""
    try:
        return await call.body()
    except ClientDisconnect:
        raise CallRefused(Code.INVALID_CALL, "The body ended before it was complete.") from None


@router.post(
    "",
    operation_id="receiveWebhook",
    summary="Receive a webhook",
    status_code=204,
    responses=documented(
        Code.WEBHOOK_MALFORMED,
        Code.WEBHOOK_EXPIRED,
        Code.WEBHOOK_UNVERIFIED,
        Code.INVALID_CALL,
        Code.RATE_LIMITED,
        Code.STORE_UNAVAILABLE,
        Code.STORAGE_FAILURE,
    ),
    openapi_extra=dict(MESSAGE),
)
def receive_webhook(
    call: Call, service: Services, body: Annotated[bytes, Depends(read_body)]
) -> None:
    """Take in a webhook of this service or of another pixmill, and keep a receipt.

    No key is needed: the signature, with a secret that is live here, is what lets it in. A message
    whose `webhook-id` was seen before is taken as well, and keeps its one receipt.
    """
    now = service.clock()
    # Not wiring.webhook_secrets, which makes the first one: a stranger's call changes nothing.
    secrets = service.settings.webhook_secrets or service.outbox.secrets(now=now)
    try:
        stamp = check_message(call.headers, body, secrets, now)
    except MessageRefused as refused:
        raise _refusal(refused) from None
    message = parse_message(body)
    service.outbox.add_receipt(
        Receipt(
            webhook_id=stamp.webhook_id,
            event=message.type,
            request_id=message.request_id,
            received_at=datetime.fromtimestamp(now, UTC),
            body=_kept(message, body),
        )
    )


@router.get(
    "/receipts",
    operation_id="listReceipts",
    summary="List received webhooks",
    responses=documented(Code.STORAGE_FAILURE),
)
def list_receipts(
    service: Services, _caller: Admin, limit: Limit = USUAL, cursor: CursorParameter = None
) -> ReceiptPage:
    """All webhooks that were received and rightly signed, newest first.

    They belong to no key, and may tell of other services' requests: so this is for admins.
    """
    found = service.outbox.receipts(before=receipt_of(cursor), limit=limit + 1)
    page = found[:limit]
    return ReceiptPage(
        receipts=tuple(map(_shown, page)),
        next_cursor=before_receipt(page[-1]) if len(found) > limit else None,
    )


def _refusal(refused: MessageRefused) -> CallRefused:
    code = Code(refused.code)
    challenge = {"WWW-Authenticate": 'Signature realm="pixmill webhooks"'}
    headers = challenge if KINDS[code].status == 401 else {}
    return CallRefused(code, refused.message, headers=headers)


def _kept(message: WebhookMessage, body: bytes) -> str:
    """What is kept of a message: all of it, unless somebody sends more than pixmill does."""
    if len(body) <= MOST_KEPT:
        return body.decode()
    short = message.model_copy(update={"products": (), "products_truncated": True})
    return short.model_dump_json(by_alias=True)


def _shown(receipt: Receipt) -> WebhookReceipt:
    return WebhookReceipt(
        webhook_id=receipt.webhook_id,
        received_at=receipt.received_at,
        message=WebhookMessage.model_validate_json(receipt.body),
    )

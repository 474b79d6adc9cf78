"""The delivery log: each webhook of a request with its attempts, and sending one again."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from pixmill.core.errors import NotFound
from pixmill.core.webhooks import Attempt, Delivery
from pixmill.ports import Outbox
from pixmill.web.access import Caller, Reader, Submitter, owned
from pixmill.web.problems import Code, documented
from pixmill.web.schemas import RequestId
from pixmill.web.service import Service, Services
from pixmill.web.webhook_schemas import (
    DeliveryAttempt,
    DeliveryLog,
    WebhookDelivery,
)

router = APIRouter(tags=["webhooks"])

DeliveryId = Annotated[str, Path(description="The `deliveryId`, which is the `webhook-id`.")]


@router.get(
    "/requests/{request_id}/deliveries",
    operation_id="listDeliveries",
    summary="See the webhooks of a request",
    responses=documented(Code.NOT_FOUND, Code.STORAGE_FAILURE),
)
def list_deliveries(service: Services, caller: Reader, request_id: RequestId) -> DeliveryLog:
    """Every webhook of a request, oldest first: where it stands, and what became of each attempt.

    A request has none if neither its upload nor the service named a URL. Of the URL, only scheme,
    host and port are shown.
    """
    request = owned(service, caller, request_id)
    found = service.outbox.deliveries(request.id)
    return DeliveryLog(
        request_id=request.id,
        deliveries=tuple(_shown(delivery, service.outbox) for delivery in found),
    )


@router.post(
    "/deliveries/{delivery_id}/replay",
    operation_id="replayDelivery",
    summary="Send a webhook again",
    status_code=202,
    responses=documented(Code.NOT_FOUND, Code.STORAGE_FAILURE),
)
def replay_delivery(
    service: Services, caller: Submitter, delivery_id: DeliveryId
) -> WebhookDelivery:
    """Send a webhook again, now, whether it was delivered, given up, or is still to be sent.

    Its id and body stay the same, so receivers can tell that they have seen it. If it fails, it is
    tried again as often as a new one.
    """
    _owned_delivery(service, caller, delivery_id)
    delivery = service.outbox.replay(delivery_id, now=service.clock())
    service.wake()
    return _shown(delivery, service.outbox)


def _owned_delivery(service: Service, caller: Caller, delivery_id: str) -> Delivery:
    """The delivery with this id, if it is of a request of the caller's; raises NotFound."""
    try:
        delivery = service.outbox.delivery(delivery_id)
        owned(service, caller, delivery.request_id)
    except NotFound:  # in the same words, whether there is none or it is somebody else's
        raise NotFound(f"There is no delivery {delivery_id[:60]!r}.") from None
    return delivery


def _shown(delivery: Delivery, outbox: Outbox) -> WebhookDelivery:
    return WebhookDelivery(
        delivery_id=delivery.id,
        request_id=delivery.request_id,
        event=delivery.event,
        url=delivery.endpoint,  # no more of it: the service's own URL may hold a token
        state=delivery.state,
        attempts_made=delivery.attempts,
        next_attempt_at=delivery.next_attempt_at,
        created_at=delivery.created_at,
        attempts=tuple(map(_attempt, outbox.attempts(delivery.id))),
    )


def _attempt(attempt: Attempt) -> DeliveryAttempt:
    return DeliveryAttempt(
        number=attempt.number,
        at=attempt.at,
        duration_seconds=round(attempt.duration, 3),
        http_status=attempt.http_status,
        error=attempt.error,
    )

"""The delivery log tells of every webhook and attempt; a replay sends one again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from pixmill.core.events import Event, Webhook
from pixmill.core.webhooks import Attempt, Delivery, DeliveryState
from pixmill.web.service import Service
from tests.web import life
from tests.web.server import new_key
from tests.web.test_upload import refused

HOOK = Webhook("https://shop.example/hook/secret?token=1", (Event.PROCESSING, Event.COMPLETED))


def log_of(client: httpx.Client, request_id: str) -> list[dict[str, Any]]:
    answer = client.get(f"/api/requests/{request_id}/deliveries")
    assert answer.status_code == 200, answer.text
    assert answer.json()["requestId"] == request_id
    return list(answer.json()["deliveries"])


def tried(
    service: Service, *, status: int | None, state: DeliveryState, wait: float = 60
) -> Delivery:
    """Take the delivery that is due and record an attempt, as a dispatcher would."""
    now = service.clock()
    delivery = service.outbox.claim_delivery("w", [], now=now, lease_seconds=60)
    assert delivery
    error = None if status else "shop.example did not answer in time."
    at = datetime.fromtimestamp(now, UTC)
    attempt = Attempt(delivery.attempts + 1, at, 0.25, status, error)
    next_at = now + wait if state is DeliveryState.PENDING else None
    service.outbox.record_attempt(delivery, attempt, state, next_at=next_at)
    return delivery


def test_a_request_without_a_webhook_has_no_deliveries(
    client: httpx.Client, service: Service
) -> None:
    assert log_of(client, life.finished(service).id) == []


def test_the_log_shows_each_delivery_with_where_it_stands(
    client: httpx.Client, service: Service
) -> None:
    request = life.finished(service, webhook=HOOK)
    first, second = log_of(client, request.id)
    assert [first["event"], second["event"]] == ["request.processing", "request.completed"]
    assert first["url"] == "https://shop.example", "no path or query, where tokens live"
    assert (first["state"], first["attemptsMade"], first["attempts"]) == ("pending", 0, [])
    assert first["nextAttemptAt"] is not None
    assert first["createdAt"] <= second["createdAt"]
    assert {delivery["requestId"] for delivery in (first, second)} == {request.id}


def test_the_log_shows_what_became_of_each_attempt(client: httpx.Client, service: Service) -> None:
    request = life.finished(service, webhook=Webhook(HOOK.url))
    tried(service, status=503, state=DeliveryState.PENDING, wait=-1)
    tried(service, status=None, state=DeliveryState.PENDING, wait=-1)
    tried(service, status=410, state=DeliveryState.FAILED)
    (delivery,) = log_of(client, request.id)
    assert (delivery["state"], delivery["attemptsMade"]) == ("failed", 3)
    assert delivery["nextAttemptAt"] is None
    assert [
        (attempt["number"], attempt["httpStatus"], attempt["error"], attempt["durationSeconds"])
        for attempt in delivery["attempts"]
    ] == [
        (1, 503, None, 0.25),
        (2, None, "shop.example did not answer in time.", 0.25),
        (3, 410, None, 0.25),
    ]


@pytest.mark.parametrize("state", [DeliveryState.DELIVERED, DeliveryState.FAILED])
def test_a_replay_makes_a_delivery_due_again_under_its_id(
    client: httpx.Client, service: Service, state: DeliveryState
) -> None:
    request = life.finished(service, webhook=Webhook(HOOK.url))
    sent = tried(service, status=204, state=state)
    answer = client.post(f"/api/deliveries/{sent.id}/replay")
    assert answer.status_code == 202
    (delivery,) = log_of(client, request.id)
    assert answer.json() == delivery
    assert (delivery["deliveryId"], delivery["state"]) == (sent.id, "pending")
    assert len(delivery["attempts"]) == 1
    again = service.outbox.claim_delivery("w", [], now=service.clock(), lease_seconds=60)
    assert again
    assert again.id == sent.id


def test_replaying_what_waits_for_its_next_attempt_makes_it_due_now(
    client: httpx.Client, service: Service
) -> None:
    life.finished(service, webhook=Webhook(HOOK.url))
    sent = tried(service, status=500, state=DeliveryState.PENDING, wait=3600)
    now = service.clock()
    assert service.outbox.claim_delivery("w", [], now=now, lease_seconds=60) is None
    assert client.post(f"/api/deliveries/{sent.id}/replay").status_code == 202
    assert service.outbox.claim_delivery("w", [], now=service.clock(), lease_seconds=60)


def test_deliveries_of_others_deleted_requests_and_none_are_all_not_found(
    client: httpx.Client, service: Service
) -> None:
    own, other = new_key(service, "admin"), new_key(service, "admin")
    owner = service.access.keys()[0].id
    request = life.finished(service, webhook=HOOK, owner=owner)
    delivery = service.outbox.deliveries(request.id)[0]

    def replayed(name: str, headers: dict[str, str]) -> httpx.Response:
        return client.post(f"/api/deliveries/{name}/replay", headers=headers)

    detail = refused(replayed(delivery.id, other), 404, "not_found")
    assert detail == f"There is no delivery '{delivery.id}'."
    assert refused(replayed("msg_none", own), 404, "not_found") == (
        "There is no delivery 'msg_none'."
    )
    assert replayed(delivery.id, own).status_code == 202
    service.store.delete_request(request.id, now=service.clock(), purge_at=service.clock())
    refused(replayed(delivery.id, own), 404, "not_found")
    gone = client.get(f"/api/requests/{request.id}/deliveries", headers=own)
    refused(gone, 404, "not_found")

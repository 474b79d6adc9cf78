"""Requests with a webhook, and their deliveries, for tests."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from pixmill.core.events import Event, Webhook
from pixmill.core.leases import Work
from pixmill.core.webhooks import Attempt, Delivery, DeliveryState
from pixmill.ports import Outbox, Store
from tests.contracts.records import NOW, a_request, claimed, done, failed

HOOK = "https://shop.example/hook"
ALL_EVENTS = tuple(Event)


def add(
    store: Store,
    request_id: str = "req_a",
    *,
    images: int = 3,
    url: str = HOOK,
    events: tuple[Event, ...] = ALL_EVENTS,
) -> None:
    """Add a request that tells a webhook of these events."""
    store.add_request(replace(a_request(request_id, images), webhook=Webhook(url, events)))


def ingest(store: Store, images: int = 3) -> None:
    """Ingest the request whose turn it is."""
    lease = claimed(store, Work.INGEST)
    store.begin_ingest(lease)
    store.add_images(lease, {f"http://shop.example/{number}.jpg": 1 for number in range(images)})
    store.finish_ingest(lease, now=NOW)


def cancelled(
    store: Store, request_id: str = "req_a", *, url: str = HOOK, now: float = NOW
) -> None:
    """Add a request and cancel it: that makes one delivery."""
    add(store, request_id, url=url)
    store.cancel_request(request_id, now=now)


def completed(store: Store, images: int = 3) -> None:
    """Take the request whose turn it is from its ingest to its end."""
    ingest(store, images)
    work_off(store)


def work_off(store: Store, *, failing: int | None = None) -> None:
    """Do what an ingested request has to do, image by image; those from ``failing`` on fail."""
    while lease := store.claim("w1", now=NOW, lease_seconds=30):
        if lease.work is Work.FINISH:
            store.close_request(lease, now=NOW)
            continue
        for image in store.pending_images(lease):
            outcome = failed if failing and image.sequence >= failing else done
            store.record_outcomes({lease: [outcome(image.sequence)]}, now=NOW)
        store.complete_shard(lease, now=NOW)


def taken(outbox: Outbox, *, now: float = NOW, worker: str = "w1") -> Delivery:
    """The delivery that is due, which must be there."""
    delivery = outbox.claim_delivery(worker, [], now=now, lease_seconds=60)
    assert delivery is not None
    return delivery


def tried(number: int = 1, *, status: int | None = 500, at: float = NOW) -> Attempt:
    """An attempt."""
    error = None if status else "shop.example did not answer in time."
    return Attempt(number, datetime.fromtimestamp(at, UTC), 0.25, status, error, retry_after=7.0)


def events(outbox: Outbox, request_id: str = "req_a") -> list[Event]:
    """The events that a request made, in order."""
    return [delivery.event for delivery in outbox.deliveries(request_id)]


def fail_once(outbox: Outbox, *, now: float, next_at: float | None) -> Delivery:
    """Take what is due and record that it failed."""
    delivery = taken(outbox, now=now)
    state = DeliveryState.FAILED if next_at is None else DeliveryState.PENDING
    attempt = tried(delivery.attempts + 1, at=now)
    outbox.record_attempt(delivery, attempt, state, next_at=next_at)
    return delivery

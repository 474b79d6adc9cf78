"""The outbox on MongoDB: what is remembered of endpoints, and who gets in whose way."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from pixmill.core.webhooks import Delivery, DeliveryState
from pixmill.stores.mongo import MongoOutbox, MongoStore, deliveries
from pixmill.stores.mongo.database import Step
from tests.contracts.letters import HOOK, cancelled, fail_once, tried
from tests.contracts.records import NOW


@pytest.fixture
def store(mongo_url: str) -> Iterator[MongoStore]:
    """An empty store."""
    with closing(MongoStore(mongo_url)) as made:
        yield made


@pytest.fixture
def outbox(mongo_url: str) -> Iterator[MongoOutbox]:
    """Its outbox."""
    with closing(MongoOutbox(mongo_url)) as made:
        yield made


def endpoints(outbox: MongoOutbox) -> dict[str, float]:
    """When the first delivery to each endpoint is due."""
    with outbox._database.using() as step:
        return {each["_id"]: each["due"] for each in step.endpoints.find()}


def test_no_endpoint_is_remembered_that_nothing_is_on_its_way_to(
    store: MongoStore, outbox: MongoOutbox
) -> None:
    for name in ("a", "b", "c"):
        cancelled(store, f"req_{name}", url=f"https://{name}.example/hook")
    given_up = fail_once(outbox, now=NOW, next_at=None).request_id
    deleted = "req_b" if given_up == "req_a" else "req_a"
    store.delete_request(deleted, now=NOW, purge_at=NOW)
    left = {f"https://{name}.example" for name in "abc" if f"req_{name}" not in {given_up, deleted}}
    assert set(endpoints(outbox)) == left


def test_many_who_tell_one_endpoint_at_once_lose_no_delivery(
    store: MongoStore, outbox: MongoOutbox
) -> None:
    names = [f"req_{number}" for number in range(40)]
    held = []

    def tell(name: str) -> None:
        cancelled(store, name)

    with ThreadPoolExecutor(8) as pool:
        telling = [pool.submit(tell, name) for name in names]
        while len(held) < len(names):
            if delivery := outbox.claim_delivery("w1", [], now=NOW, lease_seconds=60):
                held.append(delivery.request_id)
            elif all(told.done() for told in telling):
                break  # once more below, when nobody tells any more
        for told in telling:
            told.result()
    while delivery := outbox.claim_delivery("w1", [], now=NOW, lease_seconds=60):
        held.append(delivery.request_id)
    assert sorted(held) == sorted(names)
    assert endpoints(outbox) == {HOOK.removesuffix("/hook"): NOW + 60}


def test_what_is_told_while_another_delivery_is_taken_is_due_as_well(
    store: MongoStore, outbox: MongoOutbox
) -> None:
    cancelled(store, "req_a")
    begun = []

    def change(step: Step) -> Delivery | None:
        assert step.endpoints.find_one({}, session=step.session)
        if not begun:  # the transaction has begun, and does not see this
            begun.append(True)
            cancelled(store, "req_b")
        return deliveries.claim(step, "w1", [], now=NOW, lease_seconds=60)

    assert outbox._database.write(change)
    assert outbox.claim_delivery("w1", [], now=NOW, lease_seconds=60)


def test_attempts_recorded_at_once_leave_the_endpoint_due_when_its_first_delivery_is(
    store: MongoStore, outbox: MongoOutbox
) -> None:
    for number in range(16):
        cancelled(store, f"req_{number}")

    def deliver(number: int) -> None:
        held = outbox.claim_delivery("w1", [], now=NOW, lease_seconds=60)
        assert held is not None
        outbox.record_attempt(held, tried(), DeliveryState.PENDING, next_at=NOW + 10 + number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(deliver, range(16)))
    assert endpoints(outbox) == {HOOK.removesuffix("/hook"): NOW + 10}


def test_of_two_who_make_the_first_secret_at_once_both_have_the_same(outbox: MongoOutbox) -> None:
    outbox.secrets(now=NOW)

    def first(number: int) -> list[bytes]:
        return outbox.first_secret(bytes([number]) * 32, now=NOW)

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(first, range(8)))
    assert made == [outbox.secrets(now=NOW)] * 8
    assert len(made[0]) == 1

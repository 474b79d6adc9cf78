"""The outbox on MongoDB: what is remembered of endpoints, and who gets in whose way."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from pixmill.stores.mongo import MongoOutbox, MongoStore
from tests.contracts.letters import HOOK, cancelled, fail_once
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

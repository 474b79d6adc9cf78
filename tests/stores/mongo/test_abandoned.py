"""What a process died over does not keep others waiting, on a server as it comes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from pymongo import MongoClient

from pixmill.core.leases import Lease, Work
from pixmill.stores.mongo import MongoStore, abandoned
from pixmill.stores.mongo.database import Database, Step
from tests.contracts.records import NOW, claimed, done, ingested
from tests.servers.mongo import MongoServer

Client = MongoClient[dict[str, Any]]


@contextmanager
def left_open(url: str, request_id: str) -> Iterator[None]:
    """A transaction that has changed a request, and that nobody goes on with."""
    with Client(url, appName=abandoned.APP) as client, client.start_session() as session:
        session.start_transaction()
        requests = client.get_default_database()["requests"]
        requests.update_one({"_id": request_id}, {"$inc": {"offers": 1}}, session=session)
        yield


def cancels(store: MongoStore, lease: Lease) -> None:
    store.cancel_request(lease.request_id, now=NOW)


def records(store: MongoStore, lease: Lease) -> None:
    assert store.record_outcomes({lease: [done(1)]}, now=NOW) == set()


def claims(store: MongoStore, _lease: Lease) -> None:
    for _ in range(4):  # as every worker looks every two seconds
        store.lost_leases(now=NOW)
        time.sleep(0.3)
    assert store.claim("another", now=NOW + 1, lease_seconds=60)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often, and wait for less."""
    monkeypatch.setattr(abandoned, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(abandoned, "IDLE_SECONDS", 0.5)


@pytest.mark.parametrize("call", [cancels, records, claims])
def test_what_touches_what_the_dead_touched_goes_on_soon(
    mongo_url: str, call: Callable[[MongoStore, Lease], None]
) -> None:
    with closing(MongoStore(mongo_url)) as store:
        ingested(store, "a", urls=120)
        lease = claimed(store, Work.SHARD)
        with left_open(mongo_url, lease.request_id):
            started = time.monotonic()
            call(store, lease)
            assert time.monotonic() - started < 10  # MongoDB itself would take 60


def test_what_others_do_on_the_same_server_is_left_alone(mongo_url: str) -> None:
    """Whatever the store's own URL says its name is."""
    named = f"{mongo_url}&appName=theirs"
    with closing(MongoStore(named)) as store, Client(mongo_url, appName="theirs") as theirs:
        others = theirs.get_default_database()["others"]
        others.insert_one({"_id": 1})
        with theirs.start_session() as session, session.start_transaction():
            others.insert_one({"_id": 2}, session=session)
            for _ in range(8):
                store.lost_leases(now=NOW)
                time.sleep(0.1)
        assert others.count_documents({}) == 2


def tries(url: str, stand_still: Callable[[Step, Database], None]) -> tuple[int, int]:
    """How often a change was begun, and how often it counts, if it stands still the first time."""
    begun = 0
    with closing(Database(url)) as slow, closing(Database(url)) as other:

        def change(step: Step) -> None:
            nonlocal begun
            begun += 1
            step.meta.update_one(
                {"_id": "tries"}, {"$inc": {"n": 1}}, upsert=True, session=step.session
            )
            if begun == 1:
                stand_still(step, other)

        slow.write(change)
        with slow.using() as step:
            found = step.meta.find_one({"_id": "tries"})
    assert found
    return begun, found["n"]


def test_a_change_that_stood_still_is_run_again_and_counts_once(mongo_url: str) -> None:
    def stand_still(_step: Step, other: Database) -> None:
        for _ in range(10):
            other.clear()
            time.sleep(0.1)

    assert tries(mongo_url, stand_still) == (2, 1)


def test_a_change_of_many_steps_with_pauses_is_left_alone(mongo_url: str) -> None:
    def go_on(step: Step, other: Database) -> None:
        for _ in range(10):
            other.clear()
            time.sleep(0.1)
            step.meta.find_one({"_id": "tries"}, session=step.session)

    assert tries(mongo_url, go_on) == (1, 1)


def test_a_server_that_steps_down_while_it_is_looked_at_costs_no_change(
    mongo: MongoServer, mongo_url: str
) -> None:
    with closing(MongoStore(mongo_url)) as store:
        ingested(store, "a", urls=2)
        with (
            left_open(mongo_url, "a"),
            mongo.failing("aggregate", 2, {"errorCode": 10107, "appName": abandoned.APP}),
        ):
            store.cancel_request("a", now=NOW)

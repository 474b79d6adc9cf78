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

Client = MongoClient[dict[str, Any]]


@contextmanager
def left_open(url: str, request_id: str, app: str = "pixmill") -> Iterator[None]:
    """A transaction that has changed a request, and that nobody goes on with."""
    with Client(url, appName=app) as client, client.start_session() as session:
        session.start_transaction()
        requests = client.get_default_database()["requests"]
        requests.update_one({"_id": request_id}, {"$inc": {"offers": 1}}, session=session)
        yield


def cancels(store: MongoStore, lease: Lease) -> None:
    store.cancel_request(lease.request_id, now=NOW)


def records(store: MongoStore, lease: Lease) -> None:
    assert store.record_outcomes({lease: [done(1)]}, now=NOW) == set()


def claims(store: MongoStore, _lease: Lease) -> None:
    store.lost_leases(now=NOW)  # as every worker looks every two seconds
    assert store.claim("another", now=NOW + 1, lease_seconds=60)


@pytest.mark.parametrize("call", [cancels, records, claims])
def test_what_touches_what_the_dead_touched_goes_on_soon(
    mongo_url: str, monkeypatch: pytest.MonkeyPatch, call: Callable[[MongoStore, Lease], None]
) -> None:
    monkeypatch.setattr(abandoned, "IDLE_SECONDS", 0.5)
    with closing(MongoStore(mongo_url)) as store:
        ingested(store, "a", urls=120)
        lease = claimed(store, Work.SHARD)
        with left_open(mongo_url, lease.request_id):
            time.sleep(0.7)
            started = time.monotonic()
            call(store, lease)
            assert time.monotonic() - started < 10  # MongoDB itself would take 60


def test_what_others_do_on_the_same_server_is_left_alone(
    mongo_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(abandoned, "IDLE_SECONDS", 0.1)
    with closing(MongoStore(mongo_url)) as store, Client(mongo_url, appName="theirs") as theirs:
        others = theirs.get_default_database()["others"]
        others.insert_one({"_id": 1})
        with theirs.start_session() as session, session.start_transaction():
            others.insert_one({"_id": 2}, session=session)
            time.sleep(0.3)
            store.lost_leases(now=NOW)
        assert others.count_documents({}) == 2


def test_a_change_that_only_stood_still_is_run_again_and_counts_once(
    mongo_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(abandoned, "IDLE_SECONDS", 0.1)
    tries = []
    with closing(Database(mongo_url)) as frozen, closing(Database(mongo_url)) as other:

        def change(step: Step) -> None:
            step.meta.update_one(
                {"_id": "tries"}, {"$inc": {"n": 1}}, upsert=True, session=step.session
            )
            if not tries:
                time.sleep(0.3)
                other.clear()
            tries.append(1)

        frozen.write(change)
        with frozen.using() as step:
            found = step.meta.find_one({"_id": "tries"})
        assert (len(tries), found and found["n"]) == (2, 1)

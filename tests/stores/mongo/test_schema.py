"""Databases are made and brought up to date when first used, by one process, whole or again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import WriteError

from pixmill.core.errors import StorageFailure, StoreUnavailable
from pixmill.core.leases import Hint, Work
from pixmill.core.limits import SheetLimits
from pixmill.stores.mongo import MongoOutbox, MongoStore, schema
from pixmill.stores.mongo.layouts import LAYOUT_1, LAYOUT_2
from tests.contracts import letters
from tests.contracts.records import NOW, a_request, ingested

OPEN = """
import sys
from pixmill.stores.mongo import MongoStore
sys.stdin.readline()
print(MongoStore(sys.argv[1]).requests("", limit=1))
"""


@pytest.fixture
def target(mongo_url: str) -> Iterator[Database[dict[str, Any]]]:
    """The database, past the store."""
    with closing(MongoClient[dict[str, Any]](mongo_url)) as client:
        yield client.get_default_database()


def use(url: str) -> None:
    """Use a store for a moment."""
    with closing(MongoStore(url)) as store:
        store.census()


def layout(target: Database[dict[str, Any]]) -> dict[str, Any]:
    """What a database is made of."""
    return {
        each["name"]: (each["options"], sorted(target[each["name"]].index_information()))
        for each in target.list_collections()
    }


def test_several_processes_may_make_a_database_at_once(
    mongo_url: str, target: Database[dict[str, Any]]
) -> None:
    openers = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, mongo_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    for opener in openers:
        assert opener.stdin
        opener.stdin.write("go\n")
        opener.stdin.flush()
    answers = [opener.communicate(timeout=120) for opener in openers]
    assert answers == [("[]\n", "")] * 6
    assert schema.version(target) == schema.VERSION
    assert set(layout(target)) == {*LAYOUT_1, *LAYOUT_2, "meta"}


def test_a_database_of_a_newer_version_is_refused_and_left_alone(
    mongo_url: str, target: Database[dict[str, Any]]
) -> None:
    target["meta"].insert_one({"_id": "schema", "version": schema.VERSION + 1})
    with pytest.raises(StorageFailure, match="newer version"):
        use(mongo_url)
    assert list(layout(target)) == ["meta"]


def test_a_migration_that_was_cut_short_is_done_again(
    mongo_url: str, target: Database[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies_half_way(target: Database[dict[str, Any]]) -> None:
        schema.lay_out(target, {"work": LAYOUT_1["work"]})
        raise StorageFailure("the power is gone")

    with monkeypatch.context() as patched:
        patched.setattr(schema, "MIGRATIONS", (dies_half_way,))
        with pytest.raises(StorageFailure, match="power"):
            use(mongo_url)
    use(mongo_url)
    assert set(layout(target)) == {*LAYOUT_1, *LAYOUT_2, "meta"}


def test_the_lock_of_a_dead_process_is_taken_over_when_it_is_old(
    mongo_url: str, target: Database[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "LOCK_SECONDS", 1)
    assert schema._locked(target, "dead")
    assert not schema._locked(target, "alive")
    use(mongo_url)
    assert set(layout(target)) == {*LAYOUT_1, *LAYOUT_2, "meta"}


def test_while_another_process_migrates_nobody_else_does(
    mongo_url: str, target: Database[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "PATIENCE_SECONDS", 0.2)
    assert schema._locked(target, "busy")
    with pytest.raises(StoreUnavailable, match="Another process"):
        use(mongo_url)
    assert list(layout(target)) == ["meta"]


def test_what_the_first_version_wrote_goes_on(
    mongo_url: str, target: Database[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
        patched.setattr(schema, "VERSION", 1)
        use(mongo_url)
    with closing(MongoStore(mongo_url)) as other:
        other.add_request(a_request("req_new"))
    # As the first version had it.
    old = target["requests"].find_one_and_delete({"_id": "req_new"})
    assert old
    del old["rules"]["limits"]
    target["requests"].insert_one(old)
    with closing(MongoStore(mongo_url)) as store, closing(MongoOutbox(mongo_url)) as outbox:
        assert store.request("req_new") == replace(a_request("req_new"), limits=SheetLimits())
        store.cancel_request("req_new", now=NOW)
        assert outbox.deliveries("req_new") == []


def test_work_and_deliveries_of_the_second_version_are_told_of(
    mongo_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:2])
        patched.setattr(schema, "VERSION", 2)
        with closing(MongoStore(mongo_url)) as store:
            ingested(store)
            letters.cancelled(store, "req_hook")
    with closing(MongoStore(mongo_url)) as store, closing(MongoOutbox(mongo_url)) as outbox:
        assert store.take_hints(now=NOW, told_before=NOW) == [Hint(Work.SHARD, "req_a", 1)]
        (delivery,) = outbox.deliveries("req_hook")
        assert outbox.take_hints(now=NOW, told_before=NOW) == [delivery.id]


@pytest.mark.parametrize(
    ("collection", "change"),
    [
        ("requests", {"status": "DONE"}),
        ("requests", {"processed_images": -1}),
        ("images", {"references": "two"}),
        ("images", {"unknown": 1}),
        ("work", {"state": "lost"}),
        ("products", {"images": None}),
        ("requests", {"webhook_events": "all"}),
        ("deliveries", {"state": "lost"}),
        ("work", {"told": "yesterday"}),
        ("deliveries", {"told": None}),
        ("endpoints", {"due": None}),
    ],
)
def test_documents_that_are_none_of_ours_are_refused(
    mongo_url: str, target: Database[dict[str, Any]], collection: str, change: dict[str, Any]
) -> None:
    with closing(MongoStore(mongo_url)) as store:
        ingested(store)
        letters.cancelled(store, "req_hook")
    with pytest.raises(WriteError, match="failed validation"):
        target[collection].update_one({}, {"$set": change})


def test_the_server_itself_forgets_only_idempotency_keys_and_calls(
    mongo_url: str, target: Database[dict[str, Any]]
) -> None:
    use(mongo_url)
    forgets = {
        name: list(index["key"])
        for name in target.list_collection_names()
        for index in target[name].index_information().values()
        if "expireAfterSeconds" in index
    }
    assert forgets == {"idempotency": [("gone_at", 1)], "calls": [("counted_at", 1)]}


def test_a_forked_process_makes_a_connection_of_its_own(mongo_url: str) -> None:
    forks = """
import os, sys
from pixmill.stores.mongo import MongoStore
store = MongoStore(sys.argv[1])
store.census()
if os.fork() == 0:
    print(store.requests(""), flush=True)
    os._exit(0)
print(os.wait()[1], store.requests(""))
"""
    ran = subprocess.run(
        [sys.executable, "-c", forks, mongo_url],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore,error::UserWarning"},  # the driver's
    )
    assert sorted(ran.stdout.split("\n")) == ["", "0 []", "[]"]
    assert ran.stderr == ""


def test_nothing_is_connected_before_the_first_use() -> None:
    MongoStore("mongodb://127.0.0.1:1/db?replicaSet=none").close()


def test_the_database_is_the_one_that_the_url_names(
    mongo_url: str, target: Database[dict[str, Any]]
) -> None:
    with closing(MongoStore(mongo_url)) as store:
        store.add_request(a_request())
    assert target["requests"].count_documents({}) == 1


def test_the_url_cannot_weaken_what_the_store_rests_on(mongo_url: str) -> None:
    weak = "&w=1&journal=false&readConcernLevel=local&readPreference=secondary&retryWrites=false"
    with closing(MongoStore(mongo_url + weak)) as store:
        store.add_request(a_request())
        opened = store._database._opened()
    assert opened.write_concern.document["w"] == "majority"
    assert opened.write_concern.document["j"] is True
    assert opened.read_concern.level == "majority"
    assert opened.read_preference.name == "Primary"
    assert opened.client.options.retry_writes is True

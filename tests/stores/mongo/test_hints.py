"""Hints on MongoDB: they are asked for so often that each must cost few commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial

import pytest
from pymongo import MongoClient

from pixmill.core.leases import Work
from pixmill.stores.mongo import MongoOutbox, MongoStore, database
from tests.contracts.letters import cancelled
from tests.contracts.records import NOW, claimed, ingested
from tests.stores.mongo.test_plans import Collector

Sent = Callable[[], list[str]]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    """Tells the commands that were sent since it was last asked."""
    collector = Collector()
    made = partial(MongoClient, event_listeners=[collector])
    monkeypatch.setattr(database, "MongoClient", made)

    def since_then() -> list[str]:
        commands, collector.sent = collector.sent, []
        return commands

    return since_then


@pytest.fixture
def store(mongo_url: str, sent: Sent) -> Iterator[MongoStore]:
    """A store whose commands are noted."""
    with closing(MongoStore(mongo_url)) as made:
        made.census()
        sent()  # what opening it took
        yield made


@pytest.fixture
def outbox(mongo_url: str, sent: Sent) -> Iterator[MongoOutbox]:
    """Its outbox, whose commands are noted."""
    with closing(MongoOutbox(mongo_url)) as made:
        made.deliveries("req_a")
        sent()  # what opening it took
        yield made


def test_looking_for_work_takes_one_command_and_telling_of_it_two(
    store: MongoStore, sent: Sent
) -> None:
    for name in ("req_a", "req_b"):
        ingested(store, name, urls=16)
    sent()
    assert len(store.take_hints(now=NOW, told_before=NOW)) == 4
    assert sent() == ["aggregate", "update"]
    assert store.take_hints(now=NOW, told_before=NOW) == []
    assert sent() == ["aggregate"]


def test_however_many_requests_have_nothing_open_they_leave_the_line_at_once(
    store: MongoStore, sent: Sent
) -> None:
    for name in ("req_a", "req_b", "req_c"):
        ingested(store, name)
        claimed(store, Work.SHARD)
    sent()
    for _ in range(2):
        assert store.take_hints(now=NOW, told_before=NOW) == []
    assert sent() == ["aggregate", "update", "aggregate", "aggregate"]


def test_a_late_hint_of_work_takes_one_command_and_a_good_one_two(
    store: MongoStore, sent: Sent
) -> None:
    ingested(store)
    (hint,) = store.take_hints(now=NOW, told_before=NOW)
    sent()
    assert store.claim_hinted(hint, "w1", now=NOW, lease_seconds=30)
    assert sent() == ["findAndModify", "update"]
    assert store.claim_hinted(hint, "w2", now=NOW, lease_seconds=30) is None
    assert sent() == ["findAndModify"]


def test_deliveries_are_looked_for_by_one_command_and_told_of_by_two(
    store: MongoStore, outbox: MongoOutbox, sent: Sent
) -> None:
    for name in ("a", "b"):
        cancelled(store, f"req_{name}", url=f"https://{name}.example/hook")
    sent()
    hints = outbox.take_hints(now=NOW, told_before=NOW)
    assert len(hints) == 2
    assert sent() == ["aggregate", "update"]
    assert outbox.take_hints(now=NOW, told_before=NOW) == []
    assert sent() == ["aggregate"]
    assert outbox.claim_hinted(hints[0], "w1", now=NOW, lease_seconds=30)
    sent()
    assert outbox.claim_hinted(hints[0], "w2", now=NOW, lease_seconds=30) is None
    assert sent() == ["find"]

"""Hints on MongoDB: they are asked for so often that each must cost few commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial

import pytest
from pymongo import MongoClient, monitoring

from pixmill.core.leases import Work
from pixmill.stores.mongo import MongoOutbox, MongoStore, database
from tests.contracts.letters import cancelled, taken
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


class Between(Collector):
    """Does something once, when it was looked for what is to be told of."""

    def __init__(self) -> None:
        super().__init__()
        self.act: Callable[[], object] | None = None

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Act after the look."""
        if event.command_name == "aggregate" and self.act:
            act, self.act = self.act, None
            act()


def test_what_is_taken_between_the_look_and_the_telling_is_not_told_of(
    mongo_url: str, store: MongoStore, outbox: MongoOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    between = Between()
    made = partial(MongoClient, event_listeners=[between])
    monkeypatch.setattr(database, "MongoClient", made)
    ingested(store, urls=16)
    for name in ("b", "c"):
        cancelled(store, f"req_{name}", url=f"https://{name}.example/hook")
    with closing(MongoStore(mongo_url)) as teller, closing(MongoOutbox(mongo_url)) as poster:
        teller.census()
        between.act = lambda: claimed(store, Work.SHARD)
        (hint,) = teller.take_hints(now=NOW, told_before=NOW)
        poster.deliveries("req_b")
        between.act = lambda: taken(outbox)
        (delivery_id,) = poster.take_hints(now=NOW, told_before=NOW)
    assert between.act is None
    assert claimed(store, Work.SHARD).number == hint.number
    assert taken(outbox).id == delivery_id


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

"""Requests without open work leave the line of turns, and nothing is overlooked by that."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial

import pytest
from pymongo import MongoClient, monitoring

from pixmill.core.leases import Work, judge
from pixmill.ports import Store
from pixmill.stores.mongo import MongoStore, database
from tests.contracts.records import LATE, NOW, claimed, ingested


class Between(monitoring.CommandListener):
    """Does something once, at the moment when somebody has found no open work."""

    def __init__(self) -> None:
        self.act: Callable[[], None] | None = None

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Not asked for."""

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Act when nothing was found."""
        match event.command_name:
            case "findAndModify":
                found_none = event.reply["value"] is None
            case "aggregate":
                found = event.reply["cursor"]["firstBatch"]
                found_none = any(each.get("next") == [] for each in found)
            case _:
                return
        if found_none and self.act:
            act, self.act = self.act, None
            act()

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Not asked for."""


def hand_back(store: Store) -> Callable[[], None]:
    """Release the only shard."""
    shard = claimed(store, Work.SHARD)
    return lambda: store.release(shard)


def take_back(store: Store) -> Callable[[], None]:
    """Take the only shard back, whose lease has run out."""
    claimed(store, Work.SHARD)
    (lost,) = store.lost_leases(now=LATE)
    return lambda: store.take_back(lost, judge(lost), now=LATE)


def complete(store: Store) -> Callable[[], None]:
    """Complete the only shard, which offers the finish."""
    shard = claimed(store, Work.SHARD)
    return lambda: store.complete_shard(shard, now=NOW)


def claim(store: Store) -> bool:
    """Look for work and take it."""
    return store.claim("w2", now=LATE, lease_seconds=30) is not None


def tell(store: Store) -> bool:
    """Look for work and tell of it."""
    return store.take_hints(now=LATE, told_before=NOW) != []


@pytest.mark.parametrize("look", [claim, tell])
@pytest.mark.parametrize("offer", [hand_back, take_back, complete])
def test_what_is_offered_while_somebody_finds_none_is_not_overlooked(
    mongo_url: str,
    monkeypatch: pytest.MonkeyPatch,
    offer: Callable[[Store], Callable[[], None]],
    look: Callable[[Store], bool],
) -> None:
    between = Between()
    with closing(MongoStore(mongo_url)) as store, closing(MongoStore(mongo_url)) as other:
        ingested(store)
        with monkeypatch.context() as patched:
            listening = partial(MongoClient, event_listeners=[between])
            patched.setattr(database, "MongoClient", listening)
            other.census()
        between.act = offer(store)
        assert look(other)
        assert between.act is None, "it was offered just then"


@pytest.mark.parametrize("look", [claim, tell])
def test_a_request_whose_work_is_all_taken_is_out_of_the_line(
    mongo_url: str, look: Callable[[Store], bool]
) -> None:
    with closing(MongoStore(mongo_url)) as store:
        ingested(store)
        shard = claimed(store, Work.SHARD)
        assert not look(store)
        requests = store._database._opened()["requests"]
        assert requests.find_one({"open": True}) is None
        store.release(shard)
        assert requests.find_one({"open": True}) is not None

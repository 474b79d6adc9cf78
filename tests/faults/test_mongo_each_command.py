"""MongoDB's connection is cut at each command of a request's life in turn: nothing changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import pytest
from pymongo import MongoClient, monitoring

from pixmill.core.errors import StoreUnavailable
from pixmill.core.leases import Hint, Work, judge
from pixmill.core.model import Image, Request
from pixmill.stores.mongo import MongoStore, database
from tests.contracts.records import LATE, NOW, claimed, done, failed, ingested
from tests.servers.mongo import MongoServer

pytestmark = pytest.mark.slow

PARTS = 4
"""The driver needs half a second to get over each cut."""


class Saboteur(monitoring.CommandListener):
    """Has the server cut the connection at one command, counted from 1."""

    def __init__(self, client: MongoClient[dict[str, Any]]) -> None:
        self.target = 0
        self.seen = 0
        self._client = client

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Count, and strike when it is time."""
        self.seen += 1
        if self.seen == self.target:
            self._client.admin.command(
                {
                    "configureFailPoint": "failCommand",
                    "mode": {"times": 1},
                    "data": {
                        "failCommands": [event.command_name],
                        "closeConnection": True,
                        "appName": "pixmill",
                    },
                }
            )

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Not asked for."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Not asked for."""


@pytest.fixture
def sabotaged(
    mongo: MongoServer, mongo_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[MongoStore, Saboteur]]:
    """A store, and who cuts its connection."""
    with mongo.admin() as client, closing(MongoStore(mongo_url)) as store:
        saboteur = Saboteur(client)
        listening = partial(MongoClient, event_listeners=[saboteur])
        monkeypatch.setattr(database, "MongoClient", listening)
        store.census()
        yield store, saboteur


def again(call: Callable[[], object]) -> None:
    """Do what may be repeated, again if it could not be done."""
    try:
        call()
    except StoreUnavailable:
        call()


def live(store: MongoStore, name: str) -> tuple[Request, list[Image]]:
    """Take a request through losses, failures, a cancel and a retry to its end."""
    ingested(store, name, urls=20)
    again(lambda: store.take_hints(now=NOW, told_before=NOW))
    lost_shard = claimed(store, Work.SHARD)
    again(lambda: store.renew([lost_shard], until=NOW + 9))
    again(lambda: store.expire_leases("w1"))
    (lost,) = store.lost_leases(now=NOW)
    store.take_back(lost, judge(lost), now=NOW)
    first = claimed(store, Work.SHARD)
    outcomes = [done(each) for each in range(first.first, first.last)] + [failed(first.last)]
    assert store.record_outcomes({first: outcomes}, now=NOW) == set()
    store.complete_shard(first, now=NOW)
    store.release(claimed(store, Work.SHARD))
    store.cancel_request(name, now=NOW)
    assert store.retry_failed(name, now=NOW) == 13
    hint = Hint(Work.SHARD, name, 2)
    hinted = store.claim_hinted(hint, "w1", now=LATE, lease_seconds=30)
    assert hinted
    store.release(hinted)
    while (lease := store.claim("w1", now=LATE, lease_seconds=30)) and lease.work is Work.SHARD:
        pending = [done(image.sequence) for image in store.pending_images(lease)]
        assert store.record_outcomes({lease: pending}, now=LATE) == set()
        store.complete_shard(lease, now=LATE)
    assert lease
    closed = store.close_request(lease, now=LATE)
    assert closed == store.request(name)
    images = store.images(name)
    store.delete_request(name, now=LATE, purge_at=LATE)
    purge = store.claim("w1", now=LATE, lease_seconds=30)
    assert purge
    assert store.forget(purge)
    return closed, images


def without_names(life: tuple[Request, list[Image]], name: str) -> str:
    """What came of a life, whatever the request is called."""
    return repr(life).replace(name, "req")


@pytest.mark.parametrize("part", range(PARTS))
def test_a_cut_at_each_command_in_turn_changes_nothing(
    sabotaged: tuple[MongoStore, Saboteur], part: int
) -> None:
    store, saboteur = sabotaged
    saboteur.seen = 0
    expected = without_names(live(store, "req_000"), "req_000")
    commands = saboteur.seen
    assert commands > 50
    for number in range(1 + part, commands + 1, PARTS):
        saboteur.seen, saboteur.target = 0, number
        name = f"req_{number:03}"
        assert without_names(live(store, name), name) == expected, f"cut at command {number}"

"""What is said of work that others lost."""

from __future__ import annotations

import logging

import pytest

from pixmill.core.leases import Work
from pixmill.steps.recover import recover
from pixmill.stores.sqlite import SqliteStore
from tests.contracts.records import LATE, NOW, claimed, ingested


def test_what_a_worker_lost_is_told_in_one_line_for_each_request(
    store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pixmill")
    ingested(store, "req_a", urls=300)
    ingested(store, "req_b", urls=1)
    held = 0
    while store.claim("w1", now=NOW, lease_seconds=30):
        held += 1
    assert held > 2
    assert recover(store, lambda: LATE) == held
    assert sorted(record.getMessage() for record in caplog.records) == [
        "taken over: 1 part of req_b from a worker that ended",
        f"taken over: {held - 1} parts of req_a from a worker that ended",
    ]
    assert claimed(store, Work.SHARD, now=LATE)

"""Every query that the store, the keys and the webhooks make finds its rows by an index.

All verbs are driven, every statement that SQLite really runs is collected, and SQLite is asked
how it would run it.
"""

from __future__ import annotations

import inspect
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pixmill.core.access import ApiKey, Scope
from pixmill.core.leases import LOSSES_BEFORE_ALONE, Work, judge
from pixmill.core.model import Accepted, ImageStatus, Once, RequestStatus
from pixmill.core.webhooks import DeliveryState, Receipt
from pixmill.ports import Access, Outbox, Store
from pixmill.stores.sqlite import SqliteAccess, SqliteOutbox, SqliteStore
from tests.contracts import letters
from tests.contracts.records import (
    LATE,
    NOW,
    a_request,
    claimed,
    done,
    failed,
    finishing,
    ingested,
    lose,
)

ALLOWED_SCANS = {
    # In the order of turns, to the first request with open work. It holds only requests that are
    # at work, and deleted ones until they are purged.
    "SCAN requests USING INDEX requests_in_turn",
    # The census: a few bytes for each request that ended, read through when metrics are asked for.
    "SCAN requests USING COVERING INDEX requests_ended",
    # The leases that are held: a few for each worker.
    "SCAN work USING INDEX work_leased",
    # The deliveries that are in somebody's hands: a few for each worker.
    "SCAN deliveries USING INDEX deliveries_held",
    # In the order in which they are listed, up to the end of the first page.
    "SCAN receipts USING INDEX receipts_by_age",
    # A handful of rows, which people ask for; and whether there is any.
    "SCAN keys",
    "SCAN webhook_secrets",
}
"""What may be read from end to end, and why."""

ALLOWED_SORTS = {
    "FROM keys": "a handful of rows",
    "FROM webhook_secrets": "a handful of rows",
    "GROUP BY code": "one row for each error code",
    "GROUP BY status": "one row for each status",
}
"""What may be sorted after it was found, by words of the query, and why."""


@dataclass
class Driven:
    """Hands on all calls, and notes the names of what was called."""

    what: object
    names: set[str] = field(default_factory=set)

    def __getattr__(self, name: str) -> Any:
        self.names.add(name)
        return getattr(self.what, name)


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All statements that are run from here on, with their parameters filled in."""
    collected: list[str] = []
    connect = sqlite3.connect

    def traced(*arguments: Any, **named: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **named)
        connection.set_trace_callback(collected.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    return collected


def drive_work(store: Any) -> None:
    """Take a request from its acceptance to its end, with losses on the way."""
    ingested(store, urls=20)
    for _ in range(LOSSES_BEFORE_ALONE):
        store.renew([claimed(store, Work.SHARD)], until=NOW + 9)
        lose(store)
    alone = claimed(store, Work.SHARD)
    store.mark_trying(alone, 2)
    lose(store)
    store.release(claimed(store, Work.SHARD))
    store.expire_leases("w2")
    store.expire_leases()
    hints = store.take_hints(now=NOW, told_before=NOW)
    shards = [store.claim_hinted(hint, "w1", now=NOW, lease_seconds=30) for hint in hints]
    store.take_hints(now=NOW, told_before=NOW)  # when all is taken
    for shard in shards:
        sequences = [image.sequence for image in store.pending_images(shard)]
        outcomes = [done(sequence) for sequence in sequences[1:]]
        store.record_outcomes({shard: [failed(sequences[0]), *outcomes]}, now=NOW)
    store.close_request(finishing(store, shards), now=NOW)
    store.retry_failed("req_a", now=NOW)
    store.cancel_request("req_a", now=NOW)
    store.add_request(a_request("req_b"))
    store.fail_request(claimed(store, Work.INGEST), "It is no CSV.", now=NOW)
    store.add_request(a_request("req_c"))
    store.cancel_request("req_c", now=NOW)
    store.retry_failed("req_c", now=NOW)
    for _ in range(9):  # until it is given up
        if store.claim("w1", now=NOW, lease_seconds=1):
            for lost in store.lost_leases(now=LATE):
                store.take_back(lost, judge(lost), now=LATE)


def drive_reading(store: Any) -> None:
    """Ask all there is to ask, with each kind of filter and page."""
    once = Once("monday", "fingerprint", Accepted("req_once", 3, 3))
    request = a_request("req_once")
    store.expect_request(request, purge_at=LATE)
    store.add_request(request, once)
    store.accepted("", "monday", now=NOW)
    store.request("req_a")
    store.latest_request(request.digest)
    for status in (None, *RequestStatus):
        store.requests("", status=status)
        store.requests("", status=status, before=request)
    store.finished_before(LATE)
    for image_status in (None, *ImageStatus):
        store.images("req_a", status=image_status, after=3, limit=5)
    store.images("req_a", sequences=[1, 3])
    store.products("req_a", after=2)
    store.totals("req_a")
    store.census()
    store.longest_wait(now=NOW)
    store.oldest_work(now=NOW)


def drive_deletion(store: Any) -> None:
    """Delete a request and forget it."""
    store.delete_request("req_a", now=NOW, purge_at=NOW)
    for hint in store.take_hints(now=LATE, told_before=LATE):
        if lease := store.claim_hinted(hint, "w1", now=LATE, lease_seconds=1):
            store.release(lease)
    while lease := store.claim("w1", now=LATE, lease_seconds=1):
        if lease.work is Work.PURGE:
            while not store.forget(lease, limit=15):
                pass


def drive_access(access: Any) -> None:
    """Make, find and revoke keys; count calls."""
    access.any_key()
    made = datetime.fromtimestamp(NOW, UTC)
    key = ApiKey("anna", "job", frozenset({Scope.READ}), "ab" * 32, made)
    access.add_key(key)
    access.add_key(replace(key, id="bert"), "anna")
    access.count_requests("bert")
    access.key("anna")
    access.keys()
    access.revoke_key("anna", now=NOW)
    access.count_calls(["anna", "10.0.0.1"], window=1)
    access.count_calls(["anna"], window=2)


def drive_outbox(store: Any, outbox: Any) -> None:
    """Make deliveries, hold, try, lose and replay them; receipts and secrets as well."""
    for name in ("hook_a", "hook_b"):
        letters.add(store, name)
    letters.ingest(store)
    letters.completed(store)
    for busy in ([], ["https://a.example"], ["https://a.example", "https://b.example"]):
        held = outbox.claim_delivery("w1", busy, now=NOW, lease_seconds=60)
        outbox.release_delivery(held)
        held = outbox.claim_delivery("w1", busy, now=NOW, lease_seconds=60)
        outbox.keep_body(held, "{}")
        attempt = letters.tried(held.attempts + 1)
        outbox.record_attempt(held, attempt, DeliveryState.PENDING, next_at=NOW)
    for delivery_id in outbox.take_hints(now=NOW, told_before=NOW):
        outbox.claim_hinted(delivery_id, "w1", now=NOW, lease_seconds=60)
    store.expire_leases("w1")
    store.expire_leases()
    for told in outbox.deliveries("hook_a"):
        outbox.delivery(told.id)
        outbox.attempts(told.id)
        outbox.replay(told.id, now=NOW)
    receipt = Receipt("msg_1", "request.failed", "req_x", datetime.fromtimestamp(NOW, UTC), "{}")
    outbox.add_receipt(receipt)
    outbox.receipts()
    outbox.receipts(before=receipt)
    outbox.first_secret(b"1" * 32, now=NOW)
    outbox.add_secret(b"2" * 32, now=NOW, others_until=LATE)
    outbox.secrets(now=NOW)
    store.delete_request("hook_a", now=NOW, purge_at=NOW)


def drive_all(store: Any, access: Any, outbox: Any) -> None:
    """Call every verb of the three ports."""
    drive_work(store)
    drive_reading(store)
    drive_deletion(store)
    drive_access(access)
    drive_outbox(store, outbox)


@contextmanager
def opened(path: Path) -> Iterator[tuple[SqliteStore, SqliteAccess, SqliteOutbox]]:
    """The three ports on one file."""
    with (
        closing(SqliteStore(path)) as store,
        closing(SqliteAccess(path)) as access,
        closing(SqliteOutbox(path)) as outbox,
    ):
        yield store, access, outbox


def verbs(port: type) -> set[str]:
    """The methods of a port."""
    return {name for name, _ in inspect.getmembers(port, inspect.isfunction) if name[0] != "_"}


def plans(path: Path, statements: list[str]) -> Iterator[tuple[str, str]]:
    """Each kind of statement once, with each step of its plan."""
    calls = path.with_name(path.name + "-calls")
    with closing(sqlite3.connect(path)) as main, closing(sqlite3.connect(calls)) as counting:
        for statement in dict.fromkeys(statements):
            if statement.startswith(("SELECT", "UPDATE", "DELETE")):
                connection = counting if " calls " in statement else main
                for step in connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall():
                    yield statement, step[3]


def scans(step: str) -> bool:
    """Whether a step reads a whole table or index of ours that it should not."""
    return step.startswith("SCAN ") and not (
        step in ALLOWED_SCANS or "VIRTUAL TABLE" in step or step == "SCAN CONSTANT ROW"
    )


def sorts(query: str, step: str) -> bool:
    """Whether a step sorts what an index should have had in order."""
    return "TEMP B-TREE" in step and not any(words in query for words in ALLOWED_SORTS)


def test_every_query_finds_its_rows_by_an_index(tmp_path: Path, statements: list[str]) -> None:
    path = tmp_path / "pixmill.db"
    with opened(path) as real:
        driven = [Driven(port) for port in real]
        statements.clear()  # those that made the schema
        drive_all(*driven)
        seen = list(plans(path, statements))
    for port, calls in zip((Store, Access, Outbox), driven, strict=True):
        assert verbs(port) - {"close"} <= calls.names, "drive the new verb of the port here too"
    assert len({statement.split(" WHERE ")[0] for statement, _ in seen}) > 30
    assert [found for found in seen if scans(found[1])] == []
    assert [found for found in seen if sorts(*found)] == []


@pytest.mark.parametrize(
    "index",
    [
        "requests_by_owner",
        "requests_by_digest",
        "requests_by_end",
        "once_by_age",
        "once_by_request",
        "work_leased",
        "deliveries_by_request",
        "deliveries_due",
        "deliveries_held",
        "endpoints_due",
        "receipts_by_age",
    ],
)
def test_the_guard_notices_an_index_that_is_missing(
    tmp_path: Path, statements: list[str], index: str
) -> None:
    path = tmp_path / "pixmill.db"
    with opened(path) as ports:
        statements.clear()
        drive_all(*ports)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"DROP INDEX {index}")
    assert any(scans(step) or sorts(query, step) for query, step in plans(path, statements))


def test_a_claim_costs_the_same_however_much_waits_for_busy_endpoints(tmp_path: Path) -> None:
    path = tmp_path / "pixmill.db"
    steps: list[int] = []
    with opened(path) as (store, _, outbox):
        letters.cancelled(store, "quiet", url="https://quiet.example/hook")
        letters.cancelled(store, "busy", url="https://busy.example/hook")
        with outbox._database.write() as db:
            db.execute(
                "WITH RECURSIVE many (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < ?)"
                " INSERT INTO deliveries (id, request_id, event, url, endpoint, created_at, status,"
                "  processed_images, failed_images, next_at, due)"
                " SELECT id || n, request_id, event, url, endpoint, created_at, status,"
                "  0, 0, next_at - 50, due - 50 FROM deliveries JOIN many"
                " WHERE request_id = 'busy'",
                (20_000,),
            )
            db.execute("UPDATE endpoints SET due = due - 50 WHERE endpoint LIKE '%busy%'")
            db.set_progress_handler(lambda: steps.append(1) and None, 10)
        busy = ["https://busy.example"]
        found = outbox.claim_delivery("w1", busy, now=NOW, lease_seconds=60)
        assert found is not None
        assert found.request_id == "quiet"
        assert outbox.claim_delivery("w1", busy, now=NOW, lease_seconds=60) is None
        found = outbox.claim_delivery("w1", [], now=NOW, lease_seconds=60)
        assert found is not None
        assert found.request_id == "busy"
    assert 0 < len(steps) * 10 < 3000, "SQLite's steps, of which reading a row takes several"

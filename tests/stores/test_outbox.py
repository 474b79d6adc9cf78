"""The outbox on SQLite: who has nothing to do gets in nobody's way."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from pixmill.stores.sqlite import SqliteOutbox, SqliteStore
from tests.contracts.letters import cancelled, fail_once
from tests.contracts.records import NOW


def test_who_looks_and_finds_nothing_due_waits_for_no_writer(tmp_path: Path) -> None:
    path = tmp_path / "pixmill.db"
    with closing(SqliteStore(path)) as store, closing(SqliteOutbox(path)) as outbox:
        cancelled(store)
        fail_once(outbox, now=NOW, next_at=NOW + 300)
        with store._database.write(), outbox._database.read() as db:
            db.execute("PRAGMA busy_timeout = 0")
            assert outbox.claim_delivery("w1", [], now=NOW + 299, lease_seconds=60) is None


def test_no_endpoint_is_remembered_that_nothing_is_on_its_way_to(tmp_path: Path) -> None:
    path = tmp_path / "pixmill.db"
    with closing(SqliteStore(path)) as store, closing(SqliteOutbox(path)) as outbox:
        for name in ("a", "b", "c"):
            cancelled(store, f"req_{name}", url=f"https://{name}.example/hook")
        fail_once(outbox, now=NOW, next_at=None)
        store.delete_request("req_b", now=NOW, purge_at=NOW)
        with outbox._database.read() as db:
            left = db.execute("SELECT endpoint FROM endpoints").fetchall()
    assert [row[0] for row in left] == ["https://c.example"]

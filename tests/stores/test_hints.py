"""Hints on SQLite: who has nothing to tell of, or comes too late, gets in nobody's way."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from pixmill.stores.sqlite import SqliteOutbox, SqliteStore
from tests.contracts.letters import cancelled
from tests.contracts.records import NOW, ingested


def test_who_finds_nothing_to_tell_of_or_to_take_waits_for_no_writer(tmp_path: Path) -> None:
    path = tmp_path / "pixmill.db"
    with closing(SqliteStore(path)) as store, closing(SqliteOutbox(path)) as outbox:
        ingested(store, urls=16)
        cancelled(store, "req_hook")
        first, _ = store.take_hints(now=NOW, told_before=NOW)
        (delivery_id,) = outbox.take_hints(now=NOW, told_before=NOW)
        store.claim_hinted(first, "w1", now=NOW, lease_seconds=30)
        outbox.claim_hinted(delivery_id, "w1", now=NOW, lease_seconds=30)
        with closing(SqliteStore(path)) as writer, writer._database.write():
            for port in (store, outbox):
                with port._database.read() as db:
                    db.execute("PRAGMA busy_timeout = 0")
            assert store.take_hints(now=NOW, told_before=NOW) == []
            assert outbox.take_hints(now=NOW, told_before=NOW) == []
            assert store.claim_hinted(first, "w2", now=NOW, lease_seconds=30) is None
            assert outbox.claim_hinted(delivery_id, "w2", now=NOW, lease_seconds=30) is None

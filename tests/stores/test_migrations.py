"""Files of older versions are brought up to date when they are opened, whole or not at all."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from pixmill.core.access import NOBODY
from pixmill.core.errors import StorageFailure
from pixmill.core.leases import Work
from pixmill.core.model import ImageStatus, RequestStatus, Stored
from pixmill.stores.sqlite import SqliteStore
from pixmill.stores.sqlite.database import SCHEMA_VERSION

VERSION_1 = (Path(__file__).parent / "version_1.sql").read_text()
NOW = 1_790_000_100.0

OPEN = """
import sys
from pathlib import Path
from pixmill.stores.sqlite import SqliteStore
sys.stdin.readline()
store = SqliteStore(Path(sys.argv[1]))
print(store.requests("", limit=1)[:1])
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file as the first version left it."""
    path = tmp_path / "pixmill.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(VERSION_1)
    return path


def schema(path: Path) -> dict[str, str]:
    """What a file is made of: tables and indexes by name."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        found = connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql NOT NULL")
        return dict(found.fetchall())


def test_what_an_old_file_holds_is_kept(old: Path) -> None:
    with closing(SqliteStore(old)) as store:
        request = store.request("req_done")
        assert (request.status, request.owner) == (RequestStatus.COMPLETED, NOBODY)
        assert (request.processed_images, request.failed_images) == (1, 1)
        assert (request.options.quality, request.rules.url_cols) == (61, ("Photo",))
        listed = [found.id for found in store.requests(NOBODY)]
        assert listed == ["req_at_work", "req_done"]
        done, failed = store.images("req_done")
        assert done.outcome
        assert isinstance(done.outcome.result, Stored)
        assert failed.outcome
        assert store.products("req_done")[0].images == (1, 2)
        assert store.census().requests[RequestStatus.PROCESSING] == 1


def test_the_work_of_an_old_file_goes_on(old: Path) -> None:
    with closing(SqliteStore(old)) as store:
        assert 0 < store.longest_wait(now=NOW) < 100
        (hint,) = store.take_hints(now=NOW, told_before=NOW)
        assert (hint.request_id, hint.work) == ("req_at_work", Work.SHARD)
        shard = store.claim("w1", now=NOW, lease_seconds=30)
        assert shard is not None
        assert (shard.request_id, shard.work) == ("req_at_work", Work.SHARD)
        assert store.retry_failed("req_done", now=NOW) == 1
        assert len(store.images("req_done", status=ImageStatus.PENDING)) == 1


def test_an_upgraded_file_is_made_of_the_same_as_a_new_one(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.db"
    for path in (old, new):
        SqliteStore(path).close()
    assert schema(old) == schema(new)


@pytest.mark.parametrize("begin", ["old", "new"])
def test_several_processes_may_open_a_file_at_once(tmp_path: Path, old: Path, begin: str) -> None:
    path = old if begin == "old" else tmp_path / "new.db"
    openers = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, str(path)],
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
    answers = [opener.communicate(timeout=60) for opener in openers]
    assert [error for _, error in answers] == [""] * 6
    assert len({said for said, _ in answers}) == 1
    schema(path)


def test_an_upgrade_that_cannot_be_done_leaves_the_file_as_it_was(old: Path) -> None:
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("CREATE TABLE keys (something TEXT)")  # in the way of ours
        before = connection.execute("SELECT * FROM sqlite_schema").fetchall()
    with pytest.raises(StorageFailure, match="keys"):
        SqliteStore(old)
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("SELECT * FROM sqlite_schema").fetchall() == before
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)


def test_a_file_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "pixmill.db"
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(StorageFailure, match="newer version"):
        SqliteStore(path)

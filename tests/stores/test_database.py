"""The embedded database: which of SQLite's refusals pass by themselves."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from pixmill.core.errors import PixmillError, StorageFailure, StoreUnavailable
from pixmill.stores.sqlite import SqliteStore
from pixmill.stores.sqlite.database import translated
from tests.contracts.records import ingested


@pytest.mark.parametrize(
    ("code", "becomes"),
    [
        (sqlite3.SQLITE_BUSY, StoreUnavailable),
        (sqlite3.SQLITE_BUSY_RECOVERY, StoreUnavailable),  # as after a kill
        (sqlite3.SQLITE_BUSY_SNAPSHOT, StoreUnavailable),
        (sqlite3.SQLITE_LOCKED_SHAREDCACHE, StoreUnavailable),
        (sqlite3.SQLITE_FULL, StorageFailure),
        (sqlite3.SQLITE_IOERR_WRITE, StorageFailure),
        (sqlite3.SQLITE_READONLY, StorageFailure),
    ],
)
def test_what_is_busy_is_away_and_all_else_needs_mending(
    code: int, becomes: type[PixmillError]
) -> None:
    error = sqlite3.OperationalError("it does not work")
    error.sqlite_errorcode = code
    with (
        pytest.raises(becomes, match=r"pixmill\.db: it does not work"),
        translated(Path("pixmill.db")),
    ):
        raise error


GROWTH = """
import sys, threading
from pathlib import Path
from pixmill.stores.sqlite import SqliteStore

def resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096

store = SqliteStore(Path(sys.argv[1]))
all_here = threading.Barrier(40)

def ask():
    store.totals("req_a")  # reads every image
    all_here.wait()

before = resident()
threads = [threading.Thread(target=ask) for _ in range(40)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(resident() - before)
"""


def test_40_threads_that_read_a_large_request_need_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "pixmill.db"
    with closing(SqliteStore(path)) as store:
        ingested(store, urls=30_000)
    ran = subprocess.run(
        [sys.executable, "-c", GROWTH, str(path)], capture_output=True, text=True, check=True
    )
    assert int(ran.stdout) < 50_000_000

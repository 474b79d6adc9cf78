"""The embedded database: which of SQLite's refusals pass by themselves."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from pixmill.core.errors import PixmillError, StorageFailure, StoreUnavailable
from pixmill.stores.sqlite.database import translated


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

"""Counts of calls on SQLite: nobody waits for them, and nobody is refused for want of them."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from pixmill.stores.sqlite import SqliteAccess, SqliteStore
from pixmill.stores.sqlite.calls import BUSY_SECONDS, CallCounter
from tests.contracts.records import a_request


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pixmill.db-calls"


@pytest.fixture
def counter(path: Path) -> Iterator[CallCounter]:
    """A counter that has counted one call, and never pauses."""
    with closing(CallCounter(path, pause_seconds=0)) as made:
        assert made.count(["anna"], window=1) == [1]
        yield made


def test_a_busy_store_holds_up_no_call(tmp_path: Path) -> None:
    path = tmp_path / "pixmill.db"
    with closing(SqliteStore(path)) as store, closing(SqliteAccess(path)) as access:
        store.add_request(a_request())
        with closing(sqlite3.connect(path, isolation_level=None)) as writer:
            writer.execute("BEGIN EXCLUSIVE")
            assert [access.count_calls(["anna"], window=1) for _ in range(3)] == [[1], [2], [3]]


def test_what_cannot_be_counted_counts_as_nothing_and_is_said_once(
    path: Path, counter: CallCounter, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with caplog.at_level(logging.WARNING):
            assert counter.count(["anna", "bert"], window=1) == [0, 0]
            assert counter.count(["anna"], window=1) == [0]
        other.execute("ROLLBACK")
    assert len(caplog.records) == 1
    assert counter.count(["anna"], window=1) == [2]


def test_after_a_wait_in_vain_no_call_waits_for_a_while(path: Path) -> None:
    with (
        closing(CallCounter(path, pause_seconds=600)) as counter,
        closing(sqlite3.connect(path, isolation_level=None)) as other,
    ):
        assert counter.count(["anna"], window=1) == [1]
        other.execute("BEGIN EXCLUSIVE")
        begun = time.monotonic()
        with ThreadPoolExecutor(20) as calls:
            counts = list(calls.map(lambda _: counter.count(["anna"], window=1), range(100)))
        assert counts == [[0]] * 100
        assert time.monotonic() - begun < 100 * BUSY_SECONDS / 2, "one waited, not each"
        other.execute("ROLLBACK")
        assert counter.count(["anna"], window=1) == [0], "until the pause is over"


def test_a_ruined_file_is_made_anew(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_bytes(b"as a power cut may leave it " * 1000)
    with closing(CallCounter(path)) as counter, caplog.at_level(logging.ERROR):
        counter.count(["anna"], window=1)
        assert counter.count(["anna"], window=1) == [1]


def test_earlier_windows_leave_nothing_behind(path: Path, counter: CallCounter) -> None:
    counter.count([f"10.0.0.{number}" for number in range(100)], window=1)
    counter.count(["anna"], window=2)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM calls").fetchall() == [(2, "anna", 1)]


def test_a_folder_that_cannot_be_written_refuses_nobody(tmp_path: Path) -> None:
    with closing(CallCounter(tmp_path / "missing" / "calls")) as counter:
        assert counter.count(["anna"], window=1) == [0]

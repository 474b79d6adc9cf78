"""How often callers called lately: counts that all processes share and nobody waits for."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

BUSY_SECONDS = 0.25
"""How long a call waits for other processes to count, each for a fraction of a millisecond."""

PAUSE_SECONDS = 5.0
"""For how long nothing is counted after that was in vain, so that no more calls wait for it."""

BROKEN = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class CallCounter:
    """Counts in a SQLite file of their own, which may be lost at any time.

    Not in the store's file, where each call would queue behind the workers' and the ingest's
    writes, and behind the flush of each. Here nothing is ever flushed (``synchronous=OFF``), so a
    power cut may ruin the file: then it is made anew. While it cannot be used, calls count as
    nothing, since refusing everybody for want of a count would be worse than refusing nobody.
    """

    def __init__(self, path: Path, pause_seconds: float = PAUSE_SECONDS) -> None:
        self._path = path
        self._pause_seconds = pause_seconds
        self._again_at = 0.0
        self._lock = threading.Lock()  # cheaper than SQLite's, which makes waiting threads poll
        self._connection: sqlite3.Connection | None = None
        self._silent = False

    def count(self, callers: Sequence[str], window: int) -> list[int]:
        """Count one more call of each; return the counts so far, 0 if they cannot be had."""
        with self._lock:
            if time.monotonic() < self._again_at:
                return [0] * len(callers)
            try:
                counts = self._count(callers, window)
            except (sqlite3.Error, OSError) as error:
                self._give_way(error)
                return [0] * len(callers)
            self._silent = False
            return counts

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._drop_connection()

    def _count(self, callers: Sequence[str], window: int) -> list[int]:
        connection = self._connection or self._connect()
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("DELETE FROM calls WHERE window < ?", (window,))
            return [
                connection.execute(
                    "INSERT INTO calls VALUES (?, ?, 1) ON CONFLICT (window, caller)"
                    " DO UPDATE SET count = count + 1 RETURNING count",
                    (window, caller),
                ).fetchone()[0]
                for caller in callers
            ]

    def _connect(self) -> sqlite3.Connection:
        self._connection = sqlite3.connect(
            self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS calls (window INTEGER, caller TEXT, count INTEGER,"
            " PRIMARY KEY (window, caller)) WITHOUT ROWID"
        )
        return self._connection

    def _give_way(self, error: Exception) -> None:
        """Say once that nothing is counted, and begin anew after a pause, or in a new file."""
        if not self._silent:
            log.warning("calls are not counted, so there is no rate limit: %s", error)
        self._silent = True
        self._drop_connection()
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in BROKEN:
            for suffix in ("", "-wal", "-shm"):
                with suppress(OSError):
                    self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        else:
            self._again_at = time.monotonic() + self._pause_seconds

    def _drop_connection(self) -> None:
        if self._connection:
            self._connection.close()
        self._connection = None

"""Connections, transactions and the schema of the embedded store."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from pixmill.core.errors import StorageFailure, StoreUnavailable

SCHEMA_VERSION = 5
"""The number of the last file in ``migrations``, all of which are applied in order."""

BUSY_SECONDS = 30.0
"""How long a write waits for another process's write. Writes take milliseconds."""


CACHE_KIB = 512
"""Memory of each connection's own cache, of which a server's 40 threads have one each.

SQLite's default of 2 MB made that 80 MB, and was no faster: the kernel caches the file anyway.
"""


class Database:
    """A SQLite file with one connection per thread.

    WAL lets readers go on while one process writes; ``synchronous=FULL`` makes a committed
    transaction survive a power cut. A writer takes the lock at once (``BEGIN IMMEDIATE``), since a
    transaction that reads first and writes later can fail with SQLITE_BUSY without any wait.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        _make_folder(path.parent)
        with translated(path):
            self._migrate()

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection for queries, each of which sees one moment of the data."""
        with translated(self.path):
            yield self._connection()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction: committed at the end, undone if anything goes wrong inside."""
        with translated(self.path):
            connection = self._connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:  # whatever it is goes on; only the transaction must not stay
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close every thread's connection."""
        with self._lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(
                self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            self._local.connection = connection
            with self._lock:
                self._connections.append(connection)
        return connection

    def _migrate(self) -> None:
        """Bring the schema up to date, in one step; of several processes, one does it."""
        with self.read() as connection:
            if self._version(connection) == SCHEMA_VERSION:
                return
        with self.write() as connection:
            for number in range(self._version(connection) + 1, SCHEMA_VERSION + 1):
                migration = files(__package__).joinpath(f"migrations/{number:04}.sql").read_text()
                for statement in migration.split(";\n"):
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _version(self, connection: sqlite3.Connection) -> int:
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            raise StorageFailure(
                f"{self.path} was made by a newer version of pixmill (schema {version}, "
                f"this one reads {SCHEMA_VERSION}). Use that version, or another folder."
            )
        return version


def _make_folder(folder: Path) -> None:
    """Make the folder of a database, if it is not there; raises StorageFailure."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        for place in (folder, *folder.parents):
            if os.path.isfile(place):  # noqa: PTH113  # the other one may raise for want of rights
                raise StorageFailure(f"{place} is a file, not a folder.") from error
        raise StorageFailure(
            f"Cannot make the data folder {folder}: {error.strerror or error}."
        ) from error


AWAY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
"""What passes by itself. Anything else (full, read-only, damaged) needs somebody to mend it."""


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn SQLite's and the file system's refusals into ours, in words for people.

    Only refusals of the environment are translated. An integrity or programming error is a mistake
    in this package and is left as it is.
    """
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
        raise
    except sqlite3.Error as error:
        message = f"Cannot use the database {path}: {error}."
        # The low byte is the kind; the rest tells which (SQLITE_BUSY_RECOVERY after a kill).
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in AWAY:
            raise StoreUnavailable(message) from error
        raise StorageFailure(message) from error
    except OSError as error:
        raise StorageFailure(f"Cannot use {path}: {error.strerror or error}.") from error

"""The embedded store: one SQLite file in WAL mode, shared by all processes of a machine."""

from pixmill.stores.sqlite.access import SqliteAccess
from pixmill.stores.sqlite.outbox import SqliteOutbox
from pixmill.stores.sqlite.store import SqliteStore

__all__ = ["SqliteAccess", "SqliteOutbox", "SqliteStore"]

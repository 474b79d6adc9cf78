"""MongoDB's refusals in words for people: what passes by itself, and what must be mended."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    ExecutionTimeout,
    InvalidURI,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WTimeoutError,
)

from pixmill.core.errors import StorageFailure, StoreUnavailable

AWAY_LABELS = (
    "TransientTransactionError",
    "UnknownTransactionCommitResult",
    "RetryableWriteError",
)

AWAY = {
    6,  # HostUnreachable
    7,  # HostNotFound
    24,  # LockTimeout
    64,  # WriteConcernFailed: not enough members took the write in time
    89,  # NetworkTimeout
    91,  # ShutdownInProgress
    112,  # WriteConflict
    133,  # FailedToSatisfyReadPreference
    134,  # ReadConcernMajorityNotAvailableYet
    189,  # PrimarySteppedDown
    239,  # SnapshotTooOld
    246,  # SnapshotUnavailable
    251,  # NoSuchTransaction
    262,  # ExceededTimeLimit
    290,  # TransactionExceededLifetimeLimitSeconds
    9001,  # SocketException
    10107,  # NotWritablePrimary
    11600,  # InterruptedAtShutdown
    11601,  # Interrupted: the process stood still, and others ended what it had begun
    11602,  # InterruptedDueToReplStateChange
    13435,  # NotPrimaryNoSecondaryOk
    13436,  # NotPrimaryOrSecondary
}
"""Codes of what passes by itself (the server's src/mongo/base/error_codes.yml)."""

OUR_MISTAKES = {
    121,  # DocumentValidationFailure
    11000,  # DuplicateKey
}

MENDING = {
    13: "its user may not do this; grant the role readWrite and dbAdmin on the database",
    18: "it does not accept the user name and password; check those in PIXMILL_STORE",
    20: "it is no replica set; start mongod with --replSet and run rs.initiate() once",
    263: "it is no replica set; start mongod with --replSet and run rs.initiate() once",
    14031: "its disk is full; make room there",
}
"""Codes of what somebody must mend, and how."""

NOT_INITIATED = "it is a replica set that was never initiated; run rs.initiate() there once"
BAD_URL = (
    "PIXMILL_STORE is not a MongoDB URL that can be used. It must look like"
    " mongodb://user:password@host1,host2/database?replicaSet=name, with the special characters of"
    " user and password percent-encoded"
)

_TIMEOUTS = re.compile(r" \(configured timeouts:[^)]*\)")


@contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's errors into ours.

    A broken unique index or validator is a mistake in this package and is left as it is. The URL,
    which may hold a password, is in no message and, as errors about it are not chained, in no log.
    """
    try:
        yield
    except (InvalidURI, ConfigurationError):
        raise StorageFailure(f"{BAD_URL}.") from None
    except ServerSelectionTimeoutError as error:
        if "RSGhost" in str(error):  # what the driver calls it
            raise StorageFailure(f"Cannot use MongoDB: {NOT_INITIATED}.") from error
        raise StoreUnavailable(f"MongoDB cannot be used: {_why_none(error)}.") from error
    except PyMongoError as error:
        if _code(error) in OUR_MISTAKES:
            raise
        if _passes(error):
            raise StoreUnavailable(f"MongoDB is away for a moment: {_said(error)}.") from error
        raise StorageFailure(f"Cannot use MongoDB: {_said(error)}.") from error


def _why_none(error: ServerSelectionTimeoutError) -> str:
    """Why no server was found, with the hosts that were asked."""
    if "set name" in str(error):
        return f"{error}".partition(", Timeout:")[0] + "; check replicaSet in PIXMILL_STORE"
    if "selector" in str(error):
        return "its replica set has no primary at the moment"
    return _TIMEOUTS.sub("", str(error).partition(", Timeout:")[0])


def _passes(error: PyMongoError) -> bool:
    if isinstance(error, ConnectionFailure | ExecutionTimeout | WTimeoutError):
        return True
    return _code(error) in AWAY or any(error.has_error_label(label) for label in AWAY_LABELS)


def _code(error: PyMongoError) -> int | None:
    """The server's code; of a batch, that of its first error."""
    if isinstance(error, BulkWriteError):
        details = error.details or {}
        errors = [*details.get("writeErrors", ()), *details.get("writeConcernErrors", ())]
        return errors[0].get("code") if errors else error.code
    return error.code if isinstance(error, OperationFailure) else None


def _said(error: PyMongoError) -> str:
    """What it said, or, where that would help nobody, what to do."""
    if (code := _code(error)) in MENDING:
        return MENDING[code]
    details = error.details if isinstance(error, OperationFailure) else None
    said = (details or {}).get("errmsg") or str(error)
    return str(said).partition(", full error")[0].rstrip(".")

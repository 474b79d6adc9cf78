"""What cannot be used is told apart: away for a moment, or in need of mending, in plain words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    DuplicateKeyError,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    WTimeoutError,
)

from pixmill.core.errors import PixmillError, StorageFailure, StoreUnavailable
from pixmill.stores.mongo import MongoAccess, MongoStore
from pixmill.stores.mongo.database import check_server
from pixmill.stores.mongo.troubles import translated
from tests.servers.mongo import MongoServer, mongo_server

SOON = "serverSelectionTimeoutMS=1000"


@pytest.fixture
def server() -> Iterator[MongoServer]:
    """A server of the test's own, not started yet."""
    with mongo_server() as made:
        yield made


def refusal(url: str) -> PixmillError:
    """How a store at this URL refuses."""
    with closing(MongoStore(url)) as store, pytest.raises(PixmillError) as refused:
        store.census()
    return refused.value


@pytest.mark.parametrize(
    ("error", "becomes"),
    [
        (AutoReconnect("connection closed"), StoreUnavailable),
        (NetworkTimeout("timed out"), StoreUnavailable),
        (NotPrimaryError("not primary"), StoreUnavailable),
        (WTimeoutError("waiting for replication timed out", 64), StoreUnavailable),
        (OperationFailure("primary stepped down", 189), StoreUnavailable),
        (OperationFailure("WriteConflict", 112), StoreUnavailable),
        (OperationFailure("No space left on device", 14031), StorageFailure),
        (BulkWriteError({"writeErrors": [{"code": 14031}]}), StorageFailure),
        (OperationFailure("not authorized", 13), StorageFailure),
        (OperationFailure("something new", 424242), StorageFailure),
        (DuplicateKeyError("E11000", 11000), DuplicateKeyError),
        (BulkWriteError({"writeErrors": [{"code": 11000}]}), BulkWriteError),
        (OperationFailure("Document failed validation", 121), OperationFailure),
    ],
)
def test_what_passes_is_away_and_all_else_needs_mending_or_is_our_mistake(
    error: PyMongoError, becomes: type[Exception]
) -> None:
    with pytest.raises(becomes), translated():
        raise error


def test_a_server_that_does_not_answer_is_away() -> None:
    refused = refusal(f"mongodb://anna:secret@127.0.0.1:1/db?{SOON}")
    assert isinstance(refused, StoreUnavailable)
    assert "secret" not in refused.message


def test_without_a_server_calls_count_as_nothing() -> None:
    with closing(MongoAccess(f"mongodb://127.0.0.1:1/db?{SOON}")) as access:
        assert access.count_calls(["anna", "10.0.0.1"], window=5) == [0, 0]


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://",
        "mongodb://anna:se/cr@et@h/db",
        "mongodb://anna:secret@h:port/db",
        "mongodb://anna:secret@h/db?w=x&authMechanism=none",
        "mongodb://anna:secret@h/db?readPreferenceTags=x",
        "mongodb+srv://anna:secret@h/db",
    ],
)
def test_a_url_that_cannot_be_used_is_explained_without_showing_it(url: str) -> None:
    refused = refusal(url)
    assert isinstance(refused, StorageFailure)
    assert "PIXMILL_STORE is not a MongoDB URL that can be used" in refused.message
    assert refused.__cause__ is None
    for part in ("secret", "anna", "cr@et"):
        assert part not in refused.message


def test_a_server_that_is_no_replica_set_is_refused_with_what_to_do(server: MongoServer) -> None:
    server.start_alone()
    refused = refusal(f"mongodb://127.0.0.1:{server.port}/db?{SOON}")
    assert isinstance(refused, StorageFailure)
    assert "no replica set; start mongod with --replSet" in refused.message


def test_a_server_older_than_what_is_tested_is_refused() -> None:
    check_server({"setName": "fleet", "maxWireVersion": 17})
    with pytest.raises(StorageFailure, match=r"6\.0 or newer"):
        check_server({"setName": "fleet", "maxWireVersion": 13})


def test_a_replica_set_that_was_never_initiated_is_refused_with_what_to_do(
    server: MongoServer,
) -> None:
    server.start_uninitiated()
    for set_name in ("", "&replicaSet=pixmilltests"):
        refused = refusal(f"mongodb://127.0.0.1:{server.port}/db?{SOON}{set_name}")
        assert isinstance(refused, StorageFailure)
        assert "never initiated; run rs.initiate()" in refused.message


def test_a_wrong_password_or_a_missing_role_is_named_and_not_shown(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("c2VjcmV0" * 4)
    key.chmod(0o600)
    with mongo_server("--auth", "--keyFile", str(key)) as server:
        server.start()
        with server.admin() as client:
            client.admin.command({"createUser": "root", "pwd": "root", "roles": ["root"]})
        with server.admin(username="root", password="root") as client:  # noqa: S106  # of a minute
            role = {"role": "read", "db": "db"}
            client.db.command({"createUser": "anna", "pwd": "secret", "roles": [role]})
        address = f"127.0.0.1:{server.port}/db"
        wrong = refusal(f"mongodb://anna:geheim@{address}")
        assert isinstance(wrong, StorageFailure)
        assert "does not accept the user name and password" in wrong.message
        assert "geheim" not in wrong.message
        powerless = refusal(f"mongodb://anna:secret@{address}")
        assert isinstance(powerless, StorageFailure)
        assert "grant the role readWrite" in powerless.message

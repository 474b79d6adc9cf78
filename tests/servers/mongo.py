"""A MongoDB of the tests: one real ``mongod`` as a replica set of one, on a temporary folder."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from tests.servers.ports import START_SECONDS, free_port, wait_until_it_answers
from tests.servers.processes import server_folder, start_process
from tests.servers.programs import program

SET_NAME = "pixmilltests"

MEMORY = Path("/dev/shm")  # noqa: S108  # a private folder is made in it
ROOM = 3_000_000_000
"""Bytes that a memory file system must have free: there, the many databases are made faster."""

SMALL = [
    "--wiredTigerCacheSizeGB", "0.25",
    "--oplogSize", "200",
    "--setParameter", "diagnosticDataCollectionEnabled=false",
    # Tests live in a time of their own: what is young to them may be old to the server's clock.
    "--setParameter", "ttlMonitorEnabled=false",
    "--setParameter", "enableTestCommands=1",  # for the server's own failpoints
]  # fmt: skip


class MongoServer:
    """A server that can be killed and started again."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.port = free_port()
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "pixmill") -> str:
        """The URL of a database of this server."""
        return f"mongodb://127.0.0.1:{self.port}/{database}?replicaSet={SET_NAME}"

    def start(self) -> None:
        """Start it and wait until it takes writes; the first time, make it a replica set."""
        self._start("--replSet", SET_NAME)
        with self.admin() as client:
            member = {"_id": 0, "host": f"127.0.0.1:{self.port}"}
            with _ignoring(23):  # AlreadyInitialized
                client.admin.command("replSetInitiate", {"_id": SET_NAME, "members": [member]})
        self.wait_until_primary()

    def start_alone(self) -> None:
        """Start it as no replica set."""
        self._start()

    def start_uninitiated(self) -> None:
        """Start it as a replica set that nobody initiated."""
        self._start("--replSet", SET_NAME)

    def kill(self) -> None:
        """End it at once, without any farewell."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process
        return self._process.pid

    def freeze(self) -> None:
        """Let it live, but do nothing."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def step_down(self, seconds: int) -> None:
        """Make it no primary for some seconds; then it elects itself again."""
        with self.admin() as client:
            client.admin.command(
                {"replSetStepDown": seconds, "secondaryCatchUpPeriodSecs": 0, "force": True}
            )

    @contextmanager
    def failing(self, command: str, times: int, how: dict[str, Any]) -> Iterator[None]:
        """Let the server itself answer a command wrongly so many times (its "failCommand")."""
        point = {"configureFailPoint": "failCommand"}
        with self.admin() as client:
            data = {"failCommands": [command], **how}
            client.admin.command({**point, "mode": {"times": times}, "data": data})
            try:
                yield
            finally:
                client.admin.command({**point, "mode": "off"})

    def wait_until_primary(self) -> None:
        """Wait until it takes writes."""
        give_up = time.monotonic() + START_SECONDS
        with self.admin() as client:
            while True:
                try:
                    if client.admin.command("hello").get("isWritablePrimary"):
                        return
                except PyMongoError:
                    pass
                assert time.monotonic() < give_up, self._tail()
                time.sleep(0.02)

    @contextmanager
    def admin(self, **options: Any) -> Iterator[MongoClient[dict[str, Any]]]:
        """A connection to this server, whatever it is."""
        direct: dict[str, Any] = {"directConnection": True, "serverSelectionTimeoutMS": 20_000}
        with MongoClient("127.0.0.1", self.port, **direct, **options) as client:
            yield client

    def _start(self, *options: str) -> None:
        command = [
            str(program("mongod")), "--quiet", "--bind_ip", "127.0.0.1", "--port", str(self.port),
            "--dbpath", str(self.folder), "--logpath", str(self.folder / "log"), "--logappend",
            "--nounixsocket", *SMALL, *self._options, *options,
        ]  # fmt: skip
        self._process = start_process(command, self.folder / "log")
        wait_until_it_answers(self.port, self._process, self.folder / "log")

    def _tail(self) -> str:
        log = self.folder / "log"
        return log.read_text(errors="replace")[-3000:] if log.exists() else "mongod left no log"


@contextmanager
def mongo_server(*options: str) -> Iterator[MongoServer]:
    """A server that was not started yet; it and its folder are gone at the end."""
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM
    place = MEMORY if roomy else Path(tempfile.gettempdir())
    with server_folder("mongo", place) as folder:
        server = MongoServer(folder, *options)
        try:
            yield server
        finally:
            server.kill()


@contextmanager
def mongo_database(server: MongoServer) -> Iterator[str]:
    """The URL of an empty database, which is dropped at the end."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield server.url(name)
    with server.admin() as client:
        client.drop_database(name)


@contextmanager
def _ignoring(code: int) -> Iterator[None]:
    try:
        yield
    except OperationFailure as error:
        if error.code != code:
            raise

"""A Redis of the tests: one real ``redis-server`` that keeps nothing but what is in its memory."""

from __future__ import annotations

import itertools
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from tests.servers.ports import free_port, wait_until_it_answers
from tests.servers.processes import server_folder, start_process
from tests.servers.programs import program

DATABASES = 16

_numbers = itertools.count()


class RedisServer:
    """A server that can be killed and started again, and is empty then."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: int = 0) -> str:
        """The URL of a database of this server."""
        return f"redis://127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [
            str(program("redis-server")), "--bind", "127.0.0.1", "--port", str(self.port),
            "--dir", str(self.folder), "--save", "", "--appendonly", "no",
            "--databases", str(DATABASES),
        ]  # fmt: skip
        self._process = start_process(command, self.folder / "log")
        wait_until_it_answers(self.port, self._process, self.folder / "log")

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

    def empty_database(self) -> str:
        """The URL of a database with nothing in it: each in turn."""
        url = self.url(next(_numbers) % DATABASES)
        with redis.Redis.from_url(url) as client:
            client.flushdb()
        return url


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    """A server that was not started yet; it and its folder are gone at the end."""
    with server_folder("redis") as folder:
        server = RedisServer(folder)
        try:
            yield server
        finally:
            server.kill()

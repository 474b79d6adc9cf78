"""A fleet: a service without workers, and ``pixmill worker``s that a broker tells of work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests import service as services
from tests.service import Serving


@dataclass
class Fleet:
    """Workers on the same settings, which can be killed and replaced."""

    env: Mapping[str, str]
    log: Path
    command: tuple[str, ...] = ("-m", "pixmill", "worker")
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def add(self, count: int = 1) -> list[subprocess.Popen[bytes]]:
        """Start workers; return them without waiting for them."""
        added = [self._start() for _ in range(count)]
        self.workers += added
        return added

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        """Kill a worker without any farewell."""
        worker.kill()
        worker.wait()
        self.workers.remove(worker)

    def said(self) -> str:
        """What the workers wrote so far."""
        return self.log.read_text() if self.log.exists() else ""

    def end(self) -> None:
        """Make sure that all workers and their children are gone."""
        for worker in self.workers:
            with suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as said:
            return subprocess.Popen(
                [sys.executable, *self.command],
                env=dict(self.env),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )


@contextmanager
def fleet(
    data: Path,
    workers: int = 1,
    *,
    program: Sequence[str] = services.PROGRAM,
    **settings: object,
) -> Iterator[tuple[Serving, Fleet]]:
    """A service and so many workers until the end of the block."""
    env = services.environment(data, **settings)
    made = Fleet(env, data.with_name(f"{data.name}.workers.log"))
    try:
        made.add(workers)
        with services.serving(data, program=program, **settings) as service:
            yield service, made
    finally:
        made.end()


def wait_until(
    holds: Callable[[], object],
    timeout: float = 60,
    why: str | Callable[[], str] = "it did not come true",
) -> None:
    """Wait until something holds; ``why`` says, when it is too late, what is known of that."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, why if isinstance(why, str) else why()
        time.sleep(0.05)

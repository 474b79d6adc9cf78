"""The local engine: worker processes of this machine, watched and started again when they die."""

from __future__ import annotations

import logging
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pixmill.core.errors import StorageFailure

log = logging.getLogger(__name__)

CANNOT_GO_ON = 74
"""Exit code of a worker that cannot store anything (EX_IOERR of sysexits.h)."""

SETTLED_SECONDS = 5.0
"""A worker that lived this long is started again at once; others wait longer each time."""

LONGEST_PAUSE = 3.0

MOST_FAILED_STARTS = 3
"""Quick exits with an error in a row that are no accident. A killed worker is always replaced."""


@dataclass(slots=True)
class _Slot:
    """The place of one worker: its process, and when it may be started again."""

    number: int
    generation: int = 0
    process: subprocess.Popen[str] | None = None
    name: str = ""
    started: float = 0.0
    start_at: float = 0.0
    deaths: int = 0


class LocalEngine:
    """Runs ``count`` worker processes and keeps them running.

    ``command`` makes the command line of the worker with a given name. A worker lives no longer
    than this process: its standard input closes when this one dies, however that happens, and it
    then hands its work back. ``died`` is told the name of each worker that ended. The workers' log
    goes to ``log_file``, or to standard error.
    """

    def __init__(
        self,
        command: Callable[[str], Sequence[str]],
        environment: Mapping[str, str],
        *,
        count: int,
        name: str,
        died: Callable[[str], None],
        log_file: Path | None = None,
    ) -> None:
        self._command = command
        self._environment = dict(environment)
        self._name = name
        self._died = died
        self._log_file = log_file
        self._slots = [_Slot(number) for number in range(1, count + 1)]
        self.failure: str | None = None

    def start(self) -> None:
        """Start the workers."""
        for slot in self._slots:
            self._start(slot)

    def check(self) -> None:
        """See to workers that ended: tell of them, start others. Call it a few times a second.

        A worker that says it cannot go on is not replaced; ``failure`` then has its reason.
        """
        now = time.monotonic()
        for slot in self._slots:
            if slot.process is not None and slot.process.poll() is not None:
                self._bury(slot, slot.process, now)
            elif slot.process is None and self.failure is None and now >= slot.start_at:
                self._start(slot)

    def try_again(self) -> None:
        """Forget a failure and start the workers that ended with it."""
        self.failure = None
        for slot in self._slots:
            slot.deaths = 0
            slot.start_at = 0.0

    def pids(self) -> list[int]:
        """The process ids of the workers that run."""
        return [slot.process.pid for slot in self._slots if slot.process is not None]

    def stop(self, grace: float) -> None:
        """Ask the workers to stop, wait for ``grace`` seconds, then kill those that have not."""
        running = [slot for slot in self._slots if slot.process is not None]
        for slot in running:
            if slot.process:
                slot.process.terminate()
        deadline = time.monotonic() + grace
        for slot in running:
            if slot.process:
                _end(slot.process, deadline)
        for slot in running:
            slot.process = None
            self._died(slot.name)

    def _start(self, slot: _Slot) -> None:
        slot.generation += 1
        slot.name = f"{self._name}-{slot.number}.{slot.generation}"
        slot.started = time.monotonic()
        try:
            with self._log() as log_file, _no_ctrl_c():
                slot.process = subprocess.Popen(
                    self._command(slot.name),
                    env=self._environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log_file,
                    text=True,
                )
        except OSError as error:
            raise StorageFailure(f"Cannot start a worker: {error.strerror}.") from error

    def _log(self) -> AbstractContextManager[IO[str] | None]:
        return self._log_file.open("a") if self._log_file else nullcontext()

    def _bury(self, slot: _Slot, process: subprocess.Popen[str], now: float) -> None:
        last_words = process.communicate()[0].strip()
        self._died(slot.name)
        slot.process = None
        if process.returncode == CANNOT_GO_ON:
            self.failure = last_words or "A worker cannot store anything."
            return
        log.warning("worker %s ended with %d; starting another", slot.name, process.returncode)
        slot.deaths = 0 if now - slot.started > SETTLED_SECONDS else slot.deaths + 1
        if process.returncode > 0 and slot.deaths >= MOST_FAILED_STARTS:
            where = f" Their log is {self._log_file}." if self._log_file else ""
            self.failure = f"Workers end with code {process.returncode} again and again.{where}"
        doublings = min(slot.deaths - 1, 10)  # far beyond the longest pause
        slot.start_at = now + min(LONGEST_PAUSE, 0.5 * (2**doublings - 1))


@contextmanager
def _no_ctrl_c() -> Iterator[None]:
    """Processes started meanwhile are not interrupted by a terminal's Ctrl-C.

    A worker ignores it anyway, but only once it has come so far.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(process: subprocess.Popen[str], deadline: float) -> None:
    try:
        process.communicate(timeout=max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()

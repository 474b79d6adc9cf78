"""The local engine: workers that end are told of and replaced; a stop ends every one of them."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from pixmill.core.errors import StorageFailure
from pixmill.engines.local import CANNOT_GO_ON, LONGEST_PAUSE, LocalEngine

WAITS = "import sys; sys.stdin.read()"


def engine(program: str, *, count: int = 1, died=lambda _name: None) -> LocalEngine:
    return LocalEngine(
        lambda _name: [sys.executable, "-c", program],
        os.environ,
        count=count,
        name="w",
        died=died,
    )


def wait_until(condition, step) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
        step()


def test_a_killed_worker_is_told_of_and_replaced_under_another_name():
    told = []
    workers = engine(WAITS, died=told.append)
    workers.start()
    (first,) = workers.pids()
    os.kill(first, 9)
    wait_until(lambda: workers.pids() not in ([], [first]), workers.check)
    workers.stop(5)
    assert told == ["w-1.1", "w-1.2"]


def test_a_worker_that_dies_for_ever_is_started_for_ever_at_a_bounded_pace():
    workers = engine("import os; os.kill(os.getpid(), 9)")
    workers._slots[0].deaths = 5_000
    workers.start()
    wait_until(lambda: not workers.pids(), workers.check)
    assert workers._slots[0].start_at <= time.monotonic() + LONGEST_PAUSE
    assert workers.failure is None


def test_a_stop_ends_all_workers_even_if_nobody_can_be_told():
    def died(_name: str) -> None:
        raise StorageFailure("The disk is full.")

    workers = engine(WAITS, count=2, died=died)
    workers.start()
    processes = [slot.process for slot in workers._slots]
    with pytest.raises(StorageFailure):
        workers.stop(5)
    assert all(process and process.returncode is not None for process in processes)


def test_a_ctrl_c_of_the_terminal_is_not_for_workers():
    program = "import os, signal, sys; os.kill(os.getpid(), signal.SIGINT); sys.exit(7)"
    workers = engine(program)
    workers.start()
    process = workers._slots[0].process
    assert process
    assert process.wait(10) == 7, "it was not interrupted"
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, set())
    workers.stop(5)


def test_workers_are_started_again_when_they_are_to_try_again():
    workers = engine(f"import sys; sys.exit({CANNOT_GO_ON})")
    workers.start()
    wait_until(lambda: workers.failure, workers.check)
    assert workers.pids() == []
    workers.try_again()
    assert workers.failure is None
    workers.check()
    assert len(workers.pids()) == 1
    workers.stop(5)

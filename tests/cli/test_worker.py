"""A worker on its own ends when it is told to."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import service as services


def test_a_worker_on_a_terminal_says_that_it_works_and_on_what(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    worker = subprocess.Popen(
        [sys.executable, "-m", "pixmill", "worker", "--data-dir", str(tmp_path / "data")],
        env=services.environment(tmp_path / "other"),
        stdin=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    said = b""
    while b"\n" not in said:
        said += os.read(ours, 1000)
    worker.send_signal(signal.SIGINT)
    assert worker.wait(30) == 0
    os.close(ours)
    assert f"The data is in {tmp_path}/data; looking for work; Ctrl-C stops.".encode() in said


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_nobody_supervises_ends_at_a_signal(
    tmp_path: Path, stop: signal.Signals
) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-m", "pixmill", "worker"],
        env=services.environment(tmp_path),
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    spill = tmp_path / ".pixmill" / "spill"
    while not (spill.exists() and list(spill.iterdir())):  # it works from now on
        assert time.monotonic() < deadline, "the worker does not start"
        assert worker.poll() is None
        time.sleep(0.02)
    worker.send_signal(stop)
    _, said = worker.communicate(timeout=30)
    assert worker.returncode == 0
    (welcome,) = said.splitlines()
    assert welcome.startswith("pixmill worker: ")
    assert list(spill.iterdir()) == []

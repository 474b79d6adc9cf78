"""A real ``pixmill serve`` in a process group of its own, and calls to it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

TERMINAL = {"COMPLETED", "FAILED", "CANCELLED"}


@dataclass
class Serving:
    """A service process that runs, and what it has written so far."""

    process: subprocess.Popen[str]
    url: str
    log: Path
    headers: dict[str, str] = field(default_factory=dict)

    def call(self, method: str, path: str, **given: Any) -> httpx.Response:
        """One call, on a connection of its own."""
        headers = self.headers | given.pop("headers", {})
        return httpx.request(
            method, self.url + path, headers=headers, timeout=30, trust_env=False, **given
        )

    def get(self, path: str, **given: Any) -> httpx.Response:
        """A call that looks."""
        return self.call("GET", path, **given)

    def upload(self, csv: Path | bytes, **fields: str) -> httpx.Response:
        """Hand over a CSV."""
        body = csv if isinstance(csv, bytes) else csv.read_bytes()
        files = {"csv": ("products.csv", body, "text/csv")}
        return self.call("POST", "/api/upload", files=files, data=fields)

    def accepted(self, csv: Path | bytes, **fields: str) -> str:
        """The id of a request whose CSV must be accepted."""
        answer = self.upload(csv, **fields)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["requestId"])

    def status(self, request_id: str) -> dict[str, Any]:
        """How a request stands."""
        answer = self.get(f"/api/status/{request_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def finished(self, request_id: str, timeout: float = 90) -> dict[str, Any]:
        """A request once it is terminal."""
        deadline = time.monotonic() + timeout
        while (status := self.status(request_id))["status"] not in TERMINAL:
            assert time.monotonic() < deadline, f"not finished: {status}\n{self.said()}"
            time.sleep(0.05)
        return status

    def said(self) -> str:
        """What it wrote to standard error so far."""
        return self.log.read_text()

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = 60) -> int:
        """Ask it to stop as a process manager does; return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout)

    def kill(self) -> None:
        """Kill it and all of its workers at once, as a power cut would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def environment(data: Path, **settings: object) -> dict[str, str]:
    """The environment of a service whose data is in a folder; it may fetch from loopback."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PIXMILL_")}
    usual = {"data_dir": data, "port": 0, "workers": 1, "allowed_addresses": "127.0.0.0/8"}
    given = usual | settings
    return clean | {f"PIXMILL_{name.upper()}": str(value) for name, value in given.items()}


PROGRAM = ("-m", "pixmill")


def start(
    env: Mapping[str, str], log: Path, *flags: str, program: Sequence[str] = PROGRAM
) -> subprocess.Popen[str]:
    """Start a service; what it says is added to a file."""
    with log.open("a") as said:
        return subprocess.Popen(
            [sys.executable, *program, "serve", *flags],
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            start_new_session=True,
        )


def wait_until_served(process: subprocess.Popen[str], log: Path) -> Serving:
    """The service, once it answers; its standard output begins with its URL."""
    assert process.stdout
    url = process.stdout.readline().strip()
    assert re.fullmatch(r"https?://.+:\d+", url), f"it did not start:\n{log.read_text()}"
    return Serving(process, url, log)


@contextmanager
def serving(
    data: Path, *flags: str, program: Sequence[str] = PROGRAM, **settings: object
) -> Iterator[Serving]:
    """A service that runs until the end of the block, and leaves no process behind."""
    log = data.with_name(f"{data.name}.log")
    process = start(environment(data, **settings), log, *flags, program=program)
    try:
        yield wait_until_served(process, log)
    finally:
        end(process)


def end(process: subprocess.Popen[str]) -> None:
    """Make sure that a service and its workers are gone."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()


def refused(env: Mapping[str, str], *arguments: str) -> tuple[int, str]:
    """Exit code and standard error of a command that ends by itself."""
    done = subprocess.run(
        [sys.executable, "-m", "pixmill", *arguments],
        env=dict(env),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr

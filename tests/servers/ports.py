"""Free ports, and servers that answer on them after a while."""

from __future__ import annotations

import secrets
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

START_SECONDS = 60.0

PORTS = range(10_000, 32_000)
"""Below those that Linux gives to outgoing connections: one of these would otherwise take the port
of a server that is away for a while, and a client that looks for it there could meet itself."""


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    while True:
        port = secrets.choice(PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_until_it_answers(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when somebody listens on a port of loopback; fail if the process ends before."""
    give_up = time.monotonic() + START_SECONDS
    while True:
        assert process.poll() is None, f"{process.args!r} ended by itself: {_end_of(log)}"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < give_up, f"{process.args!r} does not answer: {_end_of(log)}"
            time.sleep(0.02)
        else:
            return


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-3000:]

"""Free ports, and servers that answer on them after a while."""

from __future__ import annotations

import socket
import subprocess
import time

START_SECONDS = 60.0


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_it_answers(port: int, process: subprocess.Popen[bytes]) -> None:
    """Return when somebody listens on a port of loopback; fail if the process ends before."""
    give_up = time.monotonic() + START_SECONDS
    while True:
        assert process.poll() is None, f"{process.args!r} ended by itself; see its log"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < give_up, f"{process.args!r} does not answer"
            time.sleep(0.02)
        else:
            return

"""``pixmill``, whose every message to a broker is sent three times: for a test of doubled ones."""

from __future__ import annotations

import sys

from pixmill.cli import main
from pixmill.engines.celery.messages import Messages

TIMES = 3

_send = Messages._send


def send(self: Messages, task: str, *arguments: str | int) -> None:
    """Send it again and again."""
    for _ in range(TIMES):
        _send(self, task, *arguments)


if __name__ == "__main__":
    Messages._send = send  # type: ignore[method-assign]  # the fault that this program is for
    sys.exit(main())

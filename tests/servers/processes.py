"""Server processes that end with the tests, however they end, and folders that go with them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

PREFIX = "pixmill-tests-"


def start_process(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a server that writes to ``log``, in the log's folder.

    ``environment`` comes on top of the tests' own. It ends with the thread that starts it.
    """
    if setpriv := shutil.which("setpriv"):  # so that it ends with the tests, however they end
        command = [setpriv, "--pdeathsig", "KILL", *command]
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=log.parent,
            env={**os.environ, **(environment or {})},
            start_new_session=True,  # since on Ctrl-C the tests still tidy up with it
        )


@contextmanager
def server_folder(name: str, place: Path | None = None) -> Iterator[Path]:
    """A folder for a server; those of tests that were killed themselves go now."""
    place = place or Path(tempfile.gettempdir())
    _clear_up(place)
    with tempfile.TemporaryDirectory(
        prefix=f"{PREFIX}{os.getpid()}-{name}-", dir=place, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)


def _clear_up(place: Path) -> None:
    for folder in place.glob(f"{PREFIX}*-*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        if not Path("/proc", pid).exists():
            shutil.rmtree(folder, ignore_errors=True)

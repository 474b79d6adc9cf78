"""Process the sample catalogue into ``out/``, with its pictures served from this machine."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CATALOGUE = Path(__file__).parent / "catalogue"
SHEET = CATALOGUE / "products.csv"
ADDRESS = "127.0.0.1"
PORT = 8188  # the one that the sheet names
OUT = "out"
SOME_FAILED = 1


class Quiet(SimpleHTTPRequestHandler):
    """Serves files, keeps connections open, and leaves the terminal to the progress bar."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base names it
        """Say nothing."""


def main() -> int:
    """Run pixmill on the catalogue; return the exit code."""
    with serving(CATALOGUE) as port, sheet_for(port) as sheet:
        command = [sys.executable, "-m", "pixmill", "run", str(sheet), "-o", OUT]
        allowed = {"PIXMILL_ALLOWED_ADDRESSES": f"{ADDRESS}:{port}"}
        code = _wait(subprocess.Popen(command, env=os.environ | allowed))
    if code != SOME_FAILED:
        return code
    print(
        f"The failures are meant to be: the catalogue holds broken images. See {OUT}/report.html."
    )
    return 0


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for pixmill, which gets Ctrl-C from the terminal too and stops in its own time."""
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            return process.wait()


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[int]:
    """Serve a folder on loopback; the port is the usual one, or a free one if that is taken."""
    handler = partial(Quiet, directory=str(folder))
    try:
        server = ThreadingHTTPServer((ADDRESS, PORT), handler)
    except OSError:
        server = ThreadingHTTPServer((ADDRESS, 0), handler)
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


@contextlib.contextmanager
def sheet_for(port: int) -> Iterator[Path]:
    """The catalogue's sheet, or a copy that names another port."""
    if port == PORT:
        yield SHEET
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / SHEET.name
        text = SHEET.read_text(encoding="utf-8")
        copy.write_text(text.replace(f"{ADDRESS}:{PORT}", f"{ADDRESS}:{port}"), encoding="utf-8")
        yield copy


if __name__ == "__main__":
    sys.exit(main())

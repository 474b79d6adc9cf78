"""Process the sample catalogue into ``out/``, with its pictures served from this machine."""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath

CATALOGUE = Path(__file__).parent / "catalogue"
SHEET = CATALOGUE / "products.csv"
ADDRESS = "127.0.0.1"
PORT = 8188  # the one that the sheet names
SPARE_PORTS = 10
SOME_FAILED = 1
REFUSED = 2
INTERRUPTED = 130
# The server has no such file; garbage; a web page under the name of a picture.
BROKEN = {"board-underside.jpg", "bricks-garbage.jpg", "gravel-sign-in.jpg"}


class Shop(ThreadingHTTPServer):
    """Serves a folder on loopback and counts what it is asked for."""

    daemon_threads = True

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__((ADDRESS, port), partial(_Quiet, directory=str(folder)))
        self.asked = 0
        self._lock = threading.Lock()

    def count(self) -> None:
        """Count one request."""
        with self._lock:
            self.asked += 1


class _Quiet(SimpleHTTPRequestHandler):
    """Keeps connections open, and leaves the terminal to the progress bar."""

    protocol_version = "HTTP/1.1"

    def log_request(self, *_: object) -> None:
        """Count instead of printing."""
        if isinstance(self.server, Shop):
            self.server.count()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main(arguments: Sequence[str]) -> int:
    """Run pixmill on the catalogue; return the exit code."""
    out, flags = _taken(arguments)
    if importlib.util.find_spec("pixmill") is None:
        print("pixmill is not installed for this Python; `make run` sees to that.", file=sys.stderr)
        return REFUSED
    errors = out / "errors.csv"
    before = _written_at(errors)
    with serving(CATALOGUE) as shop, sheet_for(shop.server_port, out) as sheet:
        command = [sys.executable, "-m", "pixmill", "run", str(sheet), "-o", str(out), *flags]
        allowed = {"PIXMILL_ALLOWED_ADDRESSES": f"{ADDRESS}:{shop.server_port}"}
        code = wait(subprocess.Popen(command, env=os.environ | allowed))
        print(f"The sample shop was asked for {shop.asked} files.")
    # A Python that crashes ends with 1 as well, so the code alone does not say that all is well.
    if code != SOME_FAILED or _written_at(errors) == before or _failed(errors) != BROKEN:
        return code
    print(f"{len(BROKEN)} images failed, as they should: the catalogue holds broken ones.")
    return 0


def _taken(arguments: Sequence[str]) -> tuple[Path, list[str]]:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="All other flags go to `pixmill run`, such as --quality 70 or --format webp.",
        allow_abbrev=False,
    )
    parser.add_argument("-o", "--out", type=Path, default=Path("out"), help="default: out")
    taken, flags = parser.parse_known_args(arguments)
    return taken.out, flags


def wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for pixmill, which gets Ctrl-C from the terminal too and stops in its own time."""
    # Without this, the shop would close under a pixmill that goes on.
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            code = process.wait()
            return code if code >= 0 else 128 - code


def _written_at(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.exists() else None


def _failed(errors: Path) -> set[str]:
    with errors.open(newline="", encoding="utf-8-sig") as file:
        return {PurePosixPath(row["Input Image Url"]).name for row in csv.DictReader(file)}


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Shop]:
    """Serve a folder until the end of the block."""
    with _open_shop(folder) as shop:
        threading.Thread(target=shop.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield shop
        finally:
            shop.shutdown()


def _open_shop(folder: Path) -> Shop:
    """A shop on the usual port, or on the first free one of the next, or on any."""
    for port in range(PORT, PORT + SPARE_PORTS):
        with contextlib.suppress(OSError):
            return Shop(folder, port)
    return Shop(folder, 0)


@contextlib.contextmanager
def sheet_for(port: int, out: Path) -> Iterator[Path]:
    """The catalogue's sheet, or for a while a copy that names another port.

    The copy has the same place every time: that is how pixmill knows a job again and goes on.
    """
    if port == PORT:
        yield SHEET
        return
    folder = out.absolute().parent / f".{out.absolute().name}-sheet-{port}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        copy = folder / SHEET.name
        text = SHEET.read_text(encoding="utf-8")
        copy.write_text(text.replace(f"{ADDRESS}:{PORT}", f"{ADDRESS}:{port}"), encoding="utf-8")
        yield copy
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)

"""A real web shop on loopback, and runs of the command line against it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import simplejpeg

Answer = tuple[int, bytes]


def photo(seed: int, width: int = 160, height: int = 120) -> bytes:
    """A small JPEG with some structure, different for each seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
    pixels = np.kron(coarse, np.ones((8, 8, 1), dtype=np.uint8))
    noise = rng.integers(0, 24, pixels.shape, dtype=np.uint8)
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels // 2 + noise), quality=92))


@dataclass
class Shop:
    """Serves ``/<number>.jpg`` and whatever ``special`` says; counts what it is asked for.

    ``special`` answers a path itself, given the port of the client; ``delay`` is in seconds.
    ``served`` counts answers that were sent to their end.
    """

    delay: float = 0.0
    special: dict[str, Callable[[int], Answer]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    served: Counter[str] = field(default_factory=Counter)
    busiest: int = 0
    port: int = 0
    _busy: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def url(self, name: str) -> str:
        """The URL of something in the shop."""
        return f"http://127.0.0.1:{self.port}/{name}"

    def answer(self, path: str, client_port: int) -> Answer:
        """What a request for ``path`` gets."""
        with self._lock:
            self.asked[path] += 1
            self._busy += 1
            self.busiest = max(self.busiest, self._busy)
        try:
            time.sleep(self.delay)
            name = path.split("?")[0].strip("/")
            if name in self.special:
                return self.special[name](client_port)
            return 200, PHOTOS[int(name.removesuffix(".jpg")) % len(PHOTOS)]
        finally:
            with self._lock:
                self._busy -= 1


PHOTOS = [photo(seed) for seed in range(12)]


@contextmanager
def open_shop(delay: float = 0.0) -> Iterator[Shop]:
    """A shop that is open until the end of the block."""
    shop = Shop(delay=delay)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, body = shop.answer(self.path, self.client_address[1])
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            try:
                self.wfile.write(body)
                self.wfile.flush()
            except OSError:  # the client died
                return
            with shop._lock:
                shop.served[self.path] += 1

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

        def handle_error(self, *_: object) -> None:
            """Clients of these tests die on purpose."""

    server = Server(("127.0.0.1", 0), Handler)
    shop.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield shop
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def write_csv(path: Path, urls: list[str], per_product: int = 1) -> Path:
    """A CSV of this service's own format that names these URLs in order."""
    lines = ["Serial Number,Product Name,Input Image Urls"]
    for start in range(0, len(urls), per_product):
        cell = ",".join(urls[start : start + per_product])
        lines.append(f'{start + 1},Product {start + 1},"{cell}"')
    path.write_text("\n".join(lines) + "\n")
    return path


def environment(shop: Shop, **settings: object) -> dict[str, str]:
    """The environment of a run that may fetch from the shop."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PIXMILL_")}
    given = {f"PIXMILL_{name.upper()}": str(value) for name, value in settings.items()}
    return clean | {"PIXMILL_ALLOWED_ADDRESSES": f"127.0.0.1:{shop.port}"} | given


def start_run(csv: Path, out: Path, env: Mapping[str, str], *flags: str) -> subprocess.Popen[str]:
    """Start ``pixmill run`` in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "pixmill", "run", str(csv), "-o", str(out), *flags],
        env=dict(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish_run(process: subprocess.Popen[str], timeout: float = 120) -> tuple[int, str, str]:
    """Wait for a run; return its exit code and what it wrote."""
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return process.returncode, out, err


def run(csv: Path, out: Path, env: Mapping[str, str], *flags: str) -> tuple[int, str, str]:
    """``pixmill run`` from start to end."""
    return finish_run(start_run(csv, out, env, *flags))


def children_of(pid: int, *, named: str) -> list[int]:
    """The process ids of a process's children whose command line has this word."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            try:
                line = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:  # it has ended meanwhile
                continue
            if named in line:
                found.append(int(child))
    return found


def check_database(out: Path) -> sqlite3.Connection:
    """The run's database, after SQLite has found nothing wrong with it."""
    db = sqlite3.connect(out / "pixmill.db")
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return db


def outcomes(out: Path) -> dict[str, int]:
    """How many images of a run have which status or error code."""
    db = check_database(out)
    rows = db.execute("SELECT coalesce(code, status), count(*) FROM images GROUP BY 1").fetchall()
    db.close()
    return dict(rows)


def pictures(out: Path) -> list[Path]:
    """The stored images of a run, each of which must be a whole JPEG."""
    found = sorted((out / "images").rglob("*.jpg"))
    for path in found:
        simplejpeg.decode_jpeg(path.read_bytes())
    return found


def processes_of(out: Path) -> list[int]:
    """Processes that still work in a folder, by their environment."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if f"PIXMILL_DATA_DIR={out}".encode() in (process / "environ").read_bytes():
                    found.append(int(process.name))
            except OSError:
                continue
    return found

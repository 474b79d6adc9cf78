"""How many stored images a second the service serves, as a share of what uvicorn can at all.

The same clients ask two servers in turn, in the same minutes: the service, which reads the images
from its folder, and a bare ASGI application that sends as many bytes from memory. Each server is
one process, so one core at most. Rates are by the server's own CPU time as well as by the clock:
on a busy machine only the former says something about the server.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pixmill import wiring
from pixmill.core.shards import image_key
from pixmill.settings import Settings
from pixmill.web.app import create_app
from pixmill.web.service import Service

REQUEST_ID = "req_abcdefghijklmnopqrstuvwxyz"
FILES = 500
CLIENTS = 2
CONNECTIONS = 16
ROUNDS = 3
FLOOR = 2000
"""Files a second and core that the service must serve."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Files a second: by the clock, and by the CPU time of the server."""

    wall: float
    core: float


def main() -> None:
    """Measure all sizes; exit with 1 if a rate is below the floor."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a measurement")
    parser.add_argument("--serve", choices=["pixmill", "bare"], help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve, given.size, given.folder)
        return
    print("| bytes | files/s | a core | bare, files/s | a core | ratio a core |")
    print("| --- | --- | --- | --- | --- | --- |")
    slow = False
    for size in (20_000, 70_000):
        ours, bare = measured(size, given.seconds)
        slow |= ours.core < FLOOR
        print(
            f"| {size:,} | {ours.wall:,.0f} | {ours.core:,.0f} | {bare.wall:,.0f}"
            f" | {bare.core:,.0f} | {ours.core / bare.core:.2f} |",
            flush=True,
        )
    sys.exit(slow)


def measured(size: int, seconds: float) -> tuple[Rate, Rate]:
    """The medians of the service and of the bare server, which take turns."""
    rates: dict[str, list[Rate]] = {"pixmill": [], "bare": []}
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), size)
        for _ in range(ROUNDS):
            for name, found in rates.items():
                with serving(name, size, Path(folder)) as (process, port):
                    ask(port, size, seconds / 4)  # until everything is warm
                    found.append(rate(process.pid, port, size, seconds))
    ours, bare = (_median(found) for found in rates.values())
    return ours, bare


def fill(folder: Path, size: int) -> None:
    """Store the images."""
    blobs = wiring.open_blobs(Settings(data_dir=folder))
    blobs.put_all({_key(number): os.urandom(size) for number in range(FILES)})


def rate(pid: int, port: int, size: int, seconds: float) -> Rate:
    """Let all clients ask for some time."""
    before, started = cpu_seconds(pid), time.monotonic()
    served = ask(port, size, seconds)
    wall = time.monotonic() - started
    return Rate(served / wall, served / (cpu_seconds(pid) - before))


def ask(port: int, size: int, seconds: float) -> int:
    """Ask from several processes; return how many files came."""
    with multiprocessing.get_context("spawn").Pool(CLIENTS) as pool:
        return sum(pool.starmap(client, [(port, size, seconds)] * CLIENTS))


def client(port: int, size: int, seconds: float) -> int:
    """Keep some connections busy, one question at a time each; return how many files came."""
    questions = [
        f"GET /api/files/{_key(number)} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
        for number in range(FILES)
    ]
    buffer = bytearray(1 << 20)
    served = 0
    missing: dict[socket.socket, int] = {}
    with selectors.DefaultSelector() as selector:
        for _ in range(CONNECTIONS):
            connection = socket.create_connection(("127.0.0.1", port))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(questions[0])
            missing[connection] = 0
            selector.register(connection, selectors.EVENT_READ)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for key, _ in selector.select(1):
                assert isinstance(key.fileobj, socket.socket)
                connection = key.fileobj
                count = connection.recv_into(buffer)
                if not missing[connection]:  # the head comes with the first piece
                    end = buffer.index(b"\r\n\r\n", 0, count) + 4
                    assert buffer.startswith(b"HTTP/1.1 200"), bytes(buffer[:end])
                    missing[connection] = size + end
                missing[connection] -= count
                if not missing[connection]:
                    served += 1
                    connection.sendall(questions[served % FILES])
        for connection in missing:
            connection.close()
    return served


@contextmanager
def serving(name: str, size: int, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """One of the servers, in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [sys.executable, __file__, "--serve", name, "--size", str(size)]
    environment = os.environ | {"PORT": str(port)}
    process = subprocess.Popen([*command, "--folder", str(folder)], env=environment)
    try:
        wait_for(port)
        yield process, port
    finally:
        process.terminate()
        process.wait()


def wait_for(port: int) -> None:
    """Wait until somebody listens."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError("the server did not start")


def serve(name: str, size: int, folder: Path) -> None:
    """Be one of the servers."""
    import uvicorn

    app = bare(os.urandom(size)) if name == "bare" else create_app(_service(folder))
    uvicorn.run(
        app,
        port=int(os.environ["PORT"]),
        loop="uvloop",
        http="httptools",
        log_level="error",
        access_log=False,
        lifespan="off",
    )


def bare(body: bytes):  # type: ignore[no-untyped-def]  # as little as an application can be
    """An application that knows one answer."""
    headers = [(b"content-type", b"image/jpeg"), (b"content-length", b"%d" % len(body))]

    async def app(scope, receive, send):  # type: ignore[no-untyped-def]  # noqa: ARG001  # ASGI
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def cpu_seconds(pid: int) -> float:
    """What a process has used of the CPU so far, to the nanosecond; ticks would be guesses."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def _service(folder: Path) -> Service:
    settings = Settings(data_dir=folder)
    return Service(
        settings,
        wiring.open_store(settings),
        wiring.open_access(settings),
        wiring.open_outbox(settings),
        wiring.open_blobs(settings),
        wiring.clock,
    )


def _key(number: int) -> str:
    return image_key(REQUEST_ID, number + 1, "jpeg")


def _median(found: list[Rate]) -> Rate:
    return Rate(
        statistics.median(rate.wall for rate in found),
        statistics.median(rate.core for rate in found),
    )


if __name__ == "__main__":
    main()

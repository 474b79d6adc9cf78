"""A loopback web server that costs next to nothing, so that the client is what is measured."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")
PORT = 8190
END = b"\r\n\r\n"


class Origin(asyncio.Protocol):
    """Answers each request with a prepared answer, after a delay if one is set.

    Only what libcurl sends is understood: a request line, headers, no body.
    """

    answers: ClassVar[dict[bytes, bytes]] = {}
    delay: ClassVar[float] = 0.0
    missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0" + END

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        *requests, self._rest = (self._rest + data).split(END)
        for request in requests:
            name = request.split(b" ", 2)[1].partition(b"?")[0].rpartition(b"/")[2]
            answer = self.answers.get(name, self.missing)
            if self.delay:
                asyncio.get_running_loop().call_later(self.delay, self._transport.write, answer)
            else:
                self._transport.write(answer)


async def serve(folder: Path, delay: float) -> None:
    """Serve a folder's files on every address until the process is told to end."""
    for path in folder.iterdir():
        body = path.read_bytes()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}"
        Origin.answers[path.name.encode()] = head.encode() + END + body
    Origin.delay = delay
    loop = asyncio.get_running_loop()
    for address in ADDRESSES:
        await loop.create_server(Origin, address, PORT, backlog=512)
    print("ready", flush=True)
    await asyncio.Event().wait()


@contextlib.contextmanager
def running(folder: Path, delay: float = 0.0) -> Iterator[None]:
    """Run the server in a process of its own."""
    command = [sys.executable, __file__, str(folder), "--delay", str(delay)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    if process.stdout.readline().strip() != "ready":
        sys.exit(f"The origin cannot listen on port {PORT}.")
    try:
        yield
    finally:
        process.kill()
        process.communicate()
        time.sleep(0.1)


def url(number: int, pictures: list[Path]) -> str:
    """The URL of the nth image: another address each time, and never the same URL twice."""
    address = ADDRESSES[number % len(ADDRESSES)]
    return f"http://{address}:{PORT}/{pictures[number % len(pictures)].name}?n={number}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    given = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(given.folder, given.delay))

"""How quickly the status of requests is answered while 300,000 image URLs are taken in.

A client asks for the status of a small finished request over a kept-alive connection, as fast as
it gets answers: first while nothing else happens, then while a CSV of 100,000 rows is uploaded,
validated and ingested. The 95th percentile must stay below 50 ms. The growth of the server's
memory is told too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROWS = 100_000
FLOOR_MS = 50.0
HEADER = "Serial Number,Product Name,Input Image Urls\n"


def main() -> None:
    """Measure; exit with 1 if the percentile is above its limit."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with serving(folder) as (url, pid):
            small = upload(url, f"{HEADER}1,A,http://127.0.0.1:9/a.jpg\n".encode())
            while state(url, small) == "PENDING":
                time.sleep(0.1)
            before = memory(pid, "VmRSS")
            idle = asked(url, small, threading.Timer(5, lambda: None))
            taken = threading.Thread(target=take_in, args=(url, catalogue(folder)))
            busy = asked(url, small, taken)
            grown = memory(pid, "VmHWM") - before
    print("| status calls | answered | median | 95th percentile | worst |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for what, times in (("idle", idle), ("while 300,000 URLs are taken in", busy)):
        print(
            f"| {what} | {len(times):,} | {percentile(times, 50):.1f} ms"
            f" | {percentile(times, 95):.1f} ms | {max(times):.1f} ms |"
        )
    print(f"\nThe service grew by {grown / 1e6:.0f} MB.")
    sys.exit(percentile(busy, 95) > FLOOR_MS)


def asked(url: str, request_id: str, during: threading.Thread) -> list[float]:
    """Milliseconds of each status call while a thread runs."""
    times = []
    during.start()
    with httpx.Client(trust_env=False, timeout=60) as client:
        while during.is_alive():
            started = time.perf_counter()
            client.get(f"{url}/api/status/{request_id}").raise_for_status()
            times.append((time.perf_counter() - started) * 1000)
            time.sleep(0.01)
    return times


def take_in(url: str, csv: Path) -> None:
    """Upload a CSV, and wait until all of its records are there."""
    request_id = upload(url, csv.read_bytes())
    while state(url, request_id) == "PENDING":
        time.sleep(0.2)
    httpx.post(f"{url}/api/requests/{request_id}/cancel", trust_env=False, timeout=60)


def upload(url: str, csv: bytes) -> str:
    """Hand over a CSV; return the request's id."""
    files = {"csv": ("catalogue.csv", csv, "text/csv")}
    answer = httpx.post(f"{url}/api/upload", files=files, trust_env=False, timeout=300)
    return str(answer.raise_for_status().json()["requestId"])


def state(url: str, request_id: str) -> str:
    """The status of a request."""
    answer = httpx.get(f"{url}/api/status/{request_id}?limit=1", trust_env=False, timeout=60)
    return str(answer.raise_for_status().json()["status"])


def catalogue(folder: Path) -> Path:
    """A CSV of 100,000 products with three images each, on a port where nothing listens."""
    path = folder / "catalogue.csv"
    with path.open("w") as csv:
        csv.write(HEADER)
        for row in range(ROWS):
            urls = ",".join(f"http://127.0.0.1:9/{row}-{n}.jpg" for n in range(3))
            csv.write(f'{row},Product {row},"{urls}"\n')
    return path


def percentile(times: list[float], share: int) -> float:
    """The time that so many per cent of the calls did not exceed."""
    return sorted(times)[min(len(times) - 1, len(times) * share // 100)]


def memory(pid: int, field: str) -> int:
    """Bytes of memory of a process by the name that the kernel has for them."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, int]]:
    """A service with its workers, its data in a folder: its URL and its process id."""
    environment = os.environ | {
        "PIXMILL_DATA_DIR": str(folder / "data"),
        "PIXMILL_PORT": "0",
        "PIXMILL_ALLOWED_ADDRESSES": "127.0.0.0/8",
        "PIXMILL_RATE_LIMIT_PER_ADDRESS": "0",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "pixmill", "serve"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout
        yield process.stdout.readline().strip(), process.pid
        process.terminate()


if __name__ == "__main__":
    main()

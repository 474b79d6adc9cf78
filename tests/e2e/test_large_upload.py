"""A large catalogue is taken in without the service growing, and others are answered meanwhile."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tests.service import Serving, serving

ROWS = 100_000
URLS_A_ROW = 3
MOST_GROWTH = 100_000_000


def write_catalogue(path: Path) -> Path:
    """A CSV of 100,000 products and 300,000 image URLs, on a port where nothing listens."""
    with path.open("w") as csv:
        csv.write("Serial Number,Product Name,Input Image Urls\n")
        for row in range(ROWS):
            urls = ",".join(f"http://127.0.0.1:9/{row}-{n}.jpg" for n in range(URLS_A_ROW))
            csv.write(f'{row},Product {row},"{urls}"\n')
    return path


def memory_of(pid: int, field: str) -> int:
    """Bytes of memory of a process by the name that the kernel has for them."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def watch(service: Serving, request_id: str, over: threading.Event, seen: list[int]) -> None:
    """Ask for the status of a request until it is over."""
    while not over.is_set():
        seen.append(service.get(f"/api/status/{request_id}").status_code)
        time.sleep(0.05)


@pytest.mark.slow
def test_300_000_urls_are_taken_in_with_flat_memory(tmp_path: Path) -> None:
    csv = write_catalogue(tmp_path / "large.csv")
    with serving(tmp_path / "data") as service:
        small = service.accepted(
            b"Serial Number,Product Name,Input Image Urls\n1,A,http://127.0.0.1:9/a.jpg\n"
        )
        service.finished(small)
        before = memory_of(service.process.pid, "VmRSS")
        over, seen = threading.Event(), list[int]()
        watcher = threading.Thread(target=watch, args=(service, small, over, seen))
        watcher.start()
        try:
            large = service.accepted(csv)
            status = service.status(large)
            while status["status"] == "PENDING":
                time.sleep(0.1)
                status = service.status(large)
        finally:
            over.set()
            watcher.join()
        grown = memory_of(service.process.pid, "VmHWM") - before
        assert status["totalImages"] == ROWS * URLS_A_ROW
        assert service.call("POST", f"/api/requests/{large}/cancel").status_code == 200
    assert set(seen) == {200}
    assert grown < MOST_GROWTH

"""What a fleet costs beside its pixels, and how it grows: MongoDB, Redis, Celery workers.

Requests of 1,000, 10,000 and 100,000 images, so small that their pixels cost next to nothing, are
worked through by one service and two workers. For each size: CPU and commands of MongoDB and Redis
for each image, which must not grow with the size of the request; the memory of service and workers,
which must stay flat; and how fast the status is answered meanwhile (95th percentile below 50 ms).

Then one worker against two, on a workload that waits for a slow shop and needs little CPU: two
must be at least 1.8 times as fast.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from pymongo import MongoClient
from redis import Redis
from tests.fleet import Fleet, fleet
from tests.servers.mongo import MongoServer, mongo_server
from tests.servers.redis import RedisServer, redis_server
from tests.service import Serving
from tests.shop import photo

from origin import ADDRESSES, PORT, running
from plot import growth
from upload import memory, percentile

OUT = Path(__file__).parent / "out"
SIZES = (1_000, 10_000, 100_000)
STATUS_MS = 50.0
SPEED_UP = 1.8
GROWTH = 1.25
"""What an image of the largest request may cost, as a multiple of one of the middle one.

The smallest does not count: looking for work while idle is spread over few images there.
"""
GROWN_BYTES = 100_000_000
"""What each process may grow by, once a tenth of the images are done."""

NOTE = (
    "CPU, commands and what MongoDB stores are those for each image; grown is the memory of the"
    " process that grew most after a tenth of the images; status is the 95th percentile of the"
    " calls meanwhile."
)

WARMING = 300
"""Images of a request before the one that is measured."""

DELAY = 0.4
IN_HAND = 40
"""Of the comparison of one worker with two: each makes 100 images a second at the most."""


@dataclass
class Measured:
    """A request of so many images: what they cost, and what was seen on the way."""

    images: int
    seconds: float = 0.0
    cpu_ms: dict[str, float] = field(default_factory=dict)
    commands: dict[str, float] = field(default_factory=dict)
    grown: int = 0
    stored: float = 0.0
    status_ms: list[float] = field(default_factory=list)


def main() -> None:
    """Measure, write a table and a plot, and exit with 1 if something is above its limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="fewer or more images")
    scale = parser.parse_args().scale
    OUT.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=OUT) as name,
        mongo_server() as mongo,
        redis_server() as redis,
    ):
        mongo.start()
        redis.start()
        folder = Path(name)
        shop = folder / "shop"
        shop.mkdir()
        for number in range(12):
            (shop / f"{number}.jpg").write_bytes(photo(number, 32, 32))
        with running(shop):
            rows = [measured(folder / str(size), int(size * scale), mongo, redis) for size in SIZES]
        with running(shop, DELAY):
            one, two = (rate(folder / f"w{n}", n, mongo, redis) for n in (1, 2))
    table = f"{_table(rows)}\n{_speed_up(one, two)}\n"
    (OUT / "fleet.md").write_text(table)
    growth([row.images for row in rows], _costs(rows), OUT / "fleet.png")
    print(f"\n{table}\nWritten to {OUT / 'fleet.md'} and {OUT / 'fleet.png'}.")
    sys.exit(not _fine(rows) or two / one < SPEED_UP)


def measured(folder: Path, images: int, mongo: MongoServer, redis: RedisServer) -> Measured:
    """Work through a request of so many images."""
    print(f"{images:,} images …", flush=True)
    made = Measured(images)
    with a_fleet(folder, 2, mongo, redis) as (service, workers):
        warm_up(service, folder)
        before = _spent(mongo, redis)
        started = time.monotonic()
        request_id = service.accepted(_csv(folder, images))
        _watch(made, service, workers, request_id)
        made.seconds = time.monotonic() - started
        spent = {name: after - before[name] for name, after in _spent(mongo, redis).items()}
        made.stored = _stored(mongo, folder) / (images + WARMING)
    for name in ("MongoDB", "Redis"):
        made.cpu_ms[name] = spent[f"{name} seconds"] * 1000 / images
        made.commands[name] = spent[f"{name} commands"] / images
    print(f"  {images / made.seconds:,.0f} images/s", flush=True)
    return made


def rate(folder: Path, workers: int, mongo: MongoServer, redis: RedisServer) -> float:
    """Images a second of so many workers, from a slow shop."""
    print(f"a slow shop, workers: {workers} …", flush=True)
    images = 3000 * workers
    with a_fleet(folder, workers, mongo, redis, threads=IN_HAND) as (service, _):
        warm_up(service, folder)
        started = time.monotonic()
        request_id = service.accepted(_csv(folder, images))
        service.finished(request_id, timeout=600)
        return images / (time.monotonic() - started)


@contextmanager
def a_fleet(
    folder: Path, workers: int, mongo: MongoServer, redis: RedisServer, **settings: object
) -> Iterator[tuple[Serving, Fleet]]:
    """A service and workers on a database and a queue of their own."""
    folder.mkdir()
    usual = {
        "store": mongo.url(_database(folder)),
        "engine": redis.empty_database(),
        "rate_limit_per_address": 0,
        "allowed_addresses": f"127.0.0.0/8:{PORT}",
    }
    with fleet(folder / "data", workers, **(usual | settings)) as made:
        yield made


def warm_up(service: Serving, folder: Path) -> None:
    """Let all workers have worked, so that no start is measured."""
    service.finished(service.accepted(_csv(folder, WARMING)))


def _csv(folder: Path, images: int) -> Path:
    path = folder / f"{images}.csv"
    with path.open("w") as csv:
        csv.write("Serial Number,Product Name,Input Image Urls\n")
        for number in range(images):
            address = ADDRESSES[number % len(ADDRESSES)]
            csv.write(f"{number},P,http://{address}:{PORT}/{number % 12}.jpg?{images}-{number}\n")
    return path


def _watch(made: Measured, service: Serving, workers: Fleet, request_id: str) -> None:
    """Ask for the status until the end; look at the memory once a tenth is done, and at the end."""
    pids = [service.process.pid, *(worker.pid for worker in workers.workers)]
    early: list[int] = []
    with httpx.Client(trust_env=False, timeout=60) as client:
        while True:
            started = time.perf_counter()
            answer = client.get(f"{service.url}/api/status/{request_id}?limit=10")
            made.status_ms.append((time.perf_counter() - started) * 1000)
            status = answer.raise_for_status().json()
            if status["processedImages"] > made.images / 10:
                early = early or [memory(pid, "VmRSS") for pid in pids]
            if status["status"] not in {"PENDING", "PROCESSING"}:
                break
            time.sleep(0.02)
    if status["processedImages"] != made.images:
        sys.exit(f"Only {status['processedImages']} of {made.images} images were done.")
    late = [memory(pid, "VmRSS") for pid in pids]
    made.grown = max(after - before for before, after in zip(early, late, strict=True))


def _spent(mongo: MongoServer, redis: RedisServer) -> dict[str, float]:
    """CPU seconds and commands of the servers so far."""
    with closing(MongoClient[dict[str, int]](mongo.url())) as client:
        done = client.admin.command("serverStatus")["opcounters"]
    with closing(Redis.from_url(redis.url())) as client:
        handled = client.info("stats")["total_commands_processed"]
    return {
        "MongoDB seconds": _cpu(mongo.pid),
        "MongoDB commands": sum(done.values()),
        "Redis seconds": _cpu(redis.pid),
        "Redis commands": handled,
    }


def _stored(mongo: MongoServer, folder: Path) -> int:
    """Bytes of a database: documents before compression, and indexes."""
    with closing(MongoClient[dict[str, int]](mongo.url())) as client:
        found = client[_database(folder)].command("dbStats")
    return int(found["dataSize"] + found["indexSize"])


def _database(folder: Path) -> str:
    return f"bench_{folder.name}"


def _cpu(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _costs(rows: list[Measured]) -> dict[str, list[float]]:
    """Milliseconds of CPU an image by server, for the plot."""
    return {name: [row.cpu_ms[name] for row in rows] for name in ("MongoDB", "Redis")}


def _fine(rows: list[Measured]) -> bool:
    """Whether nothing grows with the request, and the status is answered in time."""
    _, middle, large = rows
    return (
        all(large.cpu_ms[name] <= middle.cpu_ms[name] * GROWTH for name in large.cpu_ms)
        and all(row.grown <= GROWN_BYTES for row in rows)
        and all(percentile(row.status_ms, 95) <= STATUS_MS for row in rows)
    )


def _table(rows: list[Measured]) -> str:
    lines = [
        "| images | images/s | MongoDB: CPU, commands | Redis: same | stored | grown | status |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        servers = " | ".join(
            f"{row.cpu_ms[name]:.3f} ms, {row.commands[name]:.3f}" for name in row.cpu_ms
        )
        lines.append(
            f"| {row.images:,} | {row.images / row.seconds:,.0f} | {servers}"
            f" | {row.stored:,.0f} B | {row.grown / 1e6:.0f} MB"
            f" | {percentile(row.status_ms, 95):.1f} ms |"
        )
    return "\n".join([*lines, "", NOTE, ""])


def _speed_up(one: float, two: float) -> str:
    return (
        f"From a shop that answers after {DELAY * 1000:.0f} ms, {IN_HAND} images in hand:"
        f" one worker {one:,.0f} images/s, two {two:,.0f}, which is {two / one:.2f} times as many"
        f" (at least {SPEED_UP})."
    )


if __name__ == "__main__":
    main()

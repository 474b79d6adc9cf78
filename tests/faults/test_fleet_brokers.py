"""A broker that is killed, hangs, or repeats itself costs time, and nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import redis as clients

from pixmill import wiring
from pixmill.core.leases import MOST_REQUESTS, MOST_TOLD, Work
from pixmill.core.shards import SMALLEST_SHARD
from pixmill.engines.celery.app import QUEUE
from pixmill.settings import load_settings
from pixmill.steps.ingest import ingest_csv
from tests.faults.yard import Yard, yard
from tests.fleet import wait_until
from tests.servers.rabbitmq import RabbitServer, rabbit_server
from tests.servers.redis import RedisServer, redis_server

pytestmark = pytest.mark.slow

Broker = RedisServer | RabbitServer

IN_ALL_SECONDS = 120.0


def ingest_all(made: Yard) -> None:
    """Read all CSVs in this process, as a worker would that dies then."""
    data = made.fleet.env["PIXMILL_DATA_DIR"]
    settings = load_settings({"store": made.store, "data_dir": data}, {})
    blobs = wiring.open_blobs(settings)
    with closing(wiring.open_store(settings)) as store:
        while (lease := store.claim("w", now=time.time(), lease_seconds=600)) and (
            lease.work is Work.INGEST
        ):
            ingest_csv(store, blobs, lease, time.time)
        assert lease
        store.release(lease)  # the first shard, now that there is no ingest left


def test_a_full_queue_that_dies_with_redis_is_told_again(mongo_url: str, tmp_path: Path) -> None:
    """As full as it gets: 16 pieces of each of 32 requests."""
    images = SMALLEST_SHARD * MOST_TOLD
    with redis_server() as server:
        server.start()
        with (
            yard(tmp_path / "data", mongo_url, server.url(), workers=0) as made,
            clients.Redis.from_url(server.url()) as client,
        ):
            requests = {made.submit(images, f"{number}"): images for number in range(MOST_REQUESTS)}
            ingest_all(made)
            wait_until(lambda: client.llen(QUEUE) >= MOST_REQUESTS * MOST_TOLD)
            server.kill()
            server.start()
            assert client.llen(QUEUE) == 0
            started = time.monotonic()
            made.fleet.add(2)
            made.check(requests, timeout=IN_ALL_SECONDS)
            assert time.monotonic() - started < IN_ALL_SECONDS


class Uploads(threading.Thread):
    """Hands over one small CSV after the other until it is told to stop."""

    images = 4  # in each

    def __init__(self, made: Yard) -> None:
        super().__init__()
        self.accepted: dict[str, int] = {}
        self.refused: list[str] = []
        self.longest = 0.0
        self.over = threading.Event()
        self._made = made

    def run(self) -> None:
        """Upload a few times a second."""
        while not self.over.wait(0.4):
            csv = self._made.csv(self.images, f"{len(self.accepted)}")
            started = time.monotonic()
            answer = self._made.service.upload(csv, webhookUrl=self._made.receiver.url())
            self.longest = max(self.longest, time.monotonic() - started)
            if answer.status_code == 202:
                self.accepted[answer.json()["requestId"]] = self.images
            else:
                self.refused.append(answer.text)


@contextmanager
def uploading(made: Yard) -> Iterator[Uploads]:
    """Uploads from before the trouble until after it."""
    uploads = Uploads(made)
    uploads.start()
    try:
        yield uploads
    finally:
        uploads.over.set()
        uploads.join()


def told_of_by_ready(made: Yard) -> bool:
    """Whether the service says that its broker is away, and that it lives."""
    assert made.service.get("/health").status_code == 200
    answer = made.service.get("/ready")
    return answer.status_code == 503 and answer.json()["checks"]["engine"] != "ok"


def killed(server: Broker, seconds: float, meanwhile: Callable[[], None]) -> None:
    """Let a broker be dead for some seconds."""
    server.kill()
    _pass(seconds, meanwhile)
    server.start()


def frozen(server: Broker, seconds: float, meanwhile: Callable[[], None]) -> None:
    """Let a broker take calls and answer none for some seconds."""
    server.freeze()
    try:
        _pass(seconds, meanwhile)
    finally:
        server.thaw()


def _pass(seconds: float, meanwhile: Callable[[], None]) -> None:
    ends = time.monotonic() + seconds
    meanwhile()
    time.sleep(max(0.0, ends - time.monotonic()))


AWAY = {
    "redis killed for 30 s": (redis_server, killed, 30.0),
    "redis frozen for 20 s": (redis_server, frozen, 20.0),
    "rabbitmq killed for 10 s": (rabbit_server, killed, 10.0),
    # Celery lets go of a hanging connection in three steps, each of which waits for 10 seconds.
    "rabbitmq frozen for 40 s": (rabbit_server, frozen, 40.0),
}


@pytest.mark.parametrize("name", AWAY)
def test_uploads_go_on_while_the_broker_is_away_and_all_that_is_accepted_completes(
    mongo_url: str, tmp_path: Path, name: str
) -> None:
    make, away, seconds = AWAY[name]
    with make() as server:
        server.start()
        with yard(tmp_path / "data", mongo_url, server.url(), workers=1) as made:
            with uploading(made) as uploads:
                wait_until(lambda: uploads.accepted)
                made.service.finished(next(iter(uploads.accepted)))  # it works before
                before = len(uploads.accepted)
                away(server, seconds, lambda: wait_until(lambda: told_of_by_ready(made), 40))
                during = len(uploads.accepted) - before
                wait_until(lambda: made.service.get("/ready").status_code == 200, 60, made.report)
            assert uploads.refused == []
            assert during >= seconds / 2, "uploads waited for the broker"
            assert uploads.longest < 5
            made.check(uploads.accepted, timeout=IN_ALL_SECONDS)

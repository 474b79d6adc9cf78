"""Workers of a fleet that are told to stop, hang for a while, or cannot work at all."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests import service as services
from tests.faults.yard import Yard, yard
from tests.fleet import Fleet, wait_until
from tests.servers.mongo import mongo_server
from tests.servers.redis import redis_server

pytestmark = pytest.mark.slow

STOPS = 10
IMAGES = 1200

Worker = subprocess.Popen[bytes]


def test_10_workers_that_are_told_to_stop_under_load_hand_over_at_once(
    mongo_url: str, redis_url: str, tmp_path: Path
) -> None:
    """With leases so long that none of them brings work back during the test."""
    with yard(
        tmp_path / "data",
        *(mongo_url, redis_url),
        workers=2,
        delay=0.05,
        threads=4,
        lease_seconds=600,
    ) as made:
        request_id = made.submit(IMAGES)
        for stop in range(STOPS):
            made.wait_for(request_id, (stop + 1) * IMAGES // (STOPS + 2))
            leaving = made.fleet.workers.pop(0)
            made.fleet.add()
            leaving.terminate()
            assert leaving.wait(40) == 0, made.fleet.said()
        assert made.processed(request_id) < IMAGES, "the last one was stopped too late"
        made.check({request_id: IMAGES}, timeout=60)
        made.idle()
    assert set(made.shop.asked.values()) == {1}, "what was in hand was not brought to its end"


def holds_work(made: Yard, worker: Worker) -> bool:
    """Whether some lease is this worker's."""
    return any(str(worker.pid) in name for name in made.holders())


def test_a_worker_that_hung_for_longer_than_its_lease_is_refused_and_goes_on_working(
    mongo_url: str, redis_url: str, tmp_path: Path
) -> None:
    images = 200
    with yard(
        tmp_path / "data", mongo_url, redis_url, workers=1, delay=0.3, threads=8, lease_seconds=2
    ) as made:
        request_id = made.submit(images)
        made.wait_for(request_id, 10)
        (hung,) = made.fleet.workers
        hung.send_signal(signal.SIGSTOP)  # with images in hand
        made.shop.delay = 0.01
        (other,) = made.fleet.add()
        made.check({request_id: images})
        assert not holds_work(made, hung)
        hung.send_signal(signal.SIGCONT)
        time.sleep(3)  # what it had in hand ends, and is offered to the store
        fetched_twice = sum(count == 2 for count in made.shop.asked.values())
        assert fetched_twice >= 1, "it had nothing in hand when it was stopped"
        made.fleet.kill(other)
        again = made.submit(20, "again")
        made.check({request_id: images, again: 20})
        assert hung.poll() is None


def started_alone(folder: Path, **settings: object) -> tuple[Fleet, Worker]:
    """A worker without a service."""
    env = services.environment(folder / "data", **settings)
    made = Fleet(env, folder / "workers.log")
    return made, made.add()[0]


def test_a_worker_that_cannot_store_anything_ends_and_says_why(
    mongo_url: str, redis_url: str, tmp_path: Path
) -> None:
    (tmp_path / "data").write_text("in the way")
    made, worker = started_alone(tmp_path, store=mongo_url, engine=redis_url)
    try:
        assert worker.wait(30) == 74
    finally:
        made.end()
    assert "stopping: " in made.said()
    assert "Traceback" not in made.said()


def test_a_worker_whose_folder_of_images_cannot_be_written_ends_and_fails_none(
    mongo_url: str, redis_url: str, tmp_path: Path
) -> None:
    with yard(tmp_path / "data", mongo_url, redis_url, workers=1) as made:
        (tmp_path / "data" / "images").write_text("in the way")
        request_id = made.submit(40)
        assert made.fleet.workers[0].wait(60) == 74
        assert "Cannot store images/" in made.fleet.said()
        assert made.service.status(request_id)["failedImages"] == 0
        (tmp_path / "data" / "images").unlink()
        made.fleet.add()
        made.check({request_id: 40})


def test_a_worker_that_is_there_before_its_broker_waits_for_it(
    mongo_url: str, tmp_path: Path
) -> None:
    with redis_server() as server, yard(tmp_path / "data", mongo_url, server.url(), 1) as made:
        request_id = made.submit(8)
        wait_until(lambda: "Cannot connect to redis" in made.fleet.said())
        time.sleep(1)
        assert made.fleet.workers[0].poll() is None
        server.start()
        made.check({request_id: 8})
    assert not re.search(r"^  File ", made.fleet.said(), re.MULTILINE), "a trace helps nobody"


def test_a_worker_that_is_there_before_mongodb_waits_for_it(redis_url: str, tmp_path: Path) -> None:
    with mongo_server() as server:
        made, worker = started_alone(tmp_path, store=server.url(), engine=redis_url)
        try:
            wait_until(lambda: "MongoDB cannot be used" in made.said())
            assert worker.poll() is None
            server.start()
            with services.serving(
                tmp_path / "data", store=server.url(), engine=redis_url
            ) as service:
                csv = b"Serial Number,Product Name,Input Image Urls\n1,A,http://127.0.0.1:9/a.jpg\n"
                assert service.finished(service.accepted(csv))["failedImages"] == 1
        finally:
            made.end()
        assert "Traceback" not in made.said()

"""A service that is told to stop ends soon and loses nothing; one that cannot work says so."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests import service as services
from tests import shop as shops
from tests.service import Serving
from tests.shop import Shop

pytestmark = pytest.mark.slow


def wait_until(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def urls(shop: Shop, count: int) -> list[str]:
    return [shop.url(f"{number}.jpg?n={number}") for number in range(count)]


def seconds_to_stop(service: Serving, number: signal.Signals = signal.SIGTERM) -> float:
    started = time.monotonic()
    assert service.stop(number) == 0, service.said()
    return time.monotonic() - started


def test_a_stop_under_load_loses_nothing_and_fetches_nothing_twice(tmp_path: Path) -> None:
    with shops.open_shop(delay=0.3) as shop:
        csv = shops.write_csv(tmp_path / "products.csv", urls(shop, 150))
        with services.serving(tmp_path / "data", threads=8, workers=2) as service:
            request_id = service.accepted(csv)
            wait_until(lambda: sum(shop.served.values()) > 20)
            assert seconds_to_stop(service) < 30
            before = sum(shop.served.values())
            assert before < 150
        assert shops.processes_of(tmp_path / "data") == []
        with services.serving(tmp_path / "data", threads=8, workers=2) as service:
            status = service.finished(request_id)
        assert status["status"] == "COMPLETED"
        assert status["processedImages"] == 150
        assert set(shop.asked.values()) == {1}


def test_origins_slower_than_the_grace_do_not_hold_up_a_stop(tmp_path: Path) -> None:
    over = threading.Event()

    def hangs(_client: int) -> tuple[int, bytes]:
        over.wait(40)
        return 200, shops.PHOTOS[0]

    with shops.open_shop() as shop:
        slow = [f"slow{number}.jpg" for number in range(4)]
        shop.special = dict.fromkeys(slow, hangs)
        names = [shop.url(name) for name in slow]
        csv = shops.write_csv(tmp_path / "products.csv", urls(shop, 30) + names)
        with services.serving(tmp_path / "data", grace_seconds=2) as service:
            request_id = service.accepted(csv)
            wait_until(lambda: service.status(request_id)["processedImages"] == 30)
            assert seconds_to_stop(service) < 20
        over.set()
        with services.serving(tmp_path / "data") as service:
            status = service.finished(request_id)
        assert (status["status"], status["processedImages"]) == ("COMPLETED", 34)
        assert {shop.asked[f"/{number}.jpg?n={number}"] for number in range(30)} == {1}
        assert {shop.asked[f"/{name}"] for name in slow} == {2}


def test_a_stop_ends_streams_of_events_and_lets_calls_end(tmp_path: Path) -> None:
    with (
        shops.open_shop(delay=1.0) as shop,
        services.serving(tmp_path / "data", threads=2) as service,
    ):
        csv = shops.write_csv(tmp_path / "products.csv", urls(shop, 60))
        request_id = service.accepted(csv)
        events = f"{service.url}/api/requests/{request_id}/events"
        with httpx.stream("GET", events, timeout=60, trust_env=False) as stream:
            lines = stream.iter_lines()
            assert next(lines)
            stopping = threading.Thread(target=service.stop)
            stopping.start()
            for _ in lines:  # until it is ended
                pass
            stopping.join(30)
        assert service.process.returncode == 0
        assert "Cancel" not in service.said(), "no call had to be broken off"
        assert "Traceback" not in service.said()


def test_calls_that_do_not_end_in_time_are_told_to_come_back(tmp_path: Path) -> None:
    with services.serving(tmp_path / "data", grace_seconds=1) as service:
        host, port = service.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as slow:
            slow.sendall(
                b"POST /api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n"
                b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
            )
            wait_until(lambda: service.get("/health").status_code == 200)
            assert seconds_to_stop(service) < 20
            answer = b"".join(iter(lambda: slow.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"The service is stopping" in answer
        assert "Traceback" not in service.said()


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    with (
        shops.open_shop(delay=25) as shop,
        services.serving(tmp_path / "data") as service,
    ):
        service.accepted(shops.write_csv(tmp_path / "products.csv", urls(shop, 10)))
        wait_until(lambda: shop.asked)
        os.killpg(service.process.pid, signal.SIGINT)
        wait_until(lambda: "stopping" in service.said())
        started = time.monotonic()
        os.killpg(service.process.pid, signal.SIGINT)
        assert service.process.wait(30) == 130
        assert time.monotonic() - started < 5
        wait_until(lambda: not shops.processes_of(tmp_path / "data"))
        assert "Traceback" not in service.said()


def test_workers_do_not_outlive_a_service_that_is_killed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with services.serving(data, workers=2, grace_seconds=1) as service:
        wait_until(lambda: len(shops.children_of(service.process.pid, named="worker")) == 2)
        service.process.kill()
        service.process.wait()
        wait_until(lambda: not shops.processes_of(data))


def test_workers_that_cannot_store_anything_are_told_of_and_go_on_once_they_can(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    with (
        shops.open_shop(delay=0.1) as shop,
        services.serving(data, threads=4) as service,
    ):
        assert service.get("/ready").status_code == 200
        (data / "images").write_text("in the way")
        request_id = service.accepted(shops.write_csv(tmp_path / "p.csv", urls(shop, 30)))
        wait_until(lambda: service.get("/ready").status_code == 503)
        assert service.get("/ready").json()["checks"]["engine"] != "ok"
        assert service.get("/health").status_code == 200
        assert service.status(request_id)["failedImages"] == 0
        assert "Cannot store images/" in service.said()
        (data / "images").unlink()
        status = service.finished(request_id)
        assert (status["status"], status["processedImages"]) == ("COMPLETED", 30)
        wait_until(lambda: service.get("/ready").status_code == 200)
        assert "Traceback" not in service.said()

"""Whether the service lives, and whether it can do its work."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import httpx
import pytest
from fastapi import FastAPI

from pixmill.blobs.folder import FolderBlobs
from pixmill.core.access import Scope
from pixmill.settings import Settings
from pixmill.steps.keys import create_key
from pixmill.web.app import create_app
from pixmill.web.service import Service
from tests.web.life import ingested, submitted
from tests.web.server import serving

ALL_WELL = {"store": "ok", "access": "ok", "blobs": "ok", "engine": "ok"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings that let nothing wait."""
    return Settings(data_dir=tmp_path / "data", public_url="/api/files", ready_max_wait=0.001)


@pytest.fixture(autouse=True)
def _folder(settings: Settings) -> None:
    settings.data_dir.mkdir()


def test_health_says_that_the_service_lives(client: httpx.Client) -> None:
    answer = client.get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_ready_says_that_everything_works(client: httpx.Client) -> None:
    answer = client.get("/ready")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "checks": ALL_WELL})


def test_neither_needs_a_key_nor_counts_as_a_call(service: Service, client: httpx.Client) -> None:
    create_key(service.access, "somebody", [Scope.READ], service.clock)
    for path in ("/health", "/ready"):
        answer = client.get(path, headers={"Host": "loadbalancer.example"})
        assert answer.status_code == 200
        assert "ratelimit-limit" not in answer.headers


def test_work_that_waits_too_long_makes_it_unready(service: Service, client: httpx.Client) -> None:
    for make in (submitted, ingested):
        make(service)
        answer = client.get("/ready")
        assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
        checks = answer.json()["checks"]
        assert "has waited" in checks.pop("store")
        assert set(checks.values()) == {"ok"}


def test_workers_that_cannot_go_on_make_it_unready(app: FastAPI, client: httpx.Client) -> None:
    app.state.engine_failure = "Cannot write into /srv/secret: no space left."
    answer = client.get("/ready")
    assert answer.status_code == 503
    assert "workers cannot go on" in answer.json()["checks"]["engine"]
    assert "secret" not in answer.text, "paths are for the log only"
    app.state.engine_failure = None
    assert client.get("/ready").status_code == 200


def test_blobs_that_cannot_be_written_make_it_unready(
    service: Service, client: httpx.Client
) -> None:
    folder = service.settings.data_dir / ".pixmill"
    folder.rmdir() if folder.exists() else None
    folder.write_text("a file where the folder should be")
    answer = client.get("/ready")
    assert answer.status_code == 503
    assert answer.json()["checks"]["blobs"] == "It cannot be used; the service's log tells more."
    assert str(service.settings.data_dir) not in answer.text
    folder.unlink()
    assert client.get("/ready").status_code == 200


def test_looking_leaves_one_small_file_however_often(service: Service) -> None:
    for _ in range(3):
        with serving(create_app(service)) as url:
            assert httpx.get(f"{url}/ready", trust_env=False).status_code == 200
    left = [path for path in service.settings.data_dir.rglob("*") if path.is_file()]
    (tried,) = [path for path in left if not path.name.startswith("pixmill.db")]
    assert tried.stat().st_size == 0


def test_a_store_that_cannot_be_read_makes_it_unready(
    service: Service, client: httpx.Client
) -> None:
    with closing(sqlite3.connect(service.settings.data_dir / "pixmill.db")) as db:
        db.execute("DROP TABLE work")
    answer = client.get("/ready")
    assert answer.status_code == 503
    checks = answer.json()["checks"]
    assert checks["store"] != "ok"
    assert checks["access"] == checks["store"], "the keys are in it"
    assert client.get("/health").status_code == 200


def test_load_balancers_may_ask_for_the_head_only(client: httpx.Client) -> None:
    for path in ("/health", "/ready"):
        answer = client.head(path)
        assert (answer.status_code, answer.content) == (200, b"")


class Stalled(FolderBlobs):
    """A folder on a disk that hangs until it is released."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.reached = threading.Event()
        self.released = threading.Event()

    def put(self, key: str, data: bytes | BinaryIO) -> None:
        self.reached.set()
        assert self.released.wait(60)
        super().put(key, data)


def test_probes_do_not_pile_up_on_a_disk_that_hangs(service: Service, tmp_path: Path) -> None:
    """One waits for the disk; the others are answered, and told when it takes too long."""
    now = [1_800_000_000.0]
    disk = Stalled(tmp_path / "disk")
    stalled = replace(service, blobs=disk, clock=lambda: now[0])
    with (
        serving(create_app(stalled)) as url,
        ThreadPoolExecutor() as pool,
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        first = pool.submit(client.get, "/ready")
        try:
            assert disk.reached.wait(30)
            assert client.get("/ready").status_code == 200
            now[0] += 60
            for _ in range(60):
                answer = client.get("/ready")
                assert answer.status_code == 503
                assert "60 seconds so far" in answer.json()["checks"]["blobs"]
        finally:
            disk.released.set()
        assert first.result(30).status_code == 200
        assert client.get("/ready").status_code == 200

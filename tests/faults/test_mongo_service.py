"""A whole service on MongoDB, whose server is killed and comes back while images are made."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.mongo import MongoServer, mongo_server
from tests.service import serving
from tests.shop import open_shop, write_csv

pytestmark = pytest.mark.slow

IMAGES = 600


@pytest.fixture
def server() -> Iterator[MongoServer]:
    """A server that may be ill-treated."""
    with mongo_server() as made:
        made.start()
        yield made


def test_a_request_completes_although_mongodb_is_killed_twice(
    server: MongoServer, tmp_path: Path
) -> None:
    with (
        open_shop(delay=0.02) as shop,
        serving(tmp_path / "data", store=server.url(), threads=8) as service,
    ):
        urls = [shop.url(f"{number}.jpg") for number in range(IMAGES)]
        request_id = service.accepted(write_csv(tmp_path / "products.csv", urls))
        for part in (1, 2):
            give_up = time.monotonic() + 60
            while service.status(request_id)["processedImages"] < part * IMAGES / 4:
                assert time.monotonic() < give_up, service.said()
                time.sleep(0.05)
            server.kill()
            server.start()
        finished = service.finished(request_id)
        assert (finished["status"], finished["processedImages"]) == ("COMPLETED", IMAGES)
        answer = service.get(f"/api/download/{request_id}")
        assert answer.status_code == 200
        assert len(answer.text.splitlines()) == IMAGES + 1
        assert service.call("DELETE", f"/api/requests/{request_id}").status_code == 204
        assert service.get(f"/api/status/{request_id}").status_code == 404

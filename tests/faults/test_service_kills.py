"""What was accepted completes, whichever processes are killed; what was not, never was."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests import service as services
from tests import shop as shops
from tests.service import Serving
from tests.shop import Shop

pytestmark = pytest.mark.slow

ROWS = 1500
DISTINCT = 6


def big_csv(shop: Shop, number: int) -> bytes:
    """A CSV that takes its time to be read, but names few images."""
    urls = [shop.url(f"{image}.jpg?upload={number}") for image in range(DISTINCT)]
    rows = [f"{row},Product {row},{urls[row % DISTINCT]}" for row in range(ROWS)]
    return "\n".join(["Serial Number,Product Name,Input Image Urls", *rows]).encode()


class Uploads(threading.Thread):
    """Hands over one CSV after the other until the service is gone."""

    def __init__(self, service: Serving, shop: Shop, first: int) -> None:
        super().__init__()
        self.accepted: list[str] = []
        self.unanswered = 0
        self.first_answer = threading.Event()
        self._service = service
        self._shop = shop
        self._number = first

    def run(self) -> None:
        """Upload until nobody answers."""
        while True:
            self._number += 1
            try:
                answer = self._service.upload(big_csv(self._shop, self._number))
            except httpx.HTTPError:
                self.unanswered = 1
                return
            assert answer.status_code == 202
            self.accepted.append(answer.json()["requestId"])
            self.first_answer.set()


def listed(service: Serving) -> list[str]:
    """The ids of all requests."""
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = service.get("/api/requests", params=cursor).json()
        found += [request["requestId"] for request in page["requests"]]
        if page["nextCursor"] is None:
            return found
        cursor = {"cursor": page["nextCursor"]}


def test_every_202_completes_after_10_kills_of_everything_and_nothing_else_is_seen(
    tmp_path: Path,
) -> None:
    rng = random.Random(10)
    data = tmp_path / "data"
    accepted: list[str] = []
    unanswered = 0
    with shops.open_shop() as shop:
        for kill in range(10):
            with services.serving(data, lease_seconds=2) as service:
                uploads = Uploads(service, shop, first=1000 * kill)
                uploads.start()
                if kill % 2:  # else somewhere in the first upload, or soon after it
                    uploads.first_answer.wait(30)
                time.sleep(rng.uniform(0, 0.6))
                service.kill()
                uploads.join(30)
                assert not uploads.is_alive()
                accepted += uploads.accepted
                unanswered += uploads.unanswered
            shops.check_database(data).close()
        with services.serving(data, lease_seconds=2, workers=2) as service:
            seen = listed(service)
            assert set(accepted) <= set(seen)
            assert len(seen) - len(accepted) <= unanswered
            for request_id in seen:
                status = service.finished(request_id)
                assert status["status"] == "COMPLETED"
                assert status["processedImages"] == status["totalImages"] == ROWS
                answer = service.get(f"/api/download/{request_id}")
                assert answer.text.count(f"/api/files/images/{request_id}/") == ROWS
    assert len(accepted) >= 5


def test_two_services_on_one_store_answer_for_each_other_and_one_ends_what_the_other_began(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    settings = {"lease_seconds": 2, "threads": 4}
    with (
        shops.open_shop(delay=0.2) as shop,
        services.serving(data, **settings) as first,
        services.serving(data, **settings) as second,
    ):
        assert first.url != second.url
        urls = [shop.url(f"{number}.jpg?n={number}") for number in range(120)]
        request_id = first.accepted(shops.write_csv(tmp_path / "products.csv", urls))
        assert second.status(request_id)["totalImages"] == 120
        deadline = time.monotonic() + 30
        while sum(shop.served.values()) < 30:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        first.kill()
        status = second.finished(request_id)
        assert (status["status"], status["processedImages"]) == ("COMPLETED", 120)
        assert len(shops.pictures(data)) == 120
        again = sum(count - 1 for count in shop.asked.values())
        assert again <= 40, "more was fetched again than the killed one had in hand"
        assert second.stop() == 0

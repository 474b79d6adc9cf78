"""What became of each image, and the totals."""

from __future__ import annotations

import httpx
import pytest

from pixmill.core.leases import Work
from pixmill.web.service import Service
from tests.web.life import PICTURE, claimed, finished, ingested, settle, submitted

CSV = b"""Serial Number,Product Name,Input Image Urls
7,Mug,"https://shop.example/a.jpg,https://shop.example/b.jpg"
8,Cup,https://shop.example/b.jpg
"""
SIZE = len(PICTURE % 1)


def test_each_distinct_image_is_told_with_all_that_is_known(
    service: Service, client: httpx.Client
) -> None:
    request = finished(service, CSV, failing=[2])
    results = client.get(f"/api/results/{request.id}").json()
    first, second = results["images"]
    assert first == {
        "sequence": 1,
        "url": "https://shop.example/a.jpg",
        "references": 1,
        "status": "done",
        "outputUrl": f"/api/files/images/{request.id}/0000001.jpg",
        "format": "jpeg",
        "bytesIn": 4 * SIZE,
        "bytesOut": SIZE,
        "width": 30,
        "height": 20,
        "sourceFormat": "png",
        "sourceWidth": 300,
        "sourceHeight": 200,
        "notices": [],
        "attempts": 2,
        "durationSeconds": 0.25,
        "errorCode": None,
        "errorMessage": None,
    }
    assert {name: value for name, value in second.items() if value is not None} == {
        "sequence": 2,
        "url": "https://shop.example/b.jpg",
        "references": 2,
        "status": "failed",
        "notices": [],
        "attempts": 1,
        "durationSeconds": 0.5,
        "errorCode": "http_error",
        "errorMessage": "The server answered 404.",
    }


def test_the_totals_are_over_all_images_not_over_the_page(
    service: Service, client: httpx.Client
) -> None:
    request = finished(service, 20, failing=[3, 4])
    results = client.get(f"/api/results/{request.id}?limit=1").json()
    assert (results["requestId"], results["status"]) == (request.id, "COMPLETED")
    totals = results["totals"]
    assert request.finished_at
    seconds = (request.finished_at - request.created_at).total_seconds()
    assert totals.pop("imagesPerSecond") == round(20 / seconds, 2)
    assert totals == {
        "images": 20,
        "bytesIn": 18 * 4 * SIZE,
        "bytesOut": 18 * SIZE,
        "bytesSaved": 18 * 3 * SIZE,
        "percentSaved": 75.0,
        "errors": {"http_error": 2},
    }


def test_the_totals_are_summed_up_for_the_first_page_only(
    service: Service, client: httpx.Client
) -> None:
    request = finished(service, 4)
    first = client.get(f"/api/results/{request.id}?limit=2").json()
    assert first["totals"]["images"] == 4
    rest = client.get(f"/api/results/{request.id}?cursor={first['nextCursor']}").json()
    assert rest["totals"] is None
    assert [image["sequence"] for image in rest["images"]] == [3, 4]


def test_images_come_in_pages_also_those_of_one_status(
    service: Service, client: httpx.Client
) -> None:
    request = ingested(service, 8)
    settle(service, claimed(service, Work.SHARD), count=6, failing=[2, 4, 6])

    def walk(status: str | None) -> list[int]:
        seen: list[int] = []
        asked: dict[str, str | int] = {"limit": 2} | ({"status": status} if status else {})
        while True:
            page = client.get(f"/api/results/{request.id}", params=asked).json()
            assert len(page["images"]) <= 2
            seen += [image["sequence"] for image in page["images"]]
            if page["nextCursor"] is None:
                return seen
            asked["cursor"] = page["nextCursor"]

    assert walk(None) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert walk("done") == [1, 3, 5]
    assert walk("failed") == [2, 4, 6]
    assert walk("pending") == [7, 8]


def test_a_request_without_outcomes_has_totals_of_nothing(
    service: Service, client: httpx.Client
) -> None:
    results = client.get(f"/api/results/{submitted(service).id}").json()
    assert results["images"] == []
    assert (results["totals"]["images"], results["totals"]["percentSaved"]) == (0, 0.0)


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "cursor=x", "status=DONE", "status="])
def test_a_page_that_cannot_be_is_refused(
    service: Service, client: httpx.Client, query: str
) -> None:
    answer = client.get(f"/api/results/{submitted(service).id}?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_call")

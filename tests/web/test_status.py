"""The status of a request: what it tells, a page at a time, and only if it has changed."""

from __future__ import annotations

import httpx
import pytest

from pixmill.core.leases import Work
from pixmill.web.service import Service
from tests.web.life import (
    claimed,
    finished,
    half_ingested,
    ingest,
    ingested,
    settle,
    submitted,
    work_off,
)

CSV = b"""Serial Number,Product Name,Input Image Urls
7,Mug,"https://shop.example/a b.jpg,https://shop.example/c.jpg"
8,Cup,https://shop.example/c.jpg
"""


def test_it_tells_all_of_a_finished_request_with_outputs_beside_inputs(
    service: Service, client: httpx.Client
) -> None:
    request = finished(service, CSV, failing=[1])
    status = client.get(f"/api/status/{request.id}").json()
    times = {name: status.pop(name) for name in ("createdAt", "updatedAt", "finishedAt")}
    assert all(time.endswith("Z") for time in times.values())
    image = f"/api/files/images/{request.id}/0000002.jpg"
    assert status == {
        "requestId": request.id,
        "status": "COMPLETED",
        "filename": "products.csv",
        "processedImages": 2,
        "failedImages": 1,
        "totalImages": 3,
        "totalProducts": 2,
        "completionPercentage": 100.0,
        "errorMessage": None,
        "nextCursor": None,
        "products": [
            {
                "serialNumber": "7",
                "productName": "Mug",
                "inputImageUrls": ["https://shop.example/a b.jpg", "https://shop.example/c.jpg"],
                "outputImageUrls": [None, image],
            },
            {
                "serialNumber": "8",
                "productName": "Cup",
                "inputImageUrls": ["https://shop.example/c.jpg"],
                "outputImageUrls": [image],
            },
        ],
    }
    assert client.get(image).status_code == 200


def test_outputs_appear_as_they_come(service: Service, client: httpx.Client) -> None:
    request = ingested(service, 3)
    settle(service, claimed(service, Work.SHARD), count=1)
    status = client.get(f"/api/status/{request.id}").json()
    assert (status["status"], status["processedImages"]) == ("PROCESSING", 1)
    assert status["completionPercentage"] == 33.33
    assert status["finishedAt"] is None
    outputs = [product["outputImageUrls"] for product in status["products"]]
    assert outputs == [[f"/api/files/images/{request.id}/0000001.jpg"], [None], [None]]


def test_products_come_in_pages_in_the_order_of_the_csv(
    service: Service, client: httpx.Client
) -> None:
    request = ingested(service, 25)
    seen, cursor, pages = [], None, 0
    while True:
        asked = {"limit": 10} | ({"cursor": cursor} if cursor else {})
        page = client.get(f"/api/status/{request.id}", params=asked).json()
        seen += [product["serialNumber"] for product in page["products"]]
        pages += 1
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert seen == [str(number) for number in range(1, 26)]
    assert pages == 3


def test_a_page_has_100_products_unless_told_otherwise(
    service: Service, client: httpx.Client
) -> None:
    request = ingested(service, 120)
    assert len(client.get(f"/api/status/{request.id}").json()["products"]) == 100
    whole = client.get(f"/api/status/{request.id}?limit=120").json()
    assert (len(whole["products"]), whole["nextCursor"]) == (120, None), "a full page may be last"


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "cursor=x", "cursor="])
def test_a_page_that_cannot_be_is_refused(
    service: Service, client: httpx.Client, query: str
) -> None:
    request = submitted(service)
    answer = client.get(f"/api/status/{request.id}?{query}")
    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid_call"


def test_products_are_listed_once_all_of_them_are_known(
    service: Service, client: httpx.Client
) -> None:
    """A page during the ingest would end, with no next one, where the ingest is just now."""
    request = half_ingested(service)
    status = client.get(f"/api/status/{request.id}").json()
    assert (status["status"], status["products"], status["totalImages"]) == ("PENDING", [], 3)
    assert client.get(f"/api/results/{request.id}").json()["images"] == []


def test_what_has_not_changed_is_answered_with_304(service: Service, client: httpx.Client) -> None:
    request = ingested(service, 3)
    url = f"/api/status/{request.id}"
    first = client.get(url)
    tag = first.headers["etag"]
    assert tag.startswith('"'), "it is a strong tag"
    assert first.headers["cache-control"] == "private, no-cache"
    for given in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = client.get(url, headers={"If-None-Match": given})
        assert (again.status_code, again.content) == (304, b""), given
        assert again.headers["etag"] == tag
        assert again.headers["cache-control"] == "private, no-cache"
    for given in ('"other"', tag.strip('"'), ""):
        assert client.get(url, headers={"If-None-Match": given}).status_code == 200, given
    two = client.get(url, headers=[("If-None-Match", '"other"'), ("If-None-Match", tag)])
    assert two.status_code == 304


def test_the_tag_changes_with_everything_that_the_answer_tells(
    service: Service, client: httpx.Client
) -> None:
    tags = []

    def look(request_id: str, query: str = "") -> None:
        tags.append(client.get(f"/api/status/{request_id}{query}").headers["etag"])

    request = submitted(service, 3)
    look(request.id)
    ingest(service, claimed(service, Work.INGEST))
    look(request.id)
    cursor = client.get(f"/api/status/{request.id}?limit=1").json()["nextCursor"]
    look(request.id, "?limit=1")
    look(request.id, f"?limit=1&cursor={cursor}")
    settle(service, claimed(service, Work.SHARD), count=1)
    look(request.id)
    service.store.cancel_request(request.id, now=service.clock())
    look(request.id)
    service.store.retry_failed(request.id, now=service.clock())
    look(request.id)
    assert len(set(tags)) == len(tags)


def test_a_failed_ingest_tells_why(service: Service, client: httpx.Client) -> None:
    request = submitted(service)
    lease = claimed(service, Work.INGEST)
    service.store.fail_request(lease, "The CSV could not be ingested.", now=service.clock())
    status = client.get(f"/api/status/{request.id}").json()
    assert (status["status"], status["errorMessage"]) == (
        "FAILED",
        "The CSV could not be ingested.",
    )


def test_an_unknown_request_is_not_found(client: httpx.Client) -> None:
    for name in ("req_unknown", "a b", "%00", "%F0%9F%98%80", "x" * 3000):
        answer = client.get(f"/api/status/{name}", headers={"If-None-Match": "*"})
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_a_retried_image_has_an_output_again(service: Service, client: httpx.Client) -> None:
    request = finished(service, 2, failing=[2])
    service.store.retry_failed(request.id, now=service.clock())
    work_off(service, request.id)
    products = client.get(f"/api/status/{request.id}").json()["products"]
    assert all(product["outputImageUrls"][0] for product in products)

"""Requests are listed, cancelled, retried and deleted."""

from __future__ import annotations

import httpx
import pytest

from pixmill.core.leases import Work
from pixmill.web.service import Service
from tests.web.life import claimed, finished, ingested, settle, submitted, work_off


def test_requests_are_listed_newest_first_a_page_at_a_time(
    service: Service, client: httpx.Client
) -> None:
    made = [submitted(service).id for _ in range(5)]
    seen: list[str] = []
    cursor = None
    for size in (2, 2, 1):
        asked = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = client.get("/api/requests", params=asked).json()
        assert len(page["requests"]) == size
        seen += [request["requestId"] for request in page["requests"]]
        cursor = page["nextCursor"]
    assert cursor is None
    assert seen == made[::-1]


def test_the_list_goes_on_where_it_was_though_a_request_came_and_one_went(
    service: Service, client: httpx.Client
) -> None:
    made = [submitted(service).id for _ in range(4)]
    cursor = client.get("/api/requests?limit=2").json()["nextCursor"]
    submitted(service)
    client.delete(f"/api/requests/{made[2]}")  # the last one of the first page
    rest = client.get("/api/requests", params={"cursor": cursor}).json()
    assert [request["requestId"] for request in rest["requests"]] == [made[1], made[0]]


def test_the_list_tells_what_the_status_tells_but_the_products(
    service: Service, client: httpx.Client
) -> None:
    request = finished(service, 3, failing=[2])
    [listed] = client.get("/api/requests").json()["requests"]
    status = client.get(f"/api/status/{request.id}").json()
    assert listed == {
        name: value for name, value in status.items() if name not in {"products", "nextCursor"}
    }


def test_the_list_can_be_of_one_status(service: Service, client: httpx.Client) -> None:
    through = finished(service)
    pending = submitted(service)

    def listed(status: str) -> list[str]:
        page = client.get("/api/requests", params={"status": status}).json()
        return [request["requestId"] for request in page["requests"]]

    assert listed("COMPLETED") == [through.id]
    assert listed("PENDING") == [pending.id]
    assert listed("CANCELLED") == []
    assert client.get("/api/requests?status=DONE").status_code == 422


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "cursor=x", "cursor=bjE"])
def test_a_page_that_cannot_be_is_refused(client: httpx.Client, query: str) -> None:
    assert client.get(f"/api/requests?{query}").json()["code"] == "invalid_call"


def test_a_cancel_keeps_what_is_done(service: Service, client: httpx.Client) -> None:
    request = ingested(service, 3)
    settle(service, claimed(service, Work.SHARD), count=1)
    answer = client.post(f"/api/requests/{request.id}/cancel")
    assert answer.status_code == 200
    told = answer.json()
    assert (told["status"], told["processedImages"], told["failedImages"]) == ("CANCELLED", 1, 2)
    assert told["finishedAt"]
    assert client.get(f"/api/files/images/{request.id}/0000001.jpg").status_code == 200


def test_what_is_finished_cannot_be_cancelled(service: Service, client: httpx.Client) -> None:
    request = finished(service)
    answer = client.post(f"/api/requests/{request.id}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "wrong_state")


def test_a_retry_is_of_the_failed_images_only(service: Service, client: httpx.Client) -> None:
    request = finished(service, 4, failing=[2, 3])
    answer = client.post(f"/api/requests/{request.id}/retry")
    assert answer.status_code == 202
    assert answer.json() == {
        "requestId": request.id,
        "status": "PROCESSING",
        "retriedImages": 2,
    }
    assert len(client.get(f"/api/results/{request.id}?status=pending").json()["images"]) == 2
    assert work_off(service, request.id).processed_images == 4


def test_a_retry_of_what_is_whole_retries_nothing(service: Service, client: httpx.Client) -> None:
    request = finished(service)
    told = client.post(f"/api/requests/{request.id}/retry").json()
    assert (told["status"], told["retriedImages"]) == ("COMPLETED", 0)


def test_what_is_not_finished_cannot_be_retried(service: Service, client: httpx.Client) -> None:
    request = ingested(service)
    answer = client.post(f"/api/requests/{request.id}/retry")
    assert (answer.status_code, answer.json()["code"]) == (409, "wrong_state")


def test_what_is_deleted_is_gone_everywhere_at_once(service: Service, client: httpx.Client) -> None:
    request = finished(service)
    image = f"/api/files/images/{request.id}/0000001.jpg"
    assert client.get(image).status_code == 200
    answer = client.delete(f"/api/requests/{request.id}")
    assert (answer.status_code, answer.content) == (204, b"")
    for url in (
        f"/api/status/{request.id}",
        f"/api/results/{request.id}",
        f"/api/download/{request.id}",
        f"/api/download/{request.id}?partial=true",
        f"/api/download/{request.id}/images.zip",
        f"/api/requests/{request.id}/events",
        image,
    ):
        assert client.get(url).status_code == 404, url
    assert client.get("/api/requests").json()["requests"] == []
    assert client.delete(f"/api/requests/{request.id}").status_code == 404


def test_a_request_at_work_can_be_deleted(service: Service, client: httpx.Client) -> None:
    request = ingested(service)
    lease = claimed(service, Work.SHARD)
    assert client.delete(f"/api/requests/{request.id}").status_code == 204
    assert service.store.renew([lease], until=service.clock() + 60) == {lease.token}


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/cancel"), ("POST", "/retry"), ("DELETE", "")]
)
def test_an_unknown_request_is_not_found(client: httpx.Client, method: str, path: str) -> None:
    answer = client.request(method, f"/api/requests/req_unknown{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")

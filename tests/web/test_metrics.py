"""What there is to count, as Prometheus reads it."""

from __future__ import annotations

import httpx
from prometheus_client.parser import text_string_to_metric_families

from pixmill.core.leases import Work
from pixmill.web.service import Service
from tests.web.life import claimed, finished, ingested, settle
from tests.web.server import new_key

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(client: httpx.Client, **headers: str) -> Samples:
    """All that is told, by name and labels."""
    answer = client.get("/metrics", headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


def test_it_tells_what_the_store_holds(service: Service, client: httpx.Client) -> None:
    finished(service, 3, failing=[2])
    ingested(service, 5)
    settle(service, claimed(service, Work.SHARD), count=1)
    found = samples(client)
    assert value(found, "pixmill_requests", status="COMPLETED") == 1
    assert value(found, "pixmill_requests", status="PROCESSING") == 1
    assert value(found, "pixmill_requests", status="FAILED") == 0
    assert value(found, "pixmill_images_total", result="done") == 3
    assert value(found, "pixmill_images_total", result="failed") == 1
    assert value(found, "pixmill_images_in_progress") == 4
    assert value(found, "pixmill_oldest_wait_seconds") >= 0
    assert value(found, "pixmill_oldest_work_seconds") >= 0


def test_it_counts_calls_by_the_template_of_their_route(
    service: Service, client: httpx.Client
) -> None:
    request = finished(service)
    for _ in range(3):
        client.get(f"/api/status/{request.id}")
    client.get("/api/status/req_unknown")
    client.get(f"/api/files/images/{request.id}/0000001.jpg")
    client.get("/health")
    found = samples(client)
    calls = "pixmill_http_requests_total"
    status = "/api/status/{request_id}"
    assert value(found, calls, method="GET", route=status, status="200") == 3
    assert value(found, calls, method="GET", route=status, status="404") == 1
    assert value(found, calls, method="GET", route="/api/files/{key:path}", status="200") == 1
    assert value(found, calls, method="GET", route="/health", status="200") == 1
    assert value(found, "pixmill_http_request_duration_seconds_count", route=status) == 4


def test_no_client_can_make_new_labels(client: httpx.Client) -> None:
    """Each label costs memory for ever."""
    for number in range(5):
        client.get(f"/nothing/{number}")
        client.get(f"/api/files/{number}")
        client.get(f"/api/nothing/{number}")
    for method in ("PROPFIND", "LOCK", "MKCOL"):
        client.request(method, "/health")
        client.request(method, "/nothing")
    labels = [dict(labels) for name, labels in samples(client) if name.endswith("requests_total")]
    routes = {found["route"] for found in labels}
    assert routes == {"/api/files/{key:path}", "/health", "none"}
    assert {found["method"] for found in labels} == {"GET", "other"}


def test_once_there_are_keys_it_needs_one_that_allows_it(
    service: Service, client: httpx.Client
) -> None:
    read, admin = (new_key(service, scope) for scope in ("read", "admin"))
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers=read).status_code == 403
    assert samples(client, **admin)

"""What a webhook says: the counts of its moment, and the products as long as it stays small."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pixmill.core.errors import NotFound
from pixmill.core.events import Event, Webhook
from pixmill.core.leases import Work
from pixmill.core.model import Product
from pixmill.core.webhooks import Delivery
from pixmill.steps.tell import event_body
from pixmill.stores.sqlite import SqliteOutbox, SqliteStore
from tests.contracts import letters
from tests.contracts.records import NOW, claimed, done, failed

BASE = "https://pixmill.example"
LIMIT = 20_000


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[SqliteOutbox]:
    """The store's outbox."""
    with closing(SqliteOutbox(tmp_path / "pixmill.db")) as opened:
        yield opened


def url_of(key: str) -> str:
    """Where stored images can be had."""
    return f"https://cdn.example/{key}"


def written(store: SqliteStore, delivery: Delivery) -> dict[str, Any]:
    """The body of a delivery."""
    return dict(json.loads(event_body(store, delivery, url_of, BASE)))


def ended(store: SqliteStore, outbox: SqliteOutbox, names: list[str]) -> Delivery:
    """The last delivery of a request with a product of each name; the second image failed."""
    letters.add(store, images=len(names) + 1)
    lease = claimed(store, Work.INGEST)
    store.begin_ingest(lease)
    urls = [f"http://shop.example/{number}.jpg" for number in range(1, len(names) + 1)]
    sequences = store.add_images(lease, {url: 2 if url == urls[0] else 1 for url in urls})
    store.add_products(
        lease,
        [
            Product(
                number,
                f"S{number}",
                name,
                (urls[number - 1], urls[0]) if number == 2 else (urls[number - 1],),
                (sequences[urls[number - 1]], 1) if number == 2 else (sequences[urls[number - 1]],),
            )
            for number, name in enumerate(names, start=1)
        ],
    )
    store.finish_ingest(lease, now=NOW)
    while lease := store.claim("w1", now=NOW, lease_seconds=30):
        if lease.work is Work.FINISH:
            store.close_request(lease, now=NOW + 10)
            continue
        outcomes = [
            failed(image.sequence) if image.sequence == 2 else done(image.sequence)
            for image in store.pending_images(lease)
        ]
        store.record_outcomes({lease: outcomes}, now=NOW)
        store.complete_shard(lease, now=NOW)
    return outbox.deliveries("req_a")[-1]


def test_the_end_of_a_request_is_told_as_the_contract_has_it(
    store: SqliteStore, outbox: SqliteOutbox
) -> None:
    delivery = ended(store, outbox, ["Lamp", "Stühle"])
    first = "https://cdn.example/images/req_a/0000001.jpg"
    assert written(store, delivery) == {
        "type": "request.completed",
        "timestamp": "2027-01-15T08:00:10Z",
        "requestId": "req_a",
        "status": "COMPLETED",
        "totalImages": 3,
        "processedImages": 2,
        "failedImages": 1,
        "stats": {
            "images": 2,
            "bytesIn": 1000,
            "bytesOut": 400,
            "bytesSaved": 600,
            "percentSaved": 60.0,
            "imagesPerSecond": 0.2,
            "errors": {"http_error": 1},
        },
        "products": [
            {
                "serialNumber": "S1",
                "productName": "Lamp",
                "inputImageUrls": ["http://shop.example/1.jpg"],
                "outputImageUrls": [first],
            },
            {
                "serialNumber": "S2",
                "productName": "Stühle",
                "inputImageUrls": ["http://shop.example/2.jpg", "http://shop.example/1.jpg"],
                "outputImageUrls": [None, first],
            },
        ],
        "productsTruncated": False,
        "statusUrl": f"{BASE}/api/status/req_a",
        "downloadUrl": f"{BASE}/api/download/req_a",
    }


def test_counts_and_status_are_those_of_the_moment_that_is_told_of(
    store: SqliteStore, outbox: SqliteOutbox
) -> None:
    ended(store, outbox, ["Lamp", "Chair"])
    told = [written(store, delivery) for delivery in outbox.deliveries("req_a")]
    assert [body["type"] for body in told] == [Event.PROCESSING, Event.COMPLETED]
    assert (told[0]["status"], told[0]["processedImages"]) == ("PROCESSING", 0)


def test_only_ends_tell_of_products(store: SqliteStore, outbox: SqliteOutbox) -> None:
    ended(store, outbox, ["Lamp", "Chair"])
    body = written(store, outbox.deliveries("req_a")[0])
    assert (body["products"], body["productsTruncated"]) == ([], False)


def test_products_are_told_up_to_20_kb_and_not_a_byte_more(
    store: SqliteStore, outbox: SqliteOutbox
) -> None:
    empty = len(event_body(store, ended(store, outbox, ["Lamp", ""]), url_of, BASE).encode())
    store.delete_request("req_a", now=NOW, purge_at=NOW)
    purge = claimed(store, Work.PURGE)
    assert store.forget(purge)
    room = LIMIT - empty
    seen = {}
    for more in range(-3, 4):
        name = "ü" * ((room + more) // 2) + "x" * ((room + more) % 2)
        body = event_body(store, ended(store, outbox, ["Lamp", name]), url_of, BASE)
        size = len(body.encode())
        assert size <= LIMIT
        told = json.loads(body)
        assert told["productsTruncated"] is (told["products"] == [])
        seen[more] = size if told["products"] else None
        store.delete_request("req_a", now=NOW, purge_at=NOW)
        assert store.forget(claimed(store, Work.PURGE))
    assert seen[0] == LIMIT
    assert [size for more, size in seen.items() if more > 0] == [None] * 3


def test_a_large_request_is_told_of_without_its_products(
    store: SqliteStore, outbox: SqliteOutbox
) -> None:
    delivery = ended(store, outbox, [f"Product {number}" for number in range(400)])
    body = written(store, delivery)
    assert (body["products"], body["productsTruncated"]) == ([], True)
    assert body["totalImages"] == 401
    assert body["stats"]["images"] == 400


def test_an_end_that_a_retry_has_overtaken_is_told_without_products(
    store: SqliteStore, outbox: SqliteOutbox
) -> None:
    delivery = ended(store, outbox, ["Lamp", "Chair"])
    assert store.retry_failed("req_a", now=NOW + 20) == 1
    body = written(store, delivery)
    assert (body["status"], body["processedImages"], body["failedImages"]) == ("COMPLETED", 2, 1)
    assert (body["products"], body["productsTruncated"]) == ([], True)


def test_a_request_without_any_image_saved_nothing(
    store: SqliteStore, outbox: SqliteOutbox
) -> None:
    letters.cancelled(store)
    (delivery,) = outbox.deliveries("req_a")
    body = written(store, delivery)
    assert body["stats"]["percentSaved"] == 0
    assert body["type"] == "request.cancelled"
    assert Webhook(letters.HOOK).url not in json.dumps(body), "the endpoint is nobody's business"


def test_nothing_can_be_told_of_a_deleted_request(store: SqliteStore, outbox: SqliteOutbox) -> None:
    letters.cancelled(store)
    (delivery,) = outbox.deliveries("req_a")
    store.delete_request("req_a", now=time.time(), purge_at=time.time())
    with pytest.raises(NotFound):
        event_body(store, delivery, url_of, BASE)

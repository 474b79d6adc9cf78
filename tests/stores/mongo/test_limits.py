"""What a document of MongoDB cannot hold is refused in words, and hurts nothing else."""

from __future__ import annotations

from contextlib import closing

import pytest

from pixmill.core.errors import SheetRejected
from pixmill.core.leases import Work
from pixmill.core.model import Product, RequestStatus
from pixmill.stores.mongo import MongoStore
from tests.contracts.records import NOW, a_request, claimed


def test_a_product_longer_than_a_document_fails_its_request_only(mongo_url: str) -> None:
    long_urls = tuple(f"http://shop.example/{number:05}/{'x' * 4000}" for number in range(4200))
    short = Product(1, "S1", "Usual", ("http://shop.example/1.jpg",), (1,))
    too_long = Product(2, "S2", "Endless", long_urls, tuple(range(1, 4201)))
    with closing(MongoStore(mongo_url)) as store:
        store.add_request(a_request())
        lease = claimed(store, Work.INGEST)
        with pytest.raises(SheetRejected, match="'S2' names 4200 images") as rejected:
            store.add_products(lease, [short, too_long])
        store.fail_request(lease, str(rejected.value), now=NOW)
        assert store.request("req_a").status is RequestStatus.FAILED


def test_a_batch_of_long_urls_is_kept(mongo_url: str) -> None:
    urls = {f"http://shop.example/{number:05}/{'ü' * 4000}": 1 for number in range(1000)}
    with closing(MongoStore(mongo_url)) as store:
        store.add_request(a_request())
        lease = claimed(store, Work.INGEST)
        assert list(store.add_images(lease, urls).values()) == list(range(1, 1001))
        store.finish_ingest(lease, now=NOW)
        assert [image.url for image in store.images("req_a", after=998)] == list(urls)[998:]

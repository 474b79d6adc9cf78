"""Read an accepted CSV and create its products, images and shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from pixmill.core.errors import NotFound, SheetRejected
from pixmill.core.leases import Lease
from pixmill.core.model import Product
from pixmill.core.shards import sheet_key
from pixmill.core.sheets.products import SheetProduct, merge_rows
from pixmill.core.sheets.reader import read_sheet
from pixmill.ports import Blobs, Clock, Store

BATCH_LINKS = 1000
"""Image references that are written in one step: what bounds the memory of an ingest."""


def ingest_csv(store: Store, blobs: Blobs, lease: Lease, clock: Clock) -> None:
    """Create the records of a request. An ingest that was cut short starts over.

    Shards are offered only when all images are known, so that an image's references never change
    after its outcome. Raises LeaseLost, and leaves the rest to whoever took over.
    """
    request = store.request(lease.request_id)
    store.begin_ingest(lease)
    try:
        with _opened(blobs, request.id) as raw:
            rows = read_sheet(raw, request.rules, request.limits).rows()
            sequence = 0
            for batch in _batches(merge_rows(rows)):
                _add(store, lease, batch, sequence)
                sequence += len(batch)
    except SheetRejected as rejected:
        store.fail_request(lease, f"The CSV could not be ingested: {rejected}", now=clock())
        return
    store.finish_ingest(lease, now=clock())


def _opened(blobs: Blobs, request_id: str) -> BinaryIO:
    try:
        return blobs.open(sheet_key(request_id, "input"))
    except NotFound:
        raise NotFound(
            "Its CSV is not among this worker's files. Unless the request was deleted, give workers"
            " and services the same PIXMILL_BLOBS, and the same PIXMILL_DATA_DIR."
        ) from None


def _add(store: Store, lease: Lease, batch: list[SheetProduct], sequence: int) -> None:
    references = Counter(link.url for product in batch for link in product.links)
    images = store.add_images(lease, references)
    store.add_products(
        lease,
        [
            Product(
                sequence=sequence + place,
                serial_number=product.serial_number,
                name=product.name,
                written=tuple(link.written for link in product.links),
                images=tuple(images[link.url] for link in product.links),
            )
            for place, product in enumerate(batch, start=1)
        ],
    )


def _batches(products: Iterable[SheetProduct]) -> Iterator[list[SheetProduct]]:
    batch: list[SheetProduct] = []
    links = 0
    for product in products:
        batch.append(product)
        links += max(1, len(product.links))
        if links >= BATCH_LINKS:
            yield batch
            batch, links = [], 0
    if batch:
        yield batch

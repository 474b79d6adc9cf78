"""Moves requests along as workers would, without any worker, so that tests say when."""

from __future__ import annotations

import io
from collections.abc import Collection
from typing import Any

from pixmill import wiring
from pixmill.core.access import NOBODY
from pixmill.core.errors import ImageErrorCode
from pixmill.core.events import Webhook
from pixmill.core.leases import Lease, Work
from pixmill.core.model import Failure, Image, Outcome, Product, Request, SheetRules, Stored
from pixmill.core.options import Options
from pixmill.core.shards import image_key
from pixmill.core.sheets import SheetLimits
from pixmill.steps.finish import finish_request
from pixmill.steps.ingest import ingest_csv
from pixmill.steps.submit import Order, submit_csv
from pixmill.web.service import Service

PICTURE = b"\xff\xd8 picture %07d"
"""What stands for a stored image: nobody here looks into it."""


def sheet(images: int, per_product: int = 1) -> bytes:
    """A CSV of so many images."""
    lines = ["Serial Number,Product Name,Input Image Urls"]
    for first in range(1, images + 1, per_product):
        urls = [
            f"https://shop.example/{number}.jpg"
            for number in range(first, min(first + per_product, images + 1))
        ]
        lines.append(f'{first},Product {first},"{",".join(urls)}"')
    return "\n".join(lines).encode() + b"\n"


def submitted(
    service: Service,
    csv: bytes | int = 3,
    *,
    owner: str = NOBODY,
    filename: str = "products.csv",
    webhook: Webhook | None = None,
) -> Request:
    """A request that was just accepted; a number stands for a CSV of so many images."""
    content = sheet(csv) if isinstance(csv, int) else csv
    order = Order(filename, Options(), SheetRules(), owner, webhook)
    request, _ = submit_csv(
        service.store, service.blobs, io.BytesIO(content), order, SheetLimits(), service.clock
    )
    return request


def ingested(service: Service, csv: bytes | int = 3, **more: Any) -> Request:
    """A request whose images are all pending."""
    request = submitted(service, csv, **more)
    ingest(service, claimed(service, Work.INGEST))
    return service.store.request(request.id)


def finished(
    service: Service, csv: bytes | int = 3, *, failing: Collection[int] = (), **more: Any
) -> Request:
    """A request that is through; the images with these sequences failed."""
    request = ingested(service, csv, **more)
    return work_off(service, request.id, failing=failing)


def work_off(service: Service, request_id: str, *, failing: Collection[int] = ()) -> Request:
    """Do all the work that there is; it must be of this request."""
    while lease := service.store.claim("test", now=service.clock(), lease_seconds=60):
        assert lease.request_id == request_id
        if lease.work is Work.FINISH:
            finish(service, lease)
        elif lease.work is Work.INGEST:
            ingest(service, lease)
        else:
            settle(service, lease, failing=failing)
            service.store.complete_shard(lease, now=service.clock())
    return service.store.request(request_id)


def settle(
    service: Service, lease: Lease, *, count: int | None = None, failing: Collection[int] = ()
) -> None:
    """Give the images of a shard, or the first so many, their outcomes."""
    images = service.store.pending_images(lease)[:count]
    outcomes = [_outcome(image, failed=image.sequence in failing) for image in images]
    service.blobs.put_all(
        {
            outcome.result.key: PICTURE % outcome.sequence
            for outcome in outcomes
            if isinstance(outcome.result, Stored)
        }
    )
    assert not service.store.record_outcomes({lease: outcomes}, now=service.clock())


def ingest(service: Service, lease: Lease) -> None:
    """Make the records of a request."""
    ingest_csv(service.store, service.blobs, lease, service.clock)


def half_ingested(service: Service) -> Request:
    """A request of two products with three images, of which the first product is known by now."""
    request = submitted(service, sheet(3, per_product=2))
    lease = claimed(service, Work.INGEST)
    assert lease.request_id == request.id
    service.store.begin_ingest(lease)
    urls = ("https://shop.example/1.jpg", "https://shop.example/2.jpg")
    images = service.store.add_images(lease, dict.fromkeys(urls, 1))
    first = Product(1, "1", "Product 1", urls, tuple(images.values()))
    service.store.add_products(lease, [first])
    return request


def finish(service: Service, lease: Lease) -> None:
    """Write the sheets and close the request."""
    url_of = wiring.url_of(service.settings)
    finish_request(service.store, service.blobs, lease, url_of, service.clock)


def claimed(service: Service, work: Work) -> Lease:
    """The next lease, which must be of this kind."""
    lease = service.store.claim("test", now=service.clock(), lease_seconds=60)
    assert lease is not None
    assert lease.work is work
    return lease


def _outcome(image: Image, *, failed: bool) -> Outcome:
    if failed:
        failure = Failure(ImageErrorCode.HTTP_ERROR, "The server answered 404.")
        return Outcome(image.sequence, failure, attempts=1, duration=0.5)
    data = PICTURE % image.sequence
    stored = Stored(
        key=image_key(image.request_id, image.sequence, "jpeg"),
        format="jpeg",
        bytes_in=4 * len(data),
        bytes_out=len(data),
        width=30,
        height=20,
        source_format="png",
        source_width=300,
        source_height=200,
    )
    return Outcome(image.sequence, stored, attempts=2, duration=0.2500001)

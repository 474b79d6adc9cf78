"""Requests, leases and outcomes for tests."""

from __future__ import annotations

from datetime import UTC, datetime

from pixmill.core.errors import ImageErrorCode
from pixmill.core.leases import Lease, Work, judge
from pixmill.core.limits import SheetLimits
from pixmill.core.model import (
    Failure,
    Notice,
    Outcome,
    Product,
    Request,
    RequestStatus,
    SheetRules,
    Stored,
)
from pixmill.core.options import Options
from pixmill.ports import Store

NOW = 1_800_000_000.0
LATE = NOW + 1000


def a_request(request_id: str = "req_a", images: int = 3) -> Request:
    """A request as it is when it was just accepted."""
    moment = datetime.fromtimestamp(NOW, UTC)
    return Request(
        id=request_id,
        status=RequestStatus.PENDING,
        filename="products.csv",
        digest=f"digest of {request_id}",
        options=Options(quality=61, max_width=900),
        rules=SheetRules(url_cols=("Photo",), delimiter=";"),
        total_images=images,
        total_products=images,
        processed_images=0,
        failed_images=0,
        error=None,
        created_at=moment,
        updated_at=moment,
        finished_at=None,
        limits=SheetLimits(max_urls_per_cell=7),
    )


def done(sequence: int, *, notices: tuple[Notice, ...] = ()) -> Outcome:
    """A success."""
    stored = Stored(
        key=f"images/req_a/{sequence:07d}.jpg",
        format="jpeg",
        bytes_in=1000,
        bytes_out=400,
        width=30,
        height=20,
        source_format="png",
        source_width=300,
        source_height=200,
        notices=notices,
    )
    return Outcome(sequence, stored, attempts=1, duration=0.25)


def failed(sequence: int, code: ImageErrorCode = ImageErrorCode.HTTP_ERROR) -> Outcome:
    """A failure."""
    return Outcome(sequence, Failure(code, "It answered 404."), attempts=1, duration=0.5)


def claimed(store: Store, work: Work, *, worker: str = "w1", now: float = NOW) -> Lease:
    """The next lease, which must be of this kind."""
    lease = store.claim(worker, now=now, lease_seconds=30)
    assert lease is not None
    assert lease.work is work
    return lease


def ingested(store: Store, request_id: str = "req_a", urls: int = 3) -> None:
    """Add a request whose ``urls`` images are each named by one product."""
    store.add_request(a_request(request_id, urls))
    lease = claimed(store, Work.INGEST)
    store.begin_ingest(lease)
    named = {f"http://shop.example/{number}.jpg": 1 for number in range(1, urls + 1)}
    sequences = store.add_images(lease, named)
    store.add_products(
        lease,
        [
            Product(number, f"S{number}", f"Product {number}", (url,), (sequences[url],))
            for number, url in enumerate(named, start=1)
        ],
    )
    store.finish_ingest(lease, now=NOW)


def lose(store: Store, now: float = LATE) -> None:
    """Let all leases run out and take their work back."""
    for lost in store.lost_leases(now=now):
        store.take_back(lost, judge(lost), now=now)


def finishing(store: Store, shards: list[Lease]) -> Lease:
    """Complete shards, the last ones of their request, and claim its finish."""
    for shard in shards:
        store.complete_shard(shard, now=NOW)
    return claimed(store, Work.FINISH)

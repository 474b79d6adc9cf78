"""Floor 1: what the steps need of a store, of blobs, and of the floors where bytes move."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol, TypeVar

from pixmill.core.errors import ImageErrorCode
from pixmill.core.leases import Lease, LostLease, Verdict
from pixmill.core.model import (
    Fetched,
    Image,
    ImageStatus,
    Outcome,
    Picture,
    Product,
    Request,
    SheetRules,
)
from pixmill.core.options import Options

Clock = Callable[[], float]
"""Seconds since the epoch. Handed in, so that tests can move time."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the outcomes of a request. Bytes count each stored image once.

    ``images`` are distinct ones with an outcome; ``failures`` counts references by error code;
    ``kept`` counts images whose original was kept because compressing did not make it smaller,
    ``damaged`` those whose source was cut short or otherwise damaged, yet could be read.
    """

    images: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    kept: int = 0
    damaged: int = 0
    failures: Mapping[ImageErrorCode, int] = field(default_factory=dict)


class Store(Protocol):
    """The truth: requests, products, images, outcomes, and who may work on what.

    Every method is one atomic step: it happens whole or not at all, whoever dies. All raise
    StoreUnavailable when the store is away for a moment and StorageFailure when it needs mending;
    those that take a lease raise LeaseLost when it is no longer held (``record_outcomes`` and
    ``renew`` report it instead).
    """

    def add_request(self, request: Request) -> None:
        """Keep a new request and offer its ingest. On return it survives anything."""

    def request(self, request_id: str) -> Request:
        """Return a request; raises NotFound."""

    def latest_request(self, digest: str) -> Request | None:
        """Return the newest request whose CSV and options have this digest."""

    def claim(self, worker: str, *, now: float, lease_seconds: float) -> Lease | None:
        """Take the most urgent open work, requests in turn; None when there is none."""

    def renew(self, leases: Sequence[Lease], *, until: float) -> set[str]:
        """Prolong leases; return the tokens of those that are lost."""

    def release(self, lease: Lease) -> None:
        """Hand unfinished work back without a loss; nothing happens if the lease is lost."""

    def expire_leases(self, worker: str | None = None) -> None:
        """Let all leases of a worker known to be dead run out now; of every worker if None.

        Should it live after all (a worker outlives its killed parent by seconds), it is fenced off
        at once: it can neither renew them nor record anything.
        """

    def lost_leases(self, *, now: float, limit: int = 100) -> list[LostLease]:
        """Return leases that have run out and were not taken back yet."""

    def take_back(self, lost: LostLease, verdict: Verdict, *, now: float) -> None:
        """Offer lost work again as judged, and record the image it is blamed on."""

    def begin_ingest(self, lease: Lease) -> None:
        """Start over: drop what an earlier attempt to ingest this request left."""

    def add_images(self, lease: Lease, references: Mapping[str, int]) -> dict[str, int]:
        """Add references of source URLs; return each URL's sequence (new ones count upwards)."""

    def add_products(self, lease: Lease, products: Sequence[Product]) -> None:
        """Add products."""

    def finish_ingest(self, lease: Lease, *, now: float) -> None:
        """Cut the images into shards and offer them."""

    def pending_images(self, lease: Lease) -> list[Image]:
        """Return a shard's images that have no outcome yet, in order."""

    def mark_trying(self, lease: Lease, sequence: int) -> None:
        """Note, before the attempt, which image a worker that works alone is about to try."""

    def record_outcomes(
        self, batches: Mapping[Lease, Sequence[Outcome]], *, now: float
    ) -> set[str]:
        """Record outcomes and count them; return the tokens of leases that were lost.

        An image that has an outcome keeps it: what comes later is dropped and not counted.
        """

    def complete_shard(self, lease: Lease, *, now: float) -> None:
        """Close a shard whose images all have outcomes; the last one offers the finish."""

    def close_request(self, lease: Lease, *, now: float) -> Request:
        """Make a request terminal, with its counters counted anew from the outcomes."""

    def fail_request(self, lease: Lease, error: str, *, now: float) -> None:
        """End a request whose CSV cannot be ingested."""

    def retry_failed(self, request_id: str, *, now: float) -> int:
        """Reopen the failed images of a terminal request; return how many references they are."""

    def products(self, request_id: str, *, after: int = 0, limit: int = 1000) -> list[Product]:
        """Return products in order, those after the sequence ``after``."""

    def images(
        self,
        request_id: str,
        *,
        sequences: Sequence[int] | None = None,
        status: ImageStatus | None = None,
        after: int = 0,
        limit: int = 1000,
    ) -> list[Image]:
        """Return images in order: the named ones, or those of a status after ``after``."""

    def totals(self, request_id: str) -> Totals:
        """Sum up the outcomes so far."""

    def close(self) -> None:
        """Let go of connections and files."""


class Workshop(Protocol[T]):
    """Where images are fetched and compressed, many at once, for one thread that never waits.

    That thread begins things, each under a ticket, and takes from ``wait`` what has ended. A
    protocol, since the steps must not see the sockets below.
    """

    def fetch(self, ticket: T, image: Image, rules: SheetRules) -> None:
        """Begin to get an image's source, as its request's rules allow."""

    def compress(self, ticket: T, fetched: Fetched, options: Options) -> None:
        """Begin to make a picture of a source, which stays the caller's."""

    def wait(self, seconds: float | None) -> Sequence[tuple[T, Fetched | Picture | Exception]]:
        """Return what has ended, waiting up to so long for the first; a temporary file is yours.

        An exception is what went wrong with one image, an ImageError unless it is our mistake.
        Raises PixmillError when nothing can go on, whatever the image.
        """

    def wake(self) -> None:
        """End the wait, or the next one, at once. The only call for other threads."""


class Blobs(Protocol):
    """Where images and sheets lie, under keys such as ``images/<request>/0000001.jpg``.

    Raises StorageFailure when something cannot be stored or read.
    """

    def put(self, key: str, data: bytes | BinaryIO) -> None:
        """Store a whole file durably, in place of any earlier one, or leave things as they were."""

    def put_all(self, files: Mapping[str, bytes]) -> None:
        """Store several whole files; when this returns, all of them survive a power cut.

        Much cheaper than one ``put`` after the other. If it fails, each file is whole or as it was.
        """

    def open(self, key: str) -> BinaryIO:
        """Open a stored file for reading and seeking."""

"""What the steps need of a store: requests, work, images and outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pixmill.core.errors import ImageErrorCode
from pixmill.core.leases import Hint, Lease, LostLease, Verdict
from pixmill.core.model import Image, ImageStatus, Once, Outcome, Product, Request, RequestStatus


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


@dataclass(frozen=True, slots=True)
class Census:
    """What a whole store holds: requests by status, and image references of all of them."""

    requests: Mapping[RequestStatus, int]
    processed_images: int
    failed_images: int
    pending_images: int


class Store(Protocol):
    """The truth: requests, products, images, outcomes, and who may work on what.

    Every method is one atomic step: it happens whole or not at all, whoever dies. All raise
    StoreUnavailable when the store is away for a moment and StorageFailure when it needs mending;
    those that take a lease raise LeaseLost when it is no longer held (``record_outcomes`` and
    ``renew`` report it instead).
    """

    def expect_request(self, request: Request, *, purge_at: float) -> None:
        """Note that files of a request are about to be stored; nobody sees it before it is added.

        If it is not added by then, whoever died or was refused, its purge is offered.
        """

    def add_request(self, request: Request, once: Once | None = None) -> None:
        """Keep a new request and offer its ingest. On return it survives anything.

        ``once`` is kept with it, for the request's owner; raises AlreadyAccepted, and keeps
        nothing, if the owner's key is in use already. An owner whose requests were taken over
        meanwhile, by the first key or by one that replaces another, hands this one over as well.
        """

    def accepted(self, owner: str, key: str, *, now: float) -> Once | None:
        """Return what an idempotency key stands for, while it is kept (24 hours).

        It is the owner's, or of who has taken over the owner's requests.
        """

    def request(self, request_id: str) -> Request:
        """Return a request; raises NotFound."""

    def requests(
        self,
        owner: str,
        *,
        status: RequestStatus | None = None,
        before: Request | None = None,
        limit: int = 100,
    ) -> list[Request]:
        """Return an owner's requests, newest first: those made before ``before``.

        Of ``before``, only the id and the time of its making count: it may be gone by now.
        """

    def latest_request(self, digest: str) -> Request | None:
        """Return the newest request whose CSV and options have this digest."""

    def finished_before(self, moment: float, *, limit: int = 100) -> list[Request]:
        """Return requests of all owners that became terminal before then, the oldest first."""

    def claim(self, worker: str, *, now: float, lease_seconds: float) -> Lease | None:
        """Take the most urgent open work, requests in turn; None when there is none."""

    def claim_hinted(
        self, hint: Hint, worker: str, *, now: float, lease_seconds: float
    ) -> Lease | None:
        """Take just this work; None unless it is open, and due if it is a purge.

        Its request had its turn then, as if ``claim`` had chosen it.
        """

    def take_hints(self, *, now: float, told_before: float) -> list[Hint]:
        """Return open work that workers are to be told of, and note that they are told of it now.

        Of the requests whose turn is next (32), the next pieces of work (16 of each) are told of,
        and no more before some are claimed: however large the requests, few hints are on their way,
        and a new request is not behind all the work of an old one. Work that was told of before
        ``told_before`` and is still open is told of again, as its hint may be lost. Of callers at
        the same moment, one is given a piece.
        """

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
        """End a request whose CSV cannot be ingested, or whose sheets cannot be written.

        Of an ingest nothing is kept. A finish leaves the outcomes, and the status is theirs.
        """

    def retry_failed(self, request_id: str, *, now: float) -> int:
        """Reopen the failed images of a terminal request; return how many references they are.

        A request that ended before its ingest was over is ingested anew; then all its references
        count. One without failed images that was cancelled, or has an error, is finished anew: it
        is open again though none count. Raises NotFound, and WrongState while the request is not
        terminal.
        """

    def cancel_request(self, request_id: str, *, now: float) -> Request:
        """Make a request terminal at once: what is done stays, what is pending fails as cancelled.

        All its leases are lost. A request whose ingest was not over keeps no image. Raises
        NotFound, and WrongState if it is terminal already.
        """

    def delete_request(self, request_id: str, *, now: float, purge_at: float) -> None:
        """Hide a request from everybody, end its work, and offer its purge from a time on.

        Raises NotFound. All its leases are lost, and its idempotency key is free again.
        """

    def forget(self, lease: Lease, *, limit: int = 5000) -> bool:
        """Drop so many of the records of a deleted request; True once nothing is left of it."""

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

    def longest_wait(self, *, now: float) -> float:
        """Return for how many seconds the request that has waited longest has waited for its turn.

        A request waits while it has open work: since some of its work was last taken, or since its
        next work was offered, whichever is later. 0 if none waits. As requests are served in turn,
        this grows without bound only when nobody works.
        """

    def oldest_work(self, *, now: float) -> float:
        """Return for how many seconds the work that was offered first has been open.

        0 if none is open. It grows while there is more work than workers can do.
        """

    def census(self) -> Census:
        """Count what there is."""

    def close(self) -> None:
        """Let go of connections and files."""

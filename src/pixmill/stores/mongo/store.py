"""The Store port on MongoDB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pixmill.core.errors import StoreUnavailable
from pixmill.core.leases import Hint, Lease, LostLease, Verdict
from pixmill.core.model import (
    Image,
    ImageStatus,
    Once,
    Outcome,
    Product,
    Request,
    RequestStatus,
)
from pixmill.ports import Census, Totals
from pixmill.stores.mongo import (
    contents,
    deliveries,
    documents,
    endings,
    hints,
    ingest,
    leases,
    outcomes,
    requests,
)
from pixmill.stores.mongo.database import Database, Step

LOOKS = 10
"""How often outcomes are looked up anew because others changed something in between."""


class MongoStore:
    """Requests and their work in a database of a MongoDB replica set, for any number of machines.

    Here is where transactions begin and end; what happens inside is in the other modules. Nothing
    is connected before the first use.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)

    def close(self) -> None:
        """Let go of the connections."""
        self._database.close()

    # --- requests ---------------------------------------------------------------------------

    def expect_request(self, request: Request, *, purge_at: float) -> None:
        """Note that files of a request are about to be stored; nobody sees it before it is added.

        If it is not added by then, its purge is offered.
        """
        self._database.write(lambda step: requests.expect(step, request, purge_at))

    def add_request(self, request: Request, once: Once | None = None) -> None:
        """Keep a new request and offer its ingest. On return it survives anything."""
        self._database.write(lambda step: requests.add(step, request, once))

    def accepted(self, owner: str, key: str, *, now: float) -> Once | None:
        """Return what an owner's idempotency key stands for, while it is kept (24 hours)."""
        with self._database.using() as step:
            return requests.accepted(step, owner, key, now)

    def request(self, request_id: str) -> Request:
        """Return a request; raises NotFound."""
        with self._database.using() as step:
            return documents.to_request(requests.find(step, request_id))

    def requests(
        self,
        owner: str,
        *,
        status: RequestStatus | None = None,
        before: Request | None = None,
        limit: int = 100,
    ) -> list[Request]:
        """Return an owner's requests, newest first: those made before ``before``."""
        with self._database.using() as step:
            return requests.page(step, owner, status=status, before=before, limit=limit)

    def latest_request(self, digest: str) -> Request | None:
        """Return the newest request whose CSV and options have this digest."""
        with self._database.using() as step:
            return requests.latest(step, digest)

    def finished_before(self, moment: float, *, limit: int = 100) -> list[Request]:
        """Return requests of all owners that became terminal before then, the oldest first."""
        with self._database.using() as step:
            return requests.finished_before(step, moment, limit)

    def close_request(self, lease: Lease, *, now: float) -> Request:
        """Make a request terminal, with its counters counted anew from the outcomes."""
        return self._database.write(lambda step: endings.close(step, lease, now))

    def fail_request(self, lease: Lease, error: str, *, now: float) -> None:
        """End a request whose CSV cannot be ingested, or whose sheets cannot be written."""

        def change(step: Step) -> None:
            leases.hold(step, lease)
            endings.fail(step, lease, error, now)

        self._database.write(change)

    def cancel_request(self, request_id: str, *, now: float) -> Request:
        """Make a request terminal at once: what is done stays, what is pending fails as cancelled.

        Raises NotFound, and WrongState if it is terminal already.
        """
        return self._database.write(lambda step: endings.cancel(step, request_id, now))

    def retry_failed(self, request_id: str, *, now: float) -> int:
        """Reopen the failed images of a terminal request; return how many references they are.

        Raises NotFound, and WrongState while the request is not terminal.
        """
        return self._database.write(lambda step: endings.retry(step, request_id, now))

    def delete_request(self, request_id: str, *, now: float, purge_at: float) -> None:
        """Hide a request from everybody, end its work, and offer its purge from a time on."""
        self._database.write(lambda step: endings.delete(step, request_id, now, purge_at))

    def forget(self, lease: Lease, *, limit: int = 5000) -> bool:
        """Drop so many of the records of a deleted request; True once nothing is left of it."""
        return self._database.write(lambda step: endings.forget(step, lease, limit))

    def longest_wait(self, *, now: float) -> float:
        """Return for how many seconds the request that has waited longest waits for its turn."""
        with self._database.reading() as step:
            return leases.longest_wait(step, now)

    def oldest_work(self, *, now: float) -> float:
        """Return for how many seconds the work that was offered first has been open."""
        with self._database.reading() as step:
            return leases.oldest_work(step, now)

    def census(self) -> Census:
        """Count what there is."""
        with self._database.using() as step:
            return requests.census(step)

    # --- leases -----------------------------------------------------------------------------

    def claim(self, worker: str, *, now: float, lease_seconds: float) -> Lease | None:
        """Take the most urgent open work, requests in turn; None when there is none."""
        with self._database.using() as step:
            return leases.claim(step, worker, now=now, lease_seconds=lease_seconds)

    def claim_hinted(
        self, hint: Hint, worker: str, *, now: float, lease_seconds: float
    ) -> Lease | None:
        """Take just this work; None unless it is open, and due if it is a purge."""
        with self._database.using() as step:
            return leases.claim_hinted(step, hint, worker, now=now, lease_seconds=lease_seconds)

    def take_hints(self, *, now: float, told_before: float) -> list[Hint]:
        """Return open work that workers are to be told of, and note that they are told now."""
        with self._database.using() as step:
            return hints.take_work(step, now, told_before)

    def renew(self, held: Sequence[Lease], *, until: float) -> set[str]:
        """Prolong leases; return the tokens of those that are lost."""
        self._database.clear()
        with self._database.using() as step:
            return leases.renew(step, held, until)

    def release(self, lease: Lease) -> None:
        """Hand unfinished work back without a loss; nothing happens if the lease is lost."""
        self._database.write(lambda step: leases.release(step, lease))

    def expire_leases(self, worker: str | None = None) -> None:
        """Let all leases of a worker known to be dead run out now; of every worker if None.

        Should it live after all, it is fenced off at once.
        """

        def change(step: Step) -> None:
            leases.expire(step, worker)
            deliveries.expire(step, worker)

        self._database.write(change)

    def lost_leases(self, *, now: float, limit: int = 100) -> list[LostLease]:
        """Return leases that have run out and were not taken back yet."""
        self._database.clear()
        with self._database.reading() as step:
            return leases.lost(step, now, limit)

    def take_back(self, lost: LostLease, verdict: Verdict, *, now: float) -> None:
        """Offer lost work again as judged, and record the image it is blamed on."""

        def change(step: Step) -> None:
            request = leases.take_back(step, lost, verdict, now=now)
            if request is None:
                return
            if lost.trying is not None:
                outcomes.strike(step, request, lost.trying)
                if verdict.crashed:
                    crash = Outcome(lost.trying, verdict.crashed, lost.strikes + 1, 0)
                    outcomes.settle(step, request, crash, now)
            if verdict.give_up:
                endings.fail(step, lost.lease, verdict.give_up, now)

        self._database.write(change)

    # --- ingest -----------------------------------------------------------------------------

    def begin_ingest(self, lease: Lease) -> None:
        """Start over: drop what an earlier attempt to ingest this request left.

        In slices, each of which is fenced: an ingest that is cut short here starts over again.
        """
        while not self._database.write(lambda step: ingest.drop_slice(step, lease)):
            pass

    def add_images(self, lease: Lease, references: Mapping[str, int]) -> dict[str, int]:
        """Add references of source URLs; return each URL's sequence (new ones count upwards)."""
        return self._database.write(lambda step: ingest.add_images(step, lease, references))

    def add_products(self, lease: Lease, products: Sequence[Product]) -> None:
        """Add products."""
        self._database.write(lambda step: ingest.add_products(step, lease, products))

    def finish_ingest(self, lease: Lease, *, now: float) -> None:
        """Cut the images into shards and offer them."""
        self._database.write(lambda step: ingest.finish(step, lease, now))

    # --- outcomes ---------------------------------------------------------------------------

    def pending_images(self, lease: Lease) -> list[Image]:
        """Return a shard's images that have no outcome yet, in order."""
        with self._database.using() as step:
            return contents.pending(step, lease)

    def mark_trying(self, lease: Lease, sequence: int) -> None:
        """Note, before the attempt, which image a worker that works alone is about to try."""
        with self._database.using() as step:
            leases.mark_trying(step, lease, sequence)

    def record_outcomes(
        self, batches: Mapping[Lease, Sequence[Outcome]], *, now: float
    ) -> set[str]:
        """Record outcomes and count them; return the tokens of leases that were lost.

        What counts is looked up before the transaction, so that it can begin with the counters and
        be short; it makes sure that nothing has changed since.
        """
        held = list(batches)
        for _ in range(LOOKS):
            if not held:
                break
            with self._database.using() as step:
                found = outcomes.recordable(step, {lease: batches[lease] for lease in held})
            try:
                self._database.write(
                    lambda step, held=held, found=found: outcomes.record(step, held, found, now)  # type: ignore[misc]  # mypy infers no lambda defaults
                )
            except outcomes.ChangedMeanwhileError:
                with self._database.using() as step:
                    tokens = leases.tokens_held(step, held)
                held = [lease for lease in held if lease.token in tokens]
            else:
                break
        else:
            raise StoreUnavailable("Outcomes could not be recorded: others change the same ones.")
        return {lease.token for lease in batches} - {lease.token for lease in held}

    def complete_shard(self, lease: Lease, *, now: float) -> None:
        """Close a shard whose images all have outcomes; the last one offers the finish."""
        self._database.write(lambda step: endings.complete_shard(step, lease, now))

    # --- reading ----------------------------------------------------------------------------

    def products(self, request_id: str, *, after: int = 0, limit: int = 1000) -> list[Product]:
        """Return products in order, those after the sequence ``after``."""
        with self._database.reading() as step:
            return contents.products(step, request_id, after=after, limit=limit)

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
        with self._database.reading() as step:
            return contents.images(
                step, request_id, sequences=sequences, status=status, after=after, limit=limit
            )

    def totals(self, request_id: str) -> Totals:
        """Sum up the outcomes so far."""
        with self._database.reading() as step:
            return contents.totals(step, request_id)

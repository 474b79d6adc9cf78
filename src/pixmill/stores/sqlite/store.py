"""The Store port on SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pixmill.core.leases import Hint, Lease, LostLease, Verdict, Work
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
from pixmill.stores.sqlite import (
    contents,
    deliveries,
    endings,
    hints,
    ingest,
    leases,
    outcomes,
    requests,
)
from pixmill.stores.sqlite.database import Database


class SqliteStore:
    """Requests and their work in one SQLite file, for all processes of a machine.

    Here is where transactions begin and end; what happens inside is in the other modules.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path)

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    @contextmanager
    def _held(self, lease: Lease) -> Iterator[sqlite3.Connection]:
        """A transaction in which the lease is held: fenced, however late the caller comes."""
        with self._database.write() as db:
            leases.hold(db, lease)
            yield db

    # --- requests ---------------------------------------------------------------------------

    def expect_request(self, request: Request, *, purge_at: float) -> None:
        """Note that files of a request are about to be stored; nobody sees it before it is added.

        If it is not added by then, its purge is offered.
        """
        with self._database.write() as db:
            requests.expect(db, request, purge_at)

    def add_request(self, request: Request, once: Once | None = None) -> None:
        """Keep a new request and offer its ingest. On return it survives anything."""
        with self._database.write() as db:
            requests.add(db, request, once)

    def accepted(self, owner: str, key: str, *, now: float) -> Once | None:
        """Return what an idempotency key stands for, while it is kept (24 hours)."""
        with self._database.read() as db:
            return requests.accepted(db, owner, key, now)

    def request(self, request_id: str) -> Request:
        """Return a request; raises NotFound."""
        with self._database.read() as db:
            return requests.find(db, request_id)

    def requests(
        self,
        owner: str,
        *,
        status: RequestStatus | None = None,
        before: Request | None = None,
        limit: int = 100,
    ) -> list[Request]:
        """Return an owner's requests, newest first: those made before ``before``."""
        with self._database.read() as db:
            return requests.page(db, owner, status=status, before=before, limit=limit)

    def latest_request(self, digest: str) -> Request | None:
        """Return the newest request whose CSV and options have this digest."""
        with self._database.read() as db:
            return requests.latest(db, digest)

    def finished_before(self, moment: float, *, limit: int = 100) -> list[Request]:
        """Return requests of all owners that became terminal before then, the oldest first."""
        with self._database.read() as db:
            return requests.finished_before(db, moment, limit)

    def close_request(self, lease: Lease, *, now: float) -> Request:
        """Make a request terminal, with its counters counted anew from the outcomes."""
        with self._held(lease) as db:
            return endings.close(db, lease, now)

    def fail_request(self, lease: Lease, error: str, *, now: float) -> None:
        """End a request whose CSV cannot be ingested, or whose sheets cannot be written."""
        with self._held(lease) as db:
            endings.fail(db, lease, error, now)

    def cancel_request(self, request_id: str, *, now: float) -> Request:
        """Make a request terminal at once: what is done stays, what is pending fails as cancelled.

        Raises NotFound, and WrongState if it is terminal already.
        """
        with self._database.write() as db:
            return endings.cancel(db, request_id, now)

    def retry_failed(self, request_id: str, *, now: float) -> int:
        """Reopen the failed images of a terminal request; return how many references they are.

        Raises NotFound, and WrongState while the request is not terminal.
        """
        with self._database.write() as db:
            return endings.retry(db, request_id, now)

    def delete_request(self, request_id: str, *, now: float, purge_at: float) -> None:
        """Hide a request from everybody, end its work, and offer its purge from a time on."""
        with self._database.write() as db:
            endings.delete(db, request_id, now, purge_at)

    def forget(self, lease: Lease, *, limit: int = 5000) -> bool:
        """Drop so many of the records of a deleted request; True once nothing is left of it."""
        with self._held(lease) as db:
            return endings.forget(db, lease.request_id, limit)

    def longest_wait(self, *, now: float) -> float:
        """Return for how many seconds the request that has waited longest waits for its turn."""
        with self._database.read() as db:
            return leases.longest_wait(db, now)

    def oldest_work(self, *, now: float) -> float:
        """Return for how many seconds the work that was offered first has been open."""
        with self._database.read() as db:
            return leases.oldest_work(db, now)

    def census(self) -> Census:
        """Count what there is."""
        with self._database.read() as db:
            return requests.census(db)

    # --- leases -----------------------------------------------------------------------------

    def claim(self, worker: str, *, now: float, lease_seconds: float) -> Lease | None:
        """Take the most urgent open work, requests in turn; None when there is none."""
        with self._database.read() as db:
            if (
                leases.next_open(db, now) is None
            ):  # an idle worker looks often and should lock nothing
                return None
        with self._database.write() as db:
            return leases.claim(db, worker, now=now, lease_seconds=lease_seconds)

    def claim_hinted(
        self, hint: Hint, worker: str, *, now: float, lease_seconds: float
    ) -> Lease | None:
        """Take just this work; None unless it is open, and due if it is a purge."""
        with self._database.read() as db:
            if not leases.can_claim(db, hint, now):  # a doubled or late hint should lock nothing
                return None
        with self._database.write() as db:
            return leases.claim_hinted(db, hint, worker, now=now, lease_seconds=lease_seconds)

    def take_hints(self, *, now: float, told_before: float) -> list[Hint]:
        """Return open work that workers are to be told of, and note that they are told now."""
        with self._database.read() as db:
            if not hints.untold_work(db, now, told_before):  # who asks often should lock nothing
                return []
        with self._database.write() as db:
            untold = hints.untold_work(db, now, told_before)
            hints.tell_of_work(db, untold, now)
            return untold

    def renew(self, held: Sequence[Lease], *, until: float) -> set[str]:
        """Prolong leases; return the tokens of those that are lost."""
        with self._database.write() as db:
            return {
                lease.token
                for lease in held
                if not db.execute(
                    "UPDATE work SET expires = ?" + leases.HELD, (until, *leases.held(lease))
                ).rowcount
            }

    def release(self, lease: Lease) -> None:
        """Hand unfinished work back without a loss; nothing happens if the lease is lost."""
        with self._database.write() as db:
            db.execute(f"UPDATE work SET {leases.OPEN}" + leases.HELD, leases.held(lease))

    def expire_leases(self, worker: str | None = None) -> None:
        """Let all leases of a worker known to be dead run out now; of every worker if None.

        Should it live after all, it is fenced off at once.
        """
        with self._database.write() as db:
            db.execute(
                "UPDATE work SET expires = 0, token = lower(hex(randomblob(16)))"
                " WHERE state = 'leased' AND (:worker IS NULL OR worker = :worker)",
                {"worker": worker},
            )
            deliveries.expire(db, worker)

    def lost_leases(self, *, now: float, limit: int = 100) -> list[LostLease]:
        """Return leases that have run out and were not taken back yet."""
        with self._database.read() as db:
            return leases.lost(db, now, limit)

    def take_back(self, lost: LostLease, verdict: Verdict, *, now: float) -> None:
        """Offer lost work again as judged, and record the image it is blamed on."""
        with self._database.write() as db:
            if not leases.take_back(db, lost, verdict, now=now):
                return
            if verdict.crashed and lost.trying is not None:
                crash = Outcome(lost.trying, verdict.crashed, attempts=lost.strikes + 1, duration=0)
                outcomes.record(db, lost.lease.request_id, [crash], now)
            if verdict.give_up:
                endings.fail(db, lost.lease, verdict.give_up, now)

    # --- ingest -----------------------------------------------------------------------------

    def begin_ingest(self, lease: Lease) -> None:
        """Start over: drop what an earlier attempt to ingest this request left."""
        with self._held(lease) as db:
            ingest.begin(db, lease.request_id)

    def add_images(self, lease: Lease, references: Mapping[str, int]) -> dict[str, int]:
        """Add references of source URLs; return each URL's sequence (new ones count upwards)."""
        with self._held(lease) as db:
            return ingest.add_images(db, lease.request_id, references)

    def add_products(self, lease: Lease, products: Sequence[Product]) -> None:
        """Add products."""
        with self._held(lease) as db:
            ingest.add_products(db, lease.request_id, products)

    def finish_ingest(self, lease: Lease, *, now: float) -> None:
        """Cut the images into shards and offer them."""
        with self._held(lease) as db:
            ingest.offer_shards(db, lease.request_id, now)
            leases.finish(db, lease)

    # --- outcomes ---------------------------------------------------------------------------

    def pending_images(self, lease: Lease) -> list[Image]:
        """Return a shard's images that have no outcome yet, in order."""
        with self._database.read() as db:
            return contents.pending(db, lease)

    def mark_trying(self, lease: Lease, sequence: int) -> None:
        """Note, before the attempt, which image a worker that works alone is about to try."""
        with self._held(lease) as db:
            db.execute("UPDATE work SET trying = ?" + leases.HELD, (sequence, *leases.held(lease)))

    def record_outcomes(
        self, batches: Mapping[Lease, Sequence[Outcome]], *, now: float
    ) -> set[str]:
        """Record outcomes and count them; return the tokens of leases that were lost."""
        lost = set()
        with self._database.write() as db:
            for lease, recorded in batches.items():
                if leases.holds(db, lease):
                    outcomes.record(db, lease.request_id, recorded, now)
                else:
                    lost.add(lease.token)
        return lost

    def complete_shard(self, lease: Lease, *, now: float) -> None:
        """Close a shard whose images all have outcomes; the last one offers the finish."""
        with self._held(lease) as db:
            leases.finish(db, lease)
            open_shards = db.execute(
                "UPDATE requests SET open_shards = open_shards - 1, updated_at = ?"
                " WHERE id = ? RETURNING open_shards",
                (now, lease.request_id),
            ).fetchone()[0]
            if open_shards == 0:
                leases.offer(db, lease.request_id, Work.FINISH, now=now)

    # --- reading ----------------------------------------------------------------------------

    def products(self, request_id: str, *, after: int = 0, limit: int = 1000) -> list[Product]:
        """Return products in order, those after the sequence ``after``."""
        with self._database.read() as db:
            return contents.products(db, request_id, after=after, limit=limit)

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
        with self._database.read() as db:
            return contents.images(
                db, request_id, sequences=sequences, status=status, after=after, limit=limit
            )

    def totals(self, request_id: str) -> Totals:
        """Sum up the outcomes so far."""
        with self._database.read() as db:
            return outcomes.totals(db, request_id)

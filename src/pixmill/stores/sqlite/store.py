"""The Store port on SQLite."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pixmill.core.errors import NotFound
from pixmill.core.leases import Lease, LostLease, Verdict, Work
from pixmill.core.model import (
    Image,
    ImageStatus,
    Outcome,
    Product,
    Request,
    RequestStatus,
    final_status,
)
from pixmill.ports import Totals
from pixmill.stores.sqlite import ingest, leases, outcomes, rows
from pixmill.stores.sqlite.database import Database


class SqliteStore:
    """Requests and their work in one SQLite file, for all processes of a machine."""

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

    def add_request(self, request: Request) -> None:
        """Keep a new request and offer its ingest. On return it survives anything."""
        values = rows.request_values(request)
        with self._database.write() as db:
            db.execute(_insert("requests", values), values)
            leases.offer(db, request.id, Work.INGEST)

    def request(self, request_id: str) -> Request:
        """Return a request; raises NotFound."""
        with self._database.read() as db:
            return _request(db, request_id)

    def latest_request(self, digest: str) -> Request | None:
        """Return the newest request whose CSV and options have this digest."""
        with self._database.read() as db:
            row = db.execute(
                "SELECT * FROM requests WHERE digest = ? ORDER BY created_at DESC LIMIT 1",
                (digest,),
            ).fetchone()
        return rows.to_request(row) if row else None

    def close_request(self, lease: Lease, *, now: float) -> Request:
        """Make a request terminal, with its counters counted anew from the outcomes."""
        with self._held(lease) as db:
            processed, failed = outcomes.count(db, lease.request_id)
            db.execute(
                "UPDATE requests SET status = ?, processed_images = ?, failed_images = ?,"
                " updated_at = ?, finished_at = ? WHERE id = ?",
                (final_status(processed), processed, failed, now, now, lease.request_id),
            )
            leases.finish(db, lease)
            return _request(db, lease.request_id)

    def fail_request(self, lease: Lease, error: str, *, now: float) -> None:
        """End a request whose CSV cannot be ingested."""
        with self._held(lease) as db:
            _fail(db, lease, error, now)

    def retry_failed(self, request_id: str, *, now: float) -> int:
        """Reopen the failed images of a terminal request; return how many references they are."""
        with self._database.write() as db:
            request = _request(db, request_id)
            failed = db.execute(
                "SELECT coalesce(sum(reference_count), 0) FROM images"
                " WHERE request_id = ? AND status = 'failed'",
                (request_id,),
            ).fetchone()[0]
            if not request.status.terminal or not failed:
                return 0
            opened = db.execute(
                "UPDATE work SET state = 'open', losses = 0, alone = 0 WHERE request_id = :id"
                " AND kind = 'shard' AND EXISTS (SELECT 1 FROM images WHERE request_id = :id"
                " AND status = 'failed' AND sequence BETWEEN work.first AND work.last)",
                {"id": request_id},
            ).rowcount
            db.execute(
                "UPDATE images SET status = 'pending', strikes = 0, code = NULL, message = NULL"
                " WHERE request_id = ? AND status = 'failed'",
                (request_id,),
            )
            db.execute(
                "UPDATE requests SET status = ?, failed_images = 0, open_shards = ?,"
                " updated_at = ?, finished_at = NULL WHERE id = ?",
                (RequestStatus.PROCESSING, opened, now, request_id),
            )
            return int(failed)

    # --- leases -----------------------------------------------------------------------------

    def claim(self, worker: str, *, now: float, lease_seconds: float) -> Lease | None:
        """Take the most urgent open work, requests in turn; None when there is none."""
        with self._database.read() as db:
            if leases.next_open(db) is None:  # an idle worker looks often and should lock nothing
                return None
        with self._database.write() as db:
            return leases.claim(db, worker, now=now, lease_seconds=lease_seconds)

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

    def lost_leases(self, *, now: float, limit: int = 100) -> list[LostLease]:
        """Return leases that have run out and were not taken back yet."""
        with self._database.read() as db:
            found = db.execute(
                "SELECT work.*, coalesce(images.strikes, 0) AS strikes FROM work"
                " LEFT JOIN images ON images.request_id = work.request_id"
                " AND images.sequence = work.trying"
                " WHERE work.state = 'leased' AND work.expires < ?"
                " ORDER BY work.expires LIMIT ?",
                (now, limit),
            ).fetchall()
        return [
            LostLease(rows.to_lease(row), row["losses"], row["trying"], row["strikes"])
            for row in found
        ]

    def take_back(self, lost: LostLease, verdict: Verdict, *, now: float) -> None:
        """Offer lost work again as judged, and record the image it is blamed on."""
        with self._database.write() as db:
            if not leases.take_back(db, lost, verdict, now=now):
                return
            if verdict.crashed and lost.trying is not None:
                crash = Outcome(lost.trying, verdict.crashed, attempts=lost.strikes + 1, duration=0)
                outcomes.record(db, lost.lease.request_id, [crash], now)
            if verdict.give_up:
                _fail(db, lost.lease, verdict.give_up, now)

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
            found = db.execute(
                "SELECT * FROM images WHERE request_id = ? AND sequence BETWEEN ? AND ?"
                " AND status = 'pending' ORDER BY sequence",
                (lease.request_id, lease.first, lease.last),
            ).fetchall()
        return [rows.to_image(row) for row in found]

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
                leases.offer(db, lease.request_id, Work.FINISH)

    # --- reading ----------------------------------------------------------------------------

    def products(self, request_id: str, *, after: int = 0, limit: int = 1000) -> list[Product]:
        """Return products in order, those after the sequence ``after``."""
        with self._database.read() as db:
            found = db.execute(
                "SELECT * FROM products WHERE request_id = ? AND sequence > ?"
                " ORDER BY sequence LIMIT ?",
                (request_id, after, limit),
            ).fetchall()
        return [rows.to_product(row) for row in found]

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
        query = "SELECT * FROM images WHERE request_id = :id AND sequence > :after"
        if sequences is not None:
            query += " AND sequence IN (SELECT value FROM json_each(:sequences))"
        if status is not None:
            query += f" AND status = '{status}'"  # spelled out, so that the partial index is used
        with self._database.read() as db:
            found = db.execute(
                query + " ORDER BY sequence LIMIT :limit",
                {
                    "id": request_id,
                    "after": after,
                    "sequences": json.dumps(sequences),
                    "limit": limit if sequences is None else len(sequences),
                },
            ).fetchall()
        return [rows.to_image(row) for row in found]

    def totals(self, request_id: str) -> Totals:
        """Sum up the outcomes so far."""
        with self._database.read() as db:
            return outcomes.totals(db, request_id)


def _fail(db: sqlite3.Connection, lease: Lease, error: str, now: float) -> None:
    db.execute(
        "UPDATE requests SET status = ?, error = ?, updated_at = ?, finished_at = ? WHERE id = ?",
        (RequestStatus.FAILED, error, now, now, lease.request_id),
    )
    db.execute("UPDATE work SET state = 'done' WHERE request_id = ?", (lease.request_id,))


def _request(db: sqlite3.Connection, request_id: str) -> Request:
    row = db.execute("SELECT * FROM requests WHERE id = ?", (request_id,)).fetchone()
    if row is None:
        raise NotFound(f"There is no request {request_id!r}.")
    return rows.to_request(row)


def _insert(table: str, values: Mapping[str, object]) -> str:
    names = ", ".join(values)
    return f"INSERT INTO {table} ({names}) VALUES ({', '.join(f':{name}' for name in values)})"

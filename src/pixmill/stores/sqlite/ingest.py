"""What an ingest writes: images, products and shards, inside a caller's transaction."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping, Sequence

from pixmill.core.events import Event
from pixmill.core.leases import Work
from pixmill.core.model import Product, RequestStatus
from pixmill.core.shards import shard_size
from pixmill.stores.sqlite import deliveries, leases


def begin(db: sqlite3.Connection, request_id: str) -> None:
    """Drop what an earlier attempt left."""
    db.execute("DELETE FROM images WHERE request_id = ?", (request_id,))
    db.execute("DELETE FROM products WHERE request_id = ?", (request_id,))
    db.execute("UPDATE requests SET last_image = 0 WHERE id = ?", (request_id,))


def add_images(
    db: sqlite3.Connection, request_id: str, references: Mapping[str, int]
) -> dict[str, int]:
    """Add references of source URLs; return each URL's sequence."""
    sequences = {}
    last = _last_image(db, request_id)
    for url, count in references.items():
        sequences[url] = db.execute(
            "INSERT INTO images (request_id, sequence, url, url_digest, reference_count)"
            " VALUES (?, ?, ?, ?, ?) ON CONFLICT (request_id, url_digest)"
            " DO UPDATE SET reference_count = reference_count + excluded.reference_count"
            " RETURNING sequence",
            (request_id, last + 1, url, _digest(url), count),
        ).fetchone()[0]
        last = max(last, sequences[url])
    db.execute("UPDATE requests SET last_image = ? WHERE id = ?", (last, request_id))
    return sequences


def add_products(db: sqlite3.Connection, request_id: str, products: Sequence[Product]) -> None:
    """Add products."""
    db.executemany(
        "INSERT INTO products VALUES (?, ?, ?, ?, ?, ?)",
        (
            (
                request_id,
                product.sequence,
                product.serial_number,
                product.name,
                json.dumps(product.written),
                json.dumps(product.images),
            )
            for product in products
        ),
    )


def offer_shards(db: sqlite3.Connection, request_id: str, now: float) -> None:
    """Cut the images into shards and offer them; without any image, offer the finish."""
    last = _last_image(db, request_id)
    size = shard_size(last)
    firsts = range(1, last + 1, size)
    for number, first in enumerate(firsts, start=1):
        final = min(last, first + size - 1)
        leases.offer(db, request_id, Work.SHARD, number, first, final, now=now)
    if not firsts:
        leases.offer(db, request_id, Work.FINISH, now=now)
    db.execute(
        "UPDATE requests SET status = ?, open_shards = ?, updated_at = ? WHERE id = ?",
        (RequestStatus.PROCESSING, len(firsts), now, request_id),
    )
    deliveries.tell(db, request_id, Event.PROCESSING, now)


def _last_image(db: sqlite3.Connection, request_id: str) -> int:
    query = "SELECT last_image FROM requests WHERE id = ?"
    return int(db.execute(query, (request_id,)).fetchone()[0])


def _digest(url: str) -> bytes:
    return hashlib.blake2b(url.encode(), digest_size=16).digest()

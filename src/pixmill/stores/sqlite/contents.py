"""What is in a request: its products and images, a page at a time."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from pixmill.core.leases import Lease
from pixmill.core.model import Image, ImageStatus, Product
from pixmill.stores.sqlite import rows
from pixmill.stores.sqlite.requests import VISIBLE


def products(db: sqlite3.Connection, request_id: str, *, after: int, limit: int) -> list[Product]:
    """Products in order."""
    found = db.execute(
        f"SELECT * FROM products WHERE request_id = :id AND sequence > :after AND {VISIBLE}"
        " ORDER BY sequence LIMIT :limit",
        {"id": request_id, "after": after, "limit": limit},
    ).fetchall()
    return [rows.to_product(row) for row in found]


def images(
    db: sqlite3.Connection,
    request_id: str,
    *,
    sequences: Sequence[int] | None,
    status: ImageStatus | None,
    after: int,
    limit: int,
) -> list[Image]:
    """Images in order: the named ones, or those of a status."""
    query = f"SELECT * FROM images WHERE request_id = :id AND sequence > :after AND {VISIBLE}"
    if sequences is not None:
        query += " AND sequence IN (SELECT value FROM json_each(:sequences))"
    if status is not None:
        query += f" AND status = '{status}'"  # spelled out, so that the partial index is used
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


def pending(db: sqlite3.Connection, lease: Lease) -> list[Image]:
    """A shard's images that have no outcome yet, in order."""
    found = db.execute(
        "SELECT * FROM images WHERE request_id = ? AND sequence BETWEEN ? AND ?"
        " AND status = 'pending' ORDER BY sequence",
        (lease.request_id, lease.first, lease.last),
    ).fetchall()
    return [rows.to_image(row) for row in found]

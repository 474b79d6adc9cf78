"""Accept a CSV: validate all of it, keep it, and create its request."""

from __future__ import annotations

import hashlib
import json
import secrets
from base64 import b32encode
from dataclasses import asdict
from datetime import UTC, datetime
from typing import BinaryIO

from pixmill.core.errors import Problem, SheetRejected
from pixmill.core.model import Request, RequestStatus, SheetRules
from pixmill.core.options import Options
from pixmill.core.shards import sheet_key
from pixmill.core.sheets.check import SheetSummary, check_sheet
from pixmill.ports import Blobs, Clock, Store


def submit_csv(
    store: Store,
    blobs: Blobs,
    csv: BinaryIO,
    *,
    filename: str,
    options: Options,
    rules: SheetRules,
    clock: Clock,
) -> tuple[Request, SheetSummary]:
    """Validate a CSV and make it a request that survives anything from here on.

    The CSV is kept before the request is, so that a request without its CSV never exists. Raises
    SheetRejected with every problem of the file.
    """
    summary = check_sheet(csv, rules)
    if not summary.total_images:
        raise SheetRejected(
            [Problem("no_images", "The file names no image. Check the column of image URLs.")]
        )
    now = datetime.fromtimestamp(clock(), UTC)
    request = Request(
        id=new_request_id(),
        status=RequestStatus.PENDING,
        filename=filename,
        digest=digest(csv, options, rules),
        options=options,
        rules=rules,
        total_images=summary.total_images,
        total_products=summary.total_products,
        created_at=now,
        updated_at=now,
    )
    csv.seek(0)
    blobs.put(sheet_key(request.id, "input"), csv)
    store.add_request(request)
    return request, summary


def digest(csv: BinaryIO, options: Options, rules: SheetRules) -> str:
    """What makes two submissions the same: the CSV's bytes, the options and how it is read."""
    csv.seek(0)
    hashed = hashlib.sha256()
    while chunk := csv.read(1024 * 1024):
        hashed.update(chunk)
    asked = {"options": options.to_json(), "rules": asdict(rules)}
    hashed.update(json.dumps(asked, sort_keys=True).encode())
    return hashed.hexdigest()


def new_request_id() -> str:
    """A request id that cannot be guessed: 128 random bits in lower-case base 32.

    Stored images are served without a key, so the id is what keeps them private.
    """
    return "req_" + b32encode(secrets.token_bytes(16)).decode().rstrip("=").lower()

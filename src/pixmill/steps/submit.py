"""Accept a CSV: validate all of it, keep it, and create its request."""

from __future__ import annotations

import hashlib
import json
import secrets
from base64 import b32encode
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import BinaryIO

from pixmill.core.access import NOBODY
from pixmill.core.errors import AlreadyAccepted, NotFound, PixmillError, Problem, SheetRejected
from pixmill.core.events import Webhook
from pixmill.core.limits import SheetLimits
from pixmill.core.model import Accepted, Once, Request, RequestStatus, SheetRules
from pixmill.core.options import Options
from pixmill.core.shards import private_folders, sheet_key
from pixmill.core.sheets.check import SheetSummary, check_sheet
from pixmill.ports import Blobs, Clock, Store

EXPECTED_SECONDS = 24 * 3600.0
"""Longer than any upload takes between storing its CSV and adding its request, in seconds."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is handed over beside the CSV: its name, what to do, who asks, and who is told."""

    filename: str
    options: Options
    rules: SheetRules
    owner: str = NOBODY
    webhook: Webhook | None = None


def submit_csv(
    store: Store, blobs: Blobs, csv: BinaryIO, order: Order, limits: SheetLimits, clock: Clock
) -> tuple[Request, SheetSummary]:
    """Validate a CSV and make it a request that survives anything from here on.

    The CSV is kept before the request is, so that a request without its CSV never exists; and the
    store is told before that, so that no CSV stays without its request. Raises SheetRejected with
    every problem of the file.
    """
    request, summary = _read(csv, order, digest(csv, order.options, order.rules), limits, clock)
    _keep(store, blobs, csv, request, None)
    return request, summary


def submit_once(
    store: Store,
    blobs: Blobs,
    csv: BinaryIO,
    order: Order,
    limits: SheetLimits,
    clock: Clock,
    *,
    key: str | None,
) -> tuple[Accepted, bool]:
    """Do the same, but only once for each of the owner's idempotency keys.

    A key that was used for the same CSV, options, rules and webhook gets the first answer again;
    the second value tells whether that is so. Raises SheetRejected, and AlreadyAccepted if the
    key was used for something else.
    """
    csv_digest = digest(csv, order.options, order.rules)
    fingerprint = _fingerprint(csv_digest, order.webhook)
    if key and (earlier := store.accepted(order.owner, key, now=clock())):
        return _replayed(earlier, fingerprint), True
    request, summary = _read(csv, order, csv_digest, limits, clock)
    accepted = Accepted(
        request_id=request.id,
        total_images=request.total_images,
        total_products=request.total_products,
        skipped_rows=summary.skipped_rows,
        warnings=summary.warnings,
    )
    once = Once(key, fingerprint, accepted) if key else None
    try:
        _keep(store, blobs, csv, request, once)
    except AlreadyAccepted:  # by a call that came at the same moment
        winner = store.accepted(order.owner, key or "", now=clock())
        if winner is None:
            raise
        return _replayed(winner, fingerprint), True
    return accepted, False


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


def _read(
    csv: BinaryIO, order: Order, csv_digest: str, limits: SheetLimits, clock: Clock
) -> tuple[Request, SheetSummary]:
    """Validate a CSV; return the request that it makes, which nobody knows of yet."""
    csv.seek(0)
    summary = check_sheet(csv, order.rules, limits)
    if not summary.total_images:
        raise SheetRejected(
            [Problem("no_images", "The file names no image. Check the column of image URLs.")]
        )
    now = datetime.fromtimestamp(clock(), UTC)
    request = Request(
        id=new_request_id(),
        status=RequestStatus.PENDING,
        filename=order.filename,
        digest=csv_digest,
        options=order.options,
        rules=order.rules,
        total_images=summary.total_images,
        total_products=summary.total_products,
        created_at=now,
        updated_at=now,
        owner=order.owner,
        limits=limits,
        webhook=order.webhook,
    )
    return request, summary


def _fingerprint(csv_digest: str, webhook: Webhook | None) -> str:
    """What an idempotency key stands for: what is to be done, and who is told of it."""
    if webhook is None:
        return csv_digest
    told = json.dumps(asdict(webhook), sort_keys=True)
    return hashlib.sha256(f"{csv_digest} {told}".encode()).hexdigest()


def _keep(store: Store, blobs: Blobs, csv: BinaryIO, request: Request, once: Once | None) -> None:
    """Keep a CSV and its request, or neither. Raises AlreadyAccepted."""
    csv.seek(0)
    store.expect_request(request, purge_at=request.created_at.timestamp() + EXPECTED_SECONDS)
    blobs.put(sheet_key(request.id, "input"), csv)
    try:
        store.add_request(request, once)
    except PixmillError:
        if _is_there(store, request.id):  # only the store's answer was lost
            return
        for folder in private_folders(request.id):
            blobs.delete_all(folder)
        raise


def _is_there(store: Store, request_id: str) -> bool:
    """Whether a request was added; raises StoreUnavailable when that cannot be told yet."""
    try:
        store.request(request_id)
    except NotFound:
        return False
    return True


def _replayed(earlier: Once, fingerprint: str) -> Accepted:
    if earlier.fingerprint != fingerprint:
        raise AlreadyAccepted(
            f"The idempotency key {earlier.key!r} was used for another upload. Send the same file"
            " and options again, or use a new key."
        )
    return earlier.accepted

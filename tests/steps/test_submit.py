"""Submitting: a request keeps who is told of it, and an idempotency key stands for that too."""

from __future__ import annotations

import io
import time

import pytest

from pixmill.blobs.folder import FolderBlobs
from pixmill.core.errors import AlreadyAccepted
from pixmill.core.events import Event, Webhook
from pixmill.core.model import Accepted, SheetRules
from pixmill.core.options import Options
from pixmill.core.sheets import SheetLimits
from pixmill.steps.submit import Order, submit_once
from pixmill.stores.sqlite import SqliteStore

SHEET = b"Serial Number,Product Name,Input Image Urls\n1,Lamp,https://a.example/1.jpg\n"
HOOK = Webhook("https://shop.example/hook")


def submit(
    store: SqliteStore, blobs: FolderBlobs, webhook: Webhook | None
) -> tuple[Accepted, bool]:
    """Submit the same sheet under the same key."""
    order = Order("products.csv", Options(), SheetRules(), webhook=webhook)
    return submit_once(
        store, blobs, io.BytesIO(SHEET), order, SheetLimits(), time.time, key="monday"
    )


@pytest.mark.parametrize("webhook", [None, HOOK])
def test_a_key_with_the_same_webhook_gets_the_first_answer_again(
    store: SqliteStore, blobs: FolderBlobs, webhook: Webhook | None
) -> None:
    first, replayed = submit(store, blobs, webhook)
    assert not replayed
    assert submit(store, blobs, webhook) == (first, True)
    assert store.request(first.request_id).webhook == webhook


@pytest.mark.parametrize(
    "other",
    [None, Webhook("https://shop.example/other"), Webhook(HOOK.url, (Event.COMPLETED,))],
)
def test_a_key_with_another_webhook_is_used_for_something_else(
    store: SqliteStore, blobs: FolderBlobs, other: Webhook | None
) -> None:
    submit(store, blobs, HOOK)
    with pytest.raises(AlreadyAccepted, match="monday"):
        submit(store, blobs, other)


def test_whom_a_request_tells_is_not_what_makes_its_csv_another(
    store: SqliteStore, blobs: FolderBlobs
) -> None:
    """``pixmill run`` finds a request again by its CSV and options alone."""
    first, _ = submit(store, blobs, HOOK)
    request = store.request(first.request_id)
    assert store.latest_request(request.digest) == request

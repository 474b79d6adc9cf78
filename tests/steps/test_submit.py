"""Submitting: a request keeps who is told of it, and an idempotency key stands for that too."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pixmill.blobs.folder import FolderBlobs
from pixmill.core.errors import AlreadyAccepted, StorageFailure
from pixmill.core.events import Event, Webhook
from pixmill.core.leases import Work
from pixmill.core.model import Accepted, Once, Request, SheetRules
from pixmill.core.options import Options
from pixmill.core.sheets import SheetLimits
from pixmill.steps.delete import purge_request
from pixmill.steps.submit import EXPECTED_SECONDS, Order, submit_once
from pixmill.stores.sqlite import SqliteStore
from tests.contracts.records import claimed

SHEET = b"Serial Number,Product Name,Input Image Urls\n1,Lamp,https://a.example/1.jpg\n"
HOOK = Webhook("https://shop.example/hook")


class FailingStore(SqliteStore):
    """A store that fails when a request is added: before that is done, or after it."""

    error: BaseException | None = None
    after = False

    def add_request(self, request: Request, once: Once | None = None) -> None:
        if self.after or not self.error:
            super().add_request(request, once)
        if self.error:
            raise self.error


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[FailingStore]:
    """Such a store, which does not fail yet."""
    with closing(FailingStore(tmp_path / "failing.db")) as made:
        yield made


def inputs(tmp_path: Path) -> list[Path]:
    """The CSVs that are kept."""
    return list((tmp_path / "blobs/.pixmill/sheets").rglob("input.csv"))


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


def test_no_csv_is_kept_of_a_request_that_cannot_be_added(
    failing: FailingStore, blobs: FolderBlobs, tmp_path: Path
) -> None:
    failing.error = StorageFailure("The disk is full.")
    with pytest.raises(StorageFailure, match="full"):
        submit(failing, blobs, None)
    assert inputs(tmp_path) == []
    failing.error = None
    assert submit(failing, blobs, None)[1] is False


def test_a_request_that_was_added_though_the_store_did_not_say_so_is_accepted(
    failing: FailingStore, blobs: FolderBlobs, tmp_path: Path
) -> None:
    failing.error, failing.after = StorageFailure("The connection broke."), True
    accepted, _ = submit(failing, blobs, None)
    assert failing.request(accepted.request_id)
    assert len(inputs(tmp_path)) == 1


def test_no_csv_stays_if_the_service_dies_before_its_request_is_added(
    failing: FailingStore, blobs: FolderBlobs, tmp_path: Path
) -> None:
    failing.error = KeyboardInterrupt()  # nothing of ours runs after a kill, nor after this
    with pytest.raises(KeyboardInterrupt):
        submit(failing, blobs, None)
    assert len(inputs(tmp_path)) == 1
    late = time.time() + EXPECTED_SECONDS
    purge_request(failing, blobs, claimed(failing, Work.PURGE, now=late))
    assert inputs(tmp_path) == []
    assert failing.claim("w1", now=late, lease_seconds=30) is None

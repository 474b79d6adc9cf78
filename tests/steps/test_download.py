"""What is handed out of a request: which sheet counts, and where handing out stops."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from pixmill.blobs.folder import FolderBlobs
from pixmill.core.errors import NotFound, WrongState
from pixmill.core.leases import Work
from pixmill.core.model import Product, Request, RequestStatus, SheetRules
from pixmill.core.options import Options
from pixmill.core.shards import sheet_key
from pixmill.core.sheets import SheetLimits
from pixmill.steps import download
from pixmill.steps.download import Sheet, ensure_terminal, open_sheet, pictures
from pixmill.steps.submit import Order, submit_csv
from pixmill.stores.sqlite import SqliteStore
from tests.contracts.records import NOW, claimed, done

CSV = b"Serial Number,Product Name,Input Image Urls\n" + b"".join(
    b"%d,Product,https://shop.example/%d.jpg\n" % (number, number) for number in range(1, 6)
)


@pytest.fixture
def request_id(store: SqliteStore, blobs: FolderBlobs) -> str:
    """A request of five images that waits for its ingest."""
    order = Order("products.csv", Options(), SheetRules())
    made, _ = submit_csv(store, blobs, io.BytesIO(CSV), order, SheetLimits(), lambda: NOW)
    return made.id


def given(store: SqliteStore, blobs: FolderBlobs, request: Request) -> bytes:
    """The output sheet of a request."""
    with open_sheet(store, blobs, request, Sheet.OUTPUT, lambda key: f"/{key}") as file:
        return file.read()


def test_a_stored_sheet_counts_only_while_it_is_that_of_the_state(
    store: SqliteStore, blobs: FolderBlobs, request_id: str
) -> None:
    request = store.request(request_id)
    blobs.put(sheet_key(request_id, "output"), b"stored")
    for status in RequestStatus:
        for error in (None, "The finish was given up."):
            counts = status in {RequestStatus.COMPLETED, RequestStatus.FAILED} and error is None
            content = given(store, blobs, replace(request, status=status, error=error))
            assert (content == b"stored") is counts, (status, error)


def test_a_deleted_request_has_no_sheet(
    store: SqliteStore, blobs: FolderBlobs, request_id: str
) -> None:
    """Deleted while its sheet is made, it would lack what was deleted first."""
    request = store.request(request_id)
    store.delete_request(request_id, now=NOW, purge_at=NOW)
    with pytest.raises(NotFound):
        given(store, blobs, request)


@pytest.mark.parametrize("status", RequestStatus)
def test_only_a_finished_request_is_given_whole(
    store: SqliteStore, request_id: str, status: RequestStatus
) -> None:
    request = replace(store.request(request_id), status=status)
    ensure_terminal(request, partial=True)
    if status.terminal:
        ensure_terminal(request, partial=False)
    else:
        with pytest.raises(WrongState, match=status):
            ensure_terminal(request, partial=False)


def test_pictures_come_in_order_over_several_pages(
    store: SqliteStore, blobs: FolderBlobs, request_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "PAGE", 2)
    fill(store, blobs)
    got = []
    for name, file in pictures(store, blobs, request_id):
        with file:
            got.append((name, file.read()))
    assert got == [(f"{number:07d}.jpg", b"%d" % number) for number in range(1, 6)]


@pytest.mark.parametrize("taken", [1, 5])
def test_pictures_of_a_request_that_is_deleted_meanwhile_end_with_an_error(
    store: SqliteStore,
    blobs: FolderBlobs,
    request_id: str,
    monkeypatch: pytest.MonkeyPatch,
    taken: int,
) -> None:
    """Otherwise what was handed out until then would look like all of it."""
    monkeypatch.setattr(download, "PAGE", 1)
    fill(store, blobs)
    handed_out = pictures(store, blobs, request_id)
    for _ in range(taken):
        next(handed_out)[1].close()
    store.delete_request(request_id, now=NOW, purge_at=NOW)
    with pytest.raises(NotFound):
        next(handed_out)


def fill(store: SqliteStore, blobs: FolderBlobs) -> None:
    """Ingest the one request and give all images their outcome."""
    lease = claimed(store, Work.INGEST)
    store.begin_ingest(lease)
    urls = {f"https://shop.example/{number}.jpg": 1 for number in range(1, 6)}
    images = store.add_images(lease, urls)
    store.add_products(
        lease,
        [
            Product(number, str(number), "", (url,), (images[url],))
            for number, url in enumerate(urls, 1)
        ],
    )
    store.finish_ingest(lease, now=NOW)
    shard = claimed(store, Work.SHARD)
    outcomes = [done(number) for number in range(1, 6)]
    store.record_outcomes({shard: outcomes}, now=NOW)
    blobs.put_all({f"images/req_a/{number:07d}.jpg": b"%d" % number for number in range(1, 6)})

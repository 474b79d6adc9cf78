"""A request's whole life through the steps: submit, ingest, process, finish."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path

import pytest

from pixmill.blobs.folder import FolderBlobs
from pixmill.core.errors import ImageError, ImageErrorCode, NotFound, SheetRejected
from pixmill.core.leases import Work
from pixmill.core.limits import SheetLimits
from pixmill.core.model import Fetched, Image, Request, RequestStatus, SheetRules
from pixmill.core.options import Options
from pixmill.core.shards import sheet_key
from pixmill.steps.finish import finish_request
from pixmill.steps.ingest import ingest_csv
from pixmill.steps.job import Pace
from pixmill.steps.pump import Pump
from pixmill.steps.submit import Order, submit_csv
from pixmill.stores.sqlite import SqliteStore
from tests.steps.workshops import ThreadedWorkshop

SHEET = b"""S. No.,Product Name,Input Image Urls,Price
1,Lamp,"https://a.example/1.jpg,https://a.example/2.jpg",10
2,Chair,"https://a.example/gone.jpg,https://a.example/1.jpg",20
3,=1+1,https://a.example/gone.jpg,30
"""


def fetch(image: Image, _rules: SheetRules) -> Fetched:
    """Everything is there but for ``gone``."""
    if "gone" in image.url:
        raise ImageError(ImageErrorCode.HTTP_ERROR, "It answered 404.", http_status=404)
    return Fetched(b"x" * 100, 100)


def submit(store: SqliteStore, blobs: FolderBlobs, sheet: bytes = SHEET) -> Request:
    """Submit a sheet with the usual rules."""
    request, _ = submit_csv(
        store,
        blobs,
        io.BytesIO(sheet),
        Order("products.csv", Options(), SheetRules()),
        SheetLimits(),
        time.time,
    )
    return request


def work_off(store: SqliteStore, blobs: FolderBlobs) -> None:
    """Do all work that there is, in this thread."""
    pump = Pump(store, blobs, ThreadedWorkshop(fetch), Pace(in_hand=2), time.time)
    while lease := store.claim("w", now=time.time(), lease_seconds=60):
        if lease.work is Work.INGEST:
            ingest_csv(store, blobs, lease, time.time)
        elif lease.work is Work.SHARD:
            pump.process_shard(lease)
        else:
            finish_request(store, blobs, lease, lambda key: f"https://cdn.example/{key}", time.time)
    pump.stop(grace=5)


def read(blobs: FolderBlobs, request: Request, name: str) -> list[list[str]]:
    """A sheet of the request as rows."""
    with blobs.open(sheet_key(request.id, name)) as file:
        text = file.read().decode()
    return list(csv.reader(text.splitlines()))


def test_a_request_goes_from_sheet_to_sheet(store: SqliteStore, blobs: FolderBlobs) -> None:
    request = submit(store, blobs)
    assert (request.total_products, request.total_images) == (3, 5)
    work_off(store, blobs)
    request = store.request(request.id)
    assert request.status is RequestStatus.COMPLETED
    assert (request.processed_images, request.failed_images) == (3, 2)
    assert request.completion_percentage == 100
    first = f"https://cdn.example/images/{request.id}/0000001.jpg"
    second = f"https://cdn.example/images/{request.id}/0000002.jpg"
    assert read(blobs, request, "output") == [
        ["S. No.", "Product Name", "Input Image Urls", "Price", "Output Image Urls"],
        [
            "1",
            "Lamp",
            "https://a.example/1.jpg,https://a.example/2.jpg",
            "10",
            f"{first},{second}",
        ],
        ["2", "Chair", "https://a.example/gone.jpg,https://a.example/1.jpg", "20", f",{first}"],
        ["3", "'=1+1", "https://a.example/gone.jpg", "30", ""],
    ]
    errors = read(blobs, request, "errors")
    assert [row[2:4] for row in errors[1:]] == [["https://a.example/gone.jpg", "http_error"]] * 2


def test_a_sheet_without_images_is_refused(store: SqliteStore, blobs: FolderBlobs) -> None:
    with pytest.raises(SheetRejected):
        submit(store, blobs, b"Handle,Title,Image Src\nlamp,Lamp,\n")
    assert store.claim("w", now=time.time(), lease_seconds=60) is None


def test_a_sheet_that_changed_after_it_was_accepted_fails_its_request(
    store: SqliteStore, blobs: FolderBlobs
) -> None:
    request = submit(store, blobs)
    blobs.put(sheet_key(request.id, "input"), b"no,csv,of,ours\n1,2,3,4\n")
    work_off(store, blobs)
    request = store.request(request.id)
    assert request.status is RequestStatus.FAILED
    assert request.error
    assert "could not be ingested" in request.error


def test_a_worker_with_other_files_than_the_service_is_told_what_to_mend(
    store: SqliteStore, blobs: FolderBlobs, tmp_path: Path
) -> None:
    submit(store, blobs)
    lease = store.claim("w", now=time.time(), lease_seconds=60)
    assert lease
    with pytest.raises(NotFound, match="PIXMILL_BLOBS"):
        ingest_csv(store, FolderBlobs(tmp_path / "elsewhere"), lease, time.time)


def test_request_ids_cannot_be_guessed(store: SqliteStore, blobs: FolderBlobs) -> None:
    ids = {submit(store, blobs).id for _ in range(20)}
    assert len(ids) == 20
    assert all(len(name.removeprefix("req_")) == 26 for name in ids)


def test_a_sheet_is_read_again_by_the_limits_it_was_accepted_under(
    store: SqliteStore, blobs: FolderBlobs
) -> None:
    wide = SheetLimits(max_urls_per_cell=150)
    urls = ",".join(f"http://a.example/{number}.jpg" for number in range(150))
    sheet = f'sku,name,images\n1,Much seen,"{urls}"\n'.encode()
    order = Order("products.csv", Options(), SheetRules())
    request, _ = submit_csv(store, blobs, io.BytesIO(sheet), order, wide, time.time)
    work_off(store, blobs)
    assert store.request(request.id).processed_images == 150
    assert read(blobs, request, "output")[1][3].count("https://cdn.example/") == 150

"""Downloads: the sheets and the pictures, whole or as far as they are."""

from __future__ import annotations

import csv
import io
import logging
import os
import socket
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from email.message import Message
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

import httpx
import pytest

from pixmill.blobs.folder import FolderBlobs
from pixmill.core.leases import Lease, Work
from pixmill.core.model import Request
from pixmill.core.shards import sheet_key
from pixmill.web.app import create_app
from pixmill.web.download import MADE_AT_ONCE, MOST_WAITING
from pixmill.web.service import Service
from tests.web.life import (
    PICTURE,
    claimed,
    finished,
    half_ingested,
    ingested,
    settle,
    sheet,
    submitted,
)
from tests.web.server import serving
from tests.web.waiting import wait_until

INPUT = "Serial Number,Product Name,Input Image Urls"
HEAD = f"{INPUT},Output Image Urls"


def outputs(answer: httpx.Response) -> list[str]:
    """The cells of the column of outputs."""
    assert answer.status_code == 200, answer.text
    return [row["Output Image Urls"] for row in csv.DictReader(io.StringIO(answer.text))]


def url(request: Request, sequence: int) -> str:
    """The URL of an image."""
    return f"/api/files/images/{request.id}/{sequence:07d}.jpg"


def test_the_output_is_the_stored_sheet_of_the_finish(
    service: Service, client: httpx.Client
) -> None:
    request = finished(service, sheet(3, per_product=2), failing=[2])
    answer = client.get(f"/api/download/{request.id}")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    with service.blobs.open(sheet_key(request.id, "output")) as stored:
        content = stored.read()
    assert answer.content == content
    assert answer.headers["content-length"] == str(len(content))
    assert outputs(answer) == [f"{url(request, 1)},", url(request, 3)]


def test_the_error_report_has_a_line_for_each_failed_image(
    service: Service, client: httpx.Client
) -> None:
    request = finished(service, 3, failing=[2])
    answer = client.get(f"/api/download/{request.id}?report=errors")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.text == (
        "Serial Number,Product Name,Input Image Url,Error Code,Error Message,Attempts\n"
        "2,Product 2,https://shop.example/2.jpg,http_error,The server answered 404.,1\n"
    )
    assert client.get(f"/api/download/{request.id}?report=other").status_code == 422


@pytest.mark.parametrize("path", ["", "?report=errors", "/images.zip"])
def test_nothing_is_given_until_the_request_is_finished_unless_asked_for_a_part(
    service: Service, client: httpx.Client, path: str
) -> None:
    for make in (submitted, ingested):
        request = make(service)
        answer = client.get(f"/api/download/{request.id}{path}")
        assert (answer.status_code, answer.json()["code"]) == (409, "wrong_state")
        assert "partial=true" in answer.json()["detail"]
        partial = f"{path}{'&' if '?' in path else '?'}partial=true"
        assert client.get(f"/api/download/{request.id}{partial}").status_code == 200


def test_a_part_is_blank_where_there_is_none_yet(service: Service, client: httpx.Client) -> None:
    request = ingested(service, 3)
    settle(service, claimed(service, Work.SHARD), count=2, failing=[1])
    partial = f"/api/download/{request.id}?partial=true"
    assert outputs(client.get(partial)) == ["", url(request, 2), ""]
    report = client.get(f"{partial}&report=errors").text.splitlines()
    assert [line.split(",")[0] for line in report[1:]] == ["1"]


def test_before_and_during_the_ingest_a_part_is_all_blank(
    service: Service, client: httpx.Client
) -> None:
    for make in (
        lambda: half_ingested(service),
        lambda: submitted(service, sheet(3, per_product=2)),
    ):
        partial = f"/api/download/{make().id}?partial=true"
        assert outputs(client.get(partial)) == [",", ""]
        assert len(client.get(f"{partial}&report=errors").text.splitlines()) == 1


def test_a_request_cancelled_during_its_ingest_has_its_input_with_blanks(
    service: Service, client: httpx.Client
) -> None:
    request = submitted(service, 3)
    service.store.begin_ingest(claimed(service, Work.INGEST))
    service.store.cancel_request(request.id, now=service.clock())
    answer = client.get(f"/api/download/{request.id}")
    assert outputs(answer) == ["", "", ""]
    assert answer.text.splitlines()[0] == HEAD


def test_a_cancelled_request_has_what_was_done(service: Service, client: httpx.Client) -> None:
    request = ingested(service, 3)
    settle(service, claimed(service, Work.SHARD), count=1)
    service.store.cancel_request(request.id, now=service.clock())
    assert outputs(client.get(f"/api/download/{request.id}")) == [url(request, 1), "", ""]
    report = client.get(f"/api/download/{request.id}?report=errors").text
    assert report.count("cancelled") >= 2


def test_a_request_whose_csv_could_not_be_ingested_has_its_input_with_blanks(
    service: Service, client: httpx.Client
) -> None:
    request = submitted(service, 2)
    lease = claimed(service, Work.INGEST)
    service.store.fail_request(lease, "The ingest ended its worker 5 times.", now=service.clock())
    assert outputs(client.get(f"/api/download/{request.id}")) == ["", ""]


def test_a_csv_that_cannot_be_read_has_no_output_and_the_answer_says_so(
    service: Service, client: httpx.Client
) -> None:
    request = submitted(service, 2)
    lease = claimed(service, Work.INGEST)
    service.store.fail_request(lease, "The CSV could not be ingested.", now=service.clock())
    service.blobs.put(sheet_key(request.id, "input"), b"no header at all")
    answer = client.get(f"/api/download/{request.id}")
    assert (answer.status_code, answer.json()["code"]) == (409, "wrong_state")
    assert "cannot be read" in answer.json()["detail"]


def test_after_a_retry_the_sheet_of_before_is_never_given(
    service: Service, client: httpx.Client
) -> None:
    """While it is retried, cancelled after it, and given up at its second finish."""
    partial = "?partial=true"

    def retried() -> tuple[Request, Lease]:
        request = finished(service, 2, failing=[1])
        assert outputs(client.get(f"/api/download/{request.id}")) == ["", url(request, 2)]
        service.store.retry_failed(request.id, now=service.clock())
        lease = claimed(service, Work.SHARD)
        settle(service, lease)
        return request, lease

    request, _ = retried()
    whole = [url(request, 1), url(request, 2)]
    assert outputs(client.get(f"/api/download/{request.id}{partial}")) == whole
    service.store.cancel_request(request.id, now=service.clock())
    assert outputs(client.get(f"/api/download/{request.id}")) == whole

    request, lease = retried()
    whole = [url(request, 1), url(request, 2)]
    service.store.complete_shard(lease, now=service.clock())
    lease = claimed(service, Work.FINISH)
    service.store.fail_request(lease, "The finish ended its worker 5 times.", now=service.clock())
    assert outputs(client.get(f"/api/download/{request.id}")) == whole


def test_a_sheet_that_somebody_removed_is_made_anew(service: Service, client: httpx.Client) -> None:
    request = finished(service, 2)
    before = client.get(f"/api/download/{request.id}").content
    folder, _, _ = sheet_key(request.id, "output").rpartition("/")
    (service.settings.data_dir / folder / "output.csv").unlink()
    assert client.get(f"/api/download/{request.id}").content == before


@pytest.mark.parametrize(
    ("uploaded", "true"),
    [
        ("products.csv", "products-output.csv"),
        ("Bücher & Möbel.csv", "Bücher & Möbel-output.csv"),
        ("写真.csv", "写真-output.csv"),
        ("../../etc/passwd", "passwd-output.csv"),
        ("C:\\files\\shop.csv", "shop-output.csv"),
        ('a"b;c\r\nX-Evil: 1.csv', "a_b_c__X-Evil_ 1-output.csv"),
        ("100%41.csv", "100_41-output.csv"),
        ("\u202egnp.csv", "_gnp-output.csv"),
        ("", "products-output.csv"),
        (".csv", "csv-output.csv"),
        ("...", "products-output.csv"),
        ("x" * 500 + ".csv", "x" * 100 + "-output.csv"),
    ],
)
def test_the_file_is_named_after_the_upload_and_safely_so(
    service: Service, client: httpx.Client, uploaded: str, true: str
) -> None:
    request = submitted(service, 1, filename=uploaded)
    answer = client.get(f"/api/download/{request.id}?partial=true")
    assert "x-evil" not in answer.headers
    header = answer.headers["content-disposition"]
    assert header.isascii()
    read = Message()
    read["Content-Disposition"] = header
    assert read.get_content_disposition() == "attachment"
    assert read.get_filename() == true or unquote(header.partition("UTF-8''")[2]) == true
    plain = header.partition('filename="')[2].partition('"')[0]
    assert plain == "".join(letter if letter.isascii() else "_" for letter in true)


def test_the_zip_has_the_output_first_and_then_every_image(
    service: Service, client: httpx.Client
) -> None:
    request = finished(service, 5, failing=[2])
    answer = client.get(f"/api/download/{request.id}/images.zip")
    assert answer.headers["content-type"] == "application/zip"
    assert 'filename="products-images.zip"' in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        names = [f"{number:07d}.jpg" for number in (1, 3, 4, 5)]
        assert archive.namelist() == ["output.csv", *names]
        assert archive.testzip() is None
        assert archive.read("output.csv") == client.get(f"/api/download/{request.id}").content
        assert archive.read("0000003.jpg") == PICTURE % 3
        made = request.created_at
        assert archive.infolist()[1].date_time[:5] == (
            *(made.year, made.month, made.day, made.hour, made.minute),
        )


def test_a_part_of_the_images_comes_as_a_whole_zip(service: Service, client: httpx.Client) -> None:
    request = ingested(service, 3)
    settle(service, claimed(service, Work.SHARD), count=1)
    answer = client.get(f"/api/download/{request.id}/images.zip?partial=true")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == ["output.csv", "0000001.jpg"]


def big(service: Service, count: int = 40) -> Request:
    """A finished request of images so large that no buffer between takes them all."""
    request = finished(service, count)
    for number in range(1, count + 1):
        service.blobs.put(f"images/{request.id}/{number:07d}.jpg", os.urandom(2_000_000))
    return request


def test_a_zip_that_cannot_be_completed_ends_as_broken_not_as_whole(
    service: Service, client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pixmill")
    request = big(service)
    with client.stream("GET", f"/api/download/{request.id}/images.zip") as answer:
        pieces = answer.iter_raw()
        next(pieces)
        client.delete(f"/api/requests/{request.id}")
        with pytest.raises(httpx.RemoteProtocolError):
            list(pieces)
    (line,) = [record for record in caplog.records if record.name.startswith("pixmill")]
    assert "is broken off" in line.getMessage()
    assert not any(record.exc_info for record in caplog.records)


def test_a_client_that_goes_away_stops_the_work(service: Service, client: httpx.Client) -> None:
    request = big(service)
    port = urlsplit(str(client.base_url)).port or 0
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(
            f"GET /api/download/{request.id}/images.zip HTTP/1.1\r\n"
            "Host: 127.0.0.1\r\n\r\n".encode()
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        wait_until(lambda: bool(open_below(service.settings.data_dir / "images")))
    wait_until(lambda: not open_below(service.settings.data_dir))
    assert client.get("/health").status_code == 200


def open_below(folder: Path) -> list[Path]:
    """The files that this process has open in a folder, but for the store's."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            target = link.readlink()
        except OSError:  # closed meanwhile
            continue
        if target.is_relative_to(folder) and "pixmill.db" not in target.name:
            found.append(target)
    return found


class Gated(FolderBlobs):
    """A folder whose files open only once the gate does."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.gate = threading.Event()
        self.opened: list[str] = []

    def open(self, key: str) -> BinaryIO:
        self.opened.append(key)
        assert self.gate.wait(60)
        return super().open(key)


@pytest.fixture
def gated(service: Service) -> Iterator[tuple[Service, Gated, httpx.Client]]:
    """A service whose sheets are not made until a gate opens."""
    blobs = Gated(service.settings.data_dir)
    slow = replace(service, blobs=blobs)
    limits = httpx.Limits(max_connections=None)
    with (
        serving(create_app(slow)) as url,
        httpx.Client(base_url=url, timeout=60, limits=limits) as client,
    ):
        yield slow, blobs, client
        blobs.gate.set()


def test_many_who_want_a_sheet_made_neither_stop_others_nor_wait_without_end(
    gated: tuple[Service, Gated, httpx.Client],
) -> None:
    service, blobs, client = gated
    request = ingested(replace(service, blobs=FolderBlobs(service.settings.data_dir)))
    path = f"/api/download/{request.id}?partial=true"
    many = MADE_AT_ONCE + MOST_WAITING
    with ThreadPoolExecutor(many + 23) as pool:
        try:
            calls = [pool.submit(client.get, path) for _ in range(many + 23)]
            wait_until(lambda: sum(call.done() for call in calls) == 23)
            wait_until(lambda: len(blobs.opened) >= MADE_AT_ONCE)
            assert len(blobs.opened) == MADE_AT_ONCE
            assert client.get("/health").status_code == 200
            assert client.get("/ready").status_code == 200
            assert client.get(f"/api/status/{request.id}").status_code == 200
        finally:
            blobs.gate.set()
        answers = [call.result(60) for call in calls]
    assert sorted(answer.status_code for answer in answers) == [200] * many + [503] * 23
    for answer in answers:
        if answer.status_code == 503:
            assert (answer.json()["code"], answer.headers["retry-after"]) == ("busy", "5")


def test_who_left_while_waiting_takes_no_place(
    gated: tuple[Service, Gated, httpx.Client],
) -> None:
    service, blobs, client = gated
    request = ingested(replace(service, blobs=FolderBlobs(service.settings.data_dir)))
    path = f"/api/download/{request.id}?partial=true"
    port = urlsplit(str(client.base_url)).port or 0
    call = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()

    def full() -> bool:
        """Whether another call is refused. One that is not leaves again, and needs no file."""
        try:
            return client.get(f"{path}&report=errors", timeout=2).status_code == 503
        except httpx.ReadTimeout:
            return False

    with ExitStack() as left:

        def join() -> None:
            connection = socket.create_connection(("127.0.0.1", port), 30)
            left.enter_context(closing(connection)).sendall(call)

        for _ in range(MADE_AT_ONCE + MOST_WAITING):
            join()
        for _ in range(20):
            if full():
                break
            join()  # this one came before one of the others, and took its place
    wait_until(lambda: not full())
    blobs.gate.set()
    assert client.get(path).status_code == 200
    assert len(blobs.opened) == MADE_AT_ONCE + 1


def test_an_unknown_request_has_no_download(client: httpx.Client) -> None:
    for path in ("", "?partial=true", "/images.zip"):
        answer = client.get(f"/api/download/req_unknown{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")

"""The client against a real service, and its page of documentation run as it stands."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pixmill import Client, ServiceRefused
from tests import service, shop
from tests.service import Serving
from tests.shop import Shop

DOCUMENT = Path(__file__).parents[2] / "docs" / "client.md"


@pytest.fixture(scope="module")
def origin() -> Iterator[Shop]:
    """An open shop."""
    with shop.open_shop() as opened:
        opened.special["gone.jpg"] = lambda _: (404, b"")
        yield opened


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A real service without keys."""
    with service.serving(tmp_path_factory.mktemp("service") / "data") as running:
        yield running


@pytest.fixture
def client(serving: Serving) -> Iterator[Client]:
    """A client of that service."""
    with Client(serving.url) as made:
        yield made


def sheet(tmp_path: Path, origin: Shop, *names: str) -> Path:
    return shop.write_csv(tmp_path / "products.csv", [origin.url(name) for name in names])


def test_a_request_lives_its_whole_life(tmp_path: Path, origin: Shop, client: Client) -> None:
    path = sheet(tmp_path, origin, "1.jpg?a", "2.jpg?a", "gone.jpg?a")
    accepted = client.upload(path, options={"quality": 40})
    assert (accepted.total_images, accepted.total_products) == (3, 3)
    request_id = accepted.request_id

    steps = list(client.watch(request_id))
    assert steps[-1].status == "COMPLETED"
    settled = [step.processed_images + step.failed_images for step in steps]
    assert settled == sorted(settled)
    assert list(client.watch(request_id)) == steps[-1:]

    request = client.wait(request_id)
    assert (request.processed_images, request.failed_images) == (2, 1)
    assert request.filename == "products.csv"
    assert [product.product_name for product in client.products(request_id)] == [
        product.product_name for product in request.products
    ]
    images = list(client.results(request_id))
    assert [image.status.value for image in images] == ["done", "done", "failed"]
    assert list(client.results(request_id, status="failed")) == images[2:]
    totals = client.totals(request_id)
    assert dict(totals.errors) == {"http_error": 1}
    assert totals.bytes_saved == sum(i.bytes_in - i.bytes_out for i in images[:2])  # type: ignore[operator]  # they are done

    client.download(request_id, tmp_path / "output.csv")
    with (tmp_path / "output.csv").open(encoding="utf-8-sig") as file:
        assert [row[-1] for row in csv.reader(file)][1:] == [
            images[0].output_url,
            images[1].output_url,
            "",
        ]
    report = io.BytesIO()
    client.download(request_id, report, report="errors")
    assert b"http_error" in report.getvalue()
    client.download_images(request_id, str(tmp_path / "images.zip"))
    with zipfile.ZipFile(tmp_path / "images.zip") as packed:
        assert packed.testzip() is None
        assert sum(name.endswith(".jpg") for name in packed.namelist()) == 2

    assert client.retry(request_id).retried_images == 1
    assert client.wait(request_id, timeout=60).failed_images == 1
    client.delete(request_id)
    with pytest.raises(ServiceRefused) as raised:
        client.status(request_id)
    assert (raised.value.status, raised.value.code) == (404, "not_found")


def test_a_request_can_be_cancelled_and_looked_at_half_done(
    tmp_path: Path, origin: Shop, client: Client
) -> None:
    held = threading.Event()

    def hold(_port: int) -> shop.Answer:
        held.wait(60)
        return 200, shop.PHOTOS[0]

    origin.special["slow.jpg"] = hold
    try:
        path = sheet(tmp_path, origin, "1.jpg?b", "slow.jpg")
        request_id = client.upload(path).request_id
        next(step for step in client.watch(request_id) if step.processed_images == 1)
        with pytest.raises(ServiceRefused) as raised:
            client.download(request_id, tmp_path / "output.csv")
        assert (raised.value.status, raised.value.code) == (409, "wrong_state")
        assert not (tmp_path / "output.csv").exists()
        client.download(request_id, tmp_path / "output.csv", partial=True)
        assert "0000001.jpg" in (tmp_path / "output.csv").read_text()
        cancelled = client.cancel(request_id)
        assert (cancelled.status, cancelled.processed_images) == ("CANCELLED", 1)
        newest = next(client.requests(status="CANCELLED"))
        assert newest.request_id == request_id
    finally:
        held.set()


def test_every_page_is_walked(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixmill.client.client.MOST", 2)
    lines = [f"{number},P,http://127.0.0.1:1/{number}.jpg" for number in range(5)]
    body = "\n".join(["Serial Number,Product Name,Input Image Urls", *lines])
    request_id = client.upload(io.BytesIO(body.encode())).request_id
    client.cancel(request_id)
    client.retry(request_id)
    next(step for step in client.watch(request_id) if step.status != "PENDING")
    assert [product.serial_number for product in client.products(request_id)] == list("01234")
    assert [image.sequence for image in client.results(request_id)] == [1, 2, 3, 4, 5]
    client.delete(request_id)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ("", (None, None)),
        ("Serial Number,Product Name,Colour\n1,A,x\n", (1, None)),
        ("Serial Number,Product Name,Image\n1,A,nope\n", (2, "Image")),
    ],
    ids=["file", "row", "cell"],
)
def test_a_refusal_says_what_and_where(
    client: Client, body: str, where: tuple[int | None, str | None]
) -> None:
    with pytest.raises(ServiceRefused) as raised:
        client.upload(io.BytesIO(body.encode()))
    assert (raised.value.code, raised.value.total_errors) == ("sheet_rejected", 1)
    (problem,) = raised.value.errors
    assert (problem.line, problem.column) == where
    assert problem.message


def test_the_columns_that_are_named_are_read(tmp_path: Path, client: Client) -> None:
    path = tmp_path / "odd.csv"
    path.write_bytes(
        "Nr;Größe;A;B\n1;x;http://127.0.0.1:1/a b|http://127.0.0.1:1/c;\n".encode("cp1252")
    )
    accepted = client.upload(
        path,
        serial_col="Nr",
        name_col="Größe",
        url_cols=("A", "B"),
        encoding="cp1252",
        delimiter=";",
        url_separator="|",
    )
    assert accepted.total_images == 2
    client.delete(accepted.request_id)


def test_the_documented_examples_do_what_they_say(
    tmp_path: Path, origin: Shop, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(blocks) == 5
    monkeypatch.chdir(tmp_path)
    sheet(tmp_path, origin, "1.jpg", "gone.jpg")
    for block in blocks:
        code = block.replace("http://127.0.0.1:8000", serving.url)
        exec(compile(code, str(DOCUMENT), "exec"), {})  # noqa: S102  # our own document
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"products.csv", "output.csv", "errors.csv", "images.zip"}


def test_importing_the_package_loads_no_http_client() -> None:
    code = (
        "import sys, pixmill; assert 'httpx' not in sys.modules;"
        " assert pixmill.Client and 'httpx' in sys.modules;"
        " assert all(getattr(pixmill, name) for name in pixmill.__all__);"
        " assert not hasattr(pixmill, 'nothing')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

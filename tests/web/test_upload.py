"""Uploads: what is accepted, what is refused and how, and that nothing is left of the refused."""

from __future__ import annotations

import json
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from pixmill.core.model import RequestStatus
from pixmill.core.options import PUBLIC_NAMES
from pixmill.core.shards import sheet_key
from pixmill.settings import Settings
from pixmill.web.app import create_app
from pixmill.web.form import TEXT_FIELDS, shown_filename
from pixmill.web.schemas import ProcessingOptions, UploadForm
from pixmill.web.service import Service
from tests.web.server import CSV, new_key, open_service, serving

CAP = 3_000_000


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, public_url="/api/files", max_upload_size=CAP)


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a server that all tests of bad uploads share; in the end it has kept nothing."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("refusing"), max_upload_size=CAP)
    with open_service(settings) as service:
        with serving(create_app(service)) as url, httpx.Client(base_url=url, timeout=30) as made:
            yield made
        assert requests(service) == 0
        assert not list(settings.data_dir.rglob("*.csv"))


def upload(client: httpx.Client, csv: bytes = CSV, /, **fields: Any) -> httpx.Response:
    """Upload a CSV with these form fields."""
    return client.post("/api/upload", files={"csv": ("products.csv", csv)}, data=fields)


def refused(answer: httpx.Response, status: int, code: str) -> str:
    """Check that this is a problem document, and return its detail."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["code"], problem["status"]) == (code, status)
    assert "Traceback" not in answer.text
    return str(problem["detail"])


def requests(service: Service) -> int:
    return sum(service.store.census().requests.values())


def test_an_accepted_csv_is_durable_when_it_is_answered(
    client: httpx.Client, service: Service
) -> None:
    answer = upload(client)

    assert answer.status_code == 202
    body = answer.json()
    assert answer.headers["location"] == f"/api/status/{body['requestId']}"
    assert body == {
        "requestId": body["requestId"],
        "status": "PENDING",
        "totalImages": 1,
        "totalProducts": 1,
        "skippedRows": 0,
        "warnings": [],
    }
    request = service.store.request(body["requestId"])
    assert (request.status, request.filename) == (RequestStatus.PENDING, "products.csv")
    with service.blobs.open(sheet_key(request.id, "input")) as kept:
        assert kept.read() == CSV


def test_the_file_may_be_called_file_as_well(client: httpx.Client) -> None:
    assert client.post("/api/upload", files={"file": ("a.csv", CSV)}).status_code == 202


def test_every_field_of_the_form_is_obeyed(client: httpx.Client, service: Service) -> None:
    csv = "Nr;Wort;Bild;Bild2\n1;Stühle;https://example.com/a.jpg;\n2;;https://a.example/b;\n"
    answer = client.post(
        "/api/upload",
        files={"csv": ("a.csv", csv.encode("cp1252"))},
        data={
            "options": json.dumps({"quality": 70, "format": "webp", "maxWidth": 800}),
            "invalidRows": "skip",
            "serialCol": "nr",
            "nameCol": "Wort",
            "urlCol": ["Bild", "Bild2"],
            "encoding": "cp1252",
            "delimiter": ";",
            "urlSeparator": "|",
            "neutraliseFormulas": "false",
        },
    )
    assert answer.status_code == 202, answer.text
    assert answer.json()["skippedRows"] == 1
    assert "'nameCol'" not in answer.text
    request = service.store.request(answer.json()["requestId"])
    assert (request.options.quality, request.options.max_width) == (70, 800)
    rules = request.rules
    assert (rules.serial_col, rules.name_col, rules.url_cols) == ("nr", "Wort", ("Bild", "Bild2"))
    assert (rules.encoding, rules.delimiter, rules.url_separator) == ("cp1252", ";", "|")
    assert (rules.skip_invalid_rows, rules.neutralise_formulas) == (True, False)
    assert rules.local_folder is None


def test_the_documented_form_has_the_fields_that_are_read() -> None:
    documented = UploadForm.model_json_schema(by_alias=True)["properties"]
    assert set(documented) == {"csv", *TEXT_FIELDS}
    options = ProcessingOptions.model_json_schema(by_alias=True)["properties"]
    assert list(options) == list(PUBLIC_NAMES.values())
    for name, schema in options.items():
        default = ProcessingOptions().model_dump(by_alias=True, mode="json")[name]
        assert default == schema["default"]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"invalidRow": "skip"}, "Did you mean 'invalidRows'?"),
        ({"url_cols": "x"}, "Did you mean 'urlCol'?"),
        ({"webhook": "https://example.com"}, "no form field 'webhook'"),
        ({"quality": "70"}, "send it in the form field 'options'"),
        ({"invalidRows": "maybe"}, "must be 'reject' or 'skip', not 'maybe'"),
        ({"neutraliseFormulas": "2"}, "must be 'true' or 'false', not '2'"),
        ({"serialCol": ["a", "b"]}, "'serialCol' came more than once"),
        ({"serialCol": "a\0"}, "'serialCol' is not valid text"),
        ({"serialCol": "a" * 1001}, "'serialCol' may have 1000 characters"),
        ({"options": "{quality}"}, "not valid JSON"),
        ({"options": "[" * 50_000}, "not valid JSON"),
        ({"options": '{"quality": ' + "1" * 5000 + "}"}, "not valid JSON"),
        ({"options": "[1]"}, "must be a JSON object"),
        ({"options": "x" * 65_537}, "Part exceeded maximum size"),
        ({f"f{number}": "" for number in range(101)}, "Too many fields"),
        ({"csv": "text"}, "must be a file, with a filename"),
        ({"file": "text"}, "must be a file, with a filename"),
    ],
)
def test_what_is_wrong_with_the_form_is_said(
    refusing: httpx.Client, fields: dict[str, Any], says: str
) -> None:
    assert says in refused(upload(refusing, **fields), 422, "invalid_call")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ('{"quality": 101}', "'quality' must be a whole number from 1 to 100, not 101"),
        ('{"qualty": 1}', "Unknown option 'qualty'"),
        ('{"quality": NaN}', "not nan"),
        ('{"background": "\\ud800"}', "must be a colour"),
        ('{"\\ud800": 1}', "Unknown option"),
        ('{"quality": "' + "9" * 60_000 + '"}', "must be a whole number"),
    ],
)
def test_what_is_wrong_with_the_options_is_said(
    refusing: httpx.Client, options: str, says: str
) -> None:
    detail = refused(upload(refusing, options=options), 422, "invalid_option")
    assert says in detail
    assert len(detail) < 2100


@pytest.mark.parametrize(
    "files",
    [
        [],
        [("csv", ("a.csv", CSV)), ("file", ("b.csv", CSV))],
        [("csv", ("a.csv", CSV))] * 3,
        [("csv", ("a.csv", CSV)), ("options", ("o.json", b"{}"))],
    ],
)
def test_exactly_one_file_is_wanted(refusing: httpx.Client, files: Any) -> None:
    answer = refusing.post("/api/upload", files=files or {"options": (None, "{}")})
    assert "file" in refused(answer, 422, "invalid_call")


def test_a_file_that_is_no_good_is_told_with_lines_and_columns(refusing: httpx.Client) -> None:
    csv = b"Serial Number,Product Name,Input Image Urls\n1,,ftp://x\n,Chair,file:///etc/passwd\n"
    answer = upload(refusing, csv)

    refused(answer, 422, "sheet_rejected")
    errors = answer.json()["errors"]
    assert {(error["line"], error["column"]) for error in errors} == {
        (2, "Product Name"),
        (2, "Input Image Urls"),
        (3, "Serial Number"),
        (3, "Input Image Urls"),
    }
    assert answer.json()["totalErrors"] == 4


@pytest.mark.parametrize("cell", ["file:///etc/passwd", "/etc/passwd", "../a.jpg", "a.jpg"])
def test_local_files_cannot_be_named(refusing: httpx.Client, cell: str) -> None:
    answer = upload(refusing, CSV.replace(b"https://example.com/a.jpg", cell.encode()))
    refused(answer, 422, "sheet_rejected")
    assert "with `pixmill run` only" in answer.json()["errors"][0]["message"]


def test_the_first_hundred_problems_are_listed_and_all_are_counted(refusing: httpx.Client) -> None:
    csv = CSV + b"2,Chair,nothing\n" * 150
    answer = upload(refusing, csv)
    assert (len(answer.json()["errors"]), answer.json()["totalErrors"]) == (100, 150)


def test_a_missing_column_is_told_in_words_of_the_form(refusing: httpx.Client) -> None:
    answer = upload(refusing, b"a,b\n1,2\n")
    refused(answer, 422, "sheet_rejected")
    assert "the form field 'urlCol'" in answer.text
    assert "--" not in answer.text


@pytest.mark.parametrize("csv", [b"", b"\0\0", b"PK\x03\x04", b'a,"', b"\xff\xfe\xff", b"a,b,c"])
def test_files_that_are_no_csv_are_refused(refusing: httpx.Client, csv: bytes) -> None:
    refused(upload(refusing, csv), 422, "sheet_rejected")


def test_an_unknown_encoding_is_refused(refusing: httpx.Client) -> None:
    answer = upload(refusing, encoding="utf-99")
    refused(answer, 422, "sheet_rejected")
    assert "Use the form field 'encoding' with utf-8" in answer.text


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("products.csv", "products.csv"),
        ("../../etc/pass\nwd.csv", "passwd.csv"),
        ("C:\\Users\\me\\Stühle 2.csv", "Stühle 2.csv"),
        ("a\u202egpj.csv", "agpj.csv"),
        ("\ud800.csv", ".csv"),
        ("", "upload.csv"),
        ("/", "upload.csv"),
        ("x" * 300 + ".csv", "x" * 196 + ".csv"),
    ],
)
def test_a_filename_is_kept_fit_to_be_shown(given: str, shown: str) -> None:
    assert shown_filename(given) == shown


def test_a_repeated_upload_gets_the_first_answer_again(
    client: httpx.Client, service: Service
) -> None:
    key = {"Idempotency-Key": "order-1"}
    first = client.post("/api/upload", files={"csv": ("a.csv", CSV)}, headers=key)
    again = client.post("/api/upload", files={"csv": ("a.csv", CSV)}, headers=key)

    assert (first.status_code, again.status_code) == (202, 202)
    assert first.content == again.content
    assert first.headers["location"] == again.headers["location"]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert requests(service) == 1


def test_an_idempotency_key_stands_for_one_upload(client: httpx.Client) -> None:
    key = {"Idempotency-Key": "order-1"}
    client.post("/api/upload", files={"csv": ("a.csv", CSV)}, headers=key)
    for changed in (
        {"files": {"csv": ("a.csv", CSV + b"2,Lamp,https://example.com/b.jpg\n")}},
        {"files": {"csv": ("a.csv", CSV)}, "data": {"options": '{"quality": 51}'}},
        {"files": {"csv": ("a.csv", CSV)}, "data": {"invalidRows": "skip"}},
    ):
        answer = client.post("/api/upload", headers=key, **changed)  # type: ignore[arg-type]  # a mix
        detail = refused(answer, 422, "idempotency_key_reused")
        assert "order-1" in detail


def test_simultaneous_uploads_with_one_key_make_one_request(
    client: httpx.Client, service: Service
) -> None:
    def call(_: int) -> httpx.Response:
        headers = {"Idempotency-Key": "k"}
        return client.post("/api/upload", files={"csv": ("a.csv", CSV)}, headers=headers)

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(call, range(16)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert requests(service) == 1
    assert len(list((service.settings.data_dir / ".pixmill/sheets").rglob("input.csv"))) == 1


@pytest.mark.parametrize("key", ["", "a b", "a" * 256, "ü"])
def test_an_idempotency_key_is_visible_ascii(refusing: httpx.Client, key: str) -> None:
    answer = refusing.post(
        "/api/upload",
        files={"csv": ("a.csv", CSV)},
        headers={b"Idempotency-Key": key.encode("latin-1")},  # type: ignore[dict-item]  # any bytes
    )
    assert "'Idempotency-Key'" in refused(answer, 422, "invalid_call")


def test_a_declared_size_above_the_cap_is_refused_before_a_byte_is_sent(
    refusing: httpx.Client,
) -> None:
    with raw(refusing) as connection:
        connection.sendall(
            b"POST /api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000000\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        )
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


def raw(client: httpx.Client) -> socket.socket:
    """A connection to the server for calls that no client would make."""
    connection = socket.create_connection((client.base_url.host, client.base_url.port or 0))
    connection.settimeout(30)
    return connection


@pytest.mark.parametrize("size", [CAP + 1, CAP + 70_000, CAP * 20])
def test_a_streamed_body_is_cut_off_at_the_cap(refusing: httpx.Client, size: int) -> None:
    def body() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="csv"; filename="a.csv"\r\n\r\n'
        for _ in range(size // 1000):
            yield b"x" * 1000
        yield b"x" * (size % 1000) + b"\r\n--x--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = refusing.post("/api/upload", content=body(), headers=headers)
    assert f"{CAP:,} bytes" in refused(answer, 413, "upload_too_large")


def test_a_body_without_end_is_cut_off(refusing: httpx.Client) -> None:
    with raw(refusing) as connection:
        connection.sendall(
            b"POST /api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        )
        head = b'--x\r\nContent-Disposition: form-data; name="csv"; filename="a"\r\n\r\n'
        chunk = head + b"x" * (100_000 - len(head))
        for _ in range(CAP // len(chunk) + 1):
            connection.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            chunk = b"x" * 100_000
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_the_bodies_of_other_calls_are_capped_too(refusing: httpx.Client) -> None:
    answer = refusing.post("/api/openapi.json", content=b"x" * 70_000)
    assert "65,536 bytes" in refused(answer, 413, "upload_too_large")


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        (None, b"", 415),
        ("text/csv", CSV, 415),
        ("application/x-www-form-urlencoded", b"csv=1", 415),
        ("multipart/mixed; boundary=x", b"", 415),
        ("multipart/form-data", b"--x--", 422),
        ("multipart/form-data; boundary=", b"--x--", 422),
        (f"multipart/form-data; boundary={'x' * 300}", b"--x--", 422),
        ("multipart/form-data; boundary=x", b"", 422),
        ("multipart/form-data; boundary=x", b"garbage", 422),
        ("multipart/form-data; boundary=x", b"--x--", 422),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\nno name\r\n--x--\r\n", 422),
        ("multipart/form-data; boundary=x", b"--x\r\nA: " + b"b" * 9000 + b"\r\n\r\n--x--", 422),
        (
            "multipart/form-data; boundary=x; charset=unicode_escape",
            b'--x\r\nContent-Disposition: form-data; name="csv"; filename="a"\r\n\r\n'
            + CSV
            + b'\r\n--x\r\nContent-Disposition: form-data; name="nameCol"\r\n\r\n\\ud800'
            + b"\r\n--x--\r\n",
            422,
        ),
    ],
)
def test_malformed_bodies_are_refused(
    refusing: httpx.Client, content_type: str | None, body: bytes, status: int
) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    answer = refusing.post("/api/upload", content=body, headers=headers)
    refused(answer, status, "unsupported_media_type" if status == 415 else "invalid_call")


@pytest.mark.filterwarnings(
    # The form parser forgets a file that has no end; it is closed with the parser's memory.
    "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_a_form_without_its_end_is_refused(refusing: httpx.Client) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="csv"; filename="a"\r\n\r\n' + CSV
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = refusing.post("/api/upload", content=body, headers=headers)
    assert "ends before its file" in refused(answer, 422, "invalid_call")


def test_an_upload_without_the_right_is_refused_before_its_body_is_read(
    service: Service, client: httpx.Client
) -> None:
    new_key(service, "submit")
    with raw(client) as connection:
        connection.sendall(
            b"POST /api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        )
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")


def until(holds: Callable[[], bool]) -> None:
    """Wait for something that must come to hold."""
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def deleted_files() -> list[str]:
    """Open files of this process that have no name."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            target = str(link.readlink())
        except OSError:  # closed meanwhile
            continue
        if target.endswith("(deleted)"):
            found.append(target)
    return found


@pytest.mark.parametrize("end", ["disconnect", "refused", "accepted"])
def test_temporary_files_have_no_name_and_end_with_the_call(
    client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """Whatever ends the call, also when the server is killed in the middle of it."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    field = "wrong" if end == "refused" else "csv"
    head = f'--x\r\nContent-Disposition: form-data; name="{field}"; filename="a"\r\n\r\n'
    rows = "".join(f"{row},A,https://example.com/a.jpg\n" for row in range(2, 50_000))
    body = head.encode() + CSV + rows.encode()
    rest = b"\r\n--x--\r\n"

    def open_files() -> list[str]:
        return [name for name in deleted_files() if name.startswith(str(folder))]

    with raw(client) as connection:
        connection.sendall(
            b"POST /api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body + rest)
        )
        connection.sendall(body)
        until(lambda: len(open_files()) == 1)
        assert not list(folder.iterdir())
        if end != "disconnect":
            connection.sendall(rest)
            status = b"202" if end == "accepted" else b"422"
            assert connection.recv(65536).startswith(b"HTTP/1.1 " + status)
    until(lambda: not open_files())
    assert not list(folder.iterdir())


def test_an_upload_that_cannot_be_buffered_is_a_503(
    client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = tmp_path / "missing"
    monkeypatch.setattr("tempfile.tempdir", str(missing))
    answer = upload(client, CSV + b"2,Lamp,https://example.com/b.jpg\n" * 60_000)
    refused(answer, 503, "storage_failure")
    assert str(missing) not in answer.text


def test_other_calls_are_answered_while_uploads_are_validated(client: httpx.Client) -> None:
    """Though there are more uploads than the server has threads."""
    rows = "".join(f"{row},A,https://example.com/a.jpg\n" for row in range(2, 10_000))
    answers: list[int] = []

    def call() -> None:
        answers.append(upload(client, CSV + rows.encode()).status_code)

    threads = [threading.Thread(target=call) for _ in range(60)]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    waits = []
    try:
        while any(thread.is_alive() for thread in threads):
            asked = time.monotonic()
            assert client.get("/api/openapi.json").status_code == 200
            waits.append(time.monotonic() - asked)
    finally:
        for thread in threads:
            thread.join()
    assert set(answers) == {202}
    # If uploads took all threads, another call would wait until one of them ends: nearly all of
    # the time, as all of them would share the processor.
    assert max(waits) < (time.monotonic() - began) / 3


@pytest.mark.slow
def test_memory_does_not_grow_with_an_upload(tmp_path: Path) -> None:
    """100,000 rows that name 300,000 images, sent from a file."""
    big = tmp_path / "big.csv"
    with big.open("w") as file:
        file.write("Serial Number,Product Name,Input Image Urls\n")
        for row in range(100_000):
            urls = ",".join(f"https://shop.example/pictures/{row}/{name}.jpg" for name in "abc")
            file.write(f'{row},Product number {row},"{urls}"\n')
    settings = Settings(data_dir=tmp_path / "data")
    peak = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, resident())

    with (
        open_service(settings) as service,
        serving(create_app(service)) as url,
        httpx.Client(base_url=url, timeout=120) as client,
        big.open("rb") as file,
    ):
        assert upload(client).status_code == 202  # so that everything is loaded
        before = resident()
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            answer = client.post("/api/upload", files={"csv": ("big.csv", file)})
        finally:
            done.set()
            watcher.join()
    assert answer.status_code == 202
    assert (answer.json()["totalImages"], answer.json()["totalProducts"]) == (300_000, 100_000)
    assert peak - before < 50_000_000


def resident() -> int:
    """The memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

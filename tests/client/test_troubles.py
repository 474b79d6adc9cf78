"""Services that are away, broken or no pixmill: what the client makes of them."""

from __future__ import annotations

import io
import json
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import trustme

from pixmill import Client, PixmillError, ServiceRefused, ServiceUnreachable, StillRunning
from pixmill.client import wire
from pixmill.core.errors import InvalidSetting, NotFound
from tests.client import broken
from tests.client.broken import answer

KEY = "pixmill_abcdefghijklm_" + "s3cret" * 8
ACCEPTED = json.dumps(
    {
        "requestId": "req_1",
        "status": "PENDING",
        "totalImages": 1,
        "totalProducts": 1,
        "skippedRows": 0,
        "warnings": [],
    }
)


def standing(status: str = "PROCESSING", done: int = 0) -> str:
    """The body of a status."""
    return json.dumps(
        {
            "requestId": "req_1",
            "status": status,
            "processedImages": done,
            "failedImages": 0,
            "totalImages": 4,
            "completionPercentage": done * 25,
            "updatedAt": "2026-11-22T06:00:00Z",
            "filename": "products.csv",
            "totalProducts": 4,
            "errorMessage": None,
            "createdAt": "2026-11-22T06:00:00Z",
            "finishedAt": None,
            "products": [],
            "nextCursor": None,
        }
    )


def problem(status: int, code: str, **more: object) -> str:
    """The body of a problem document."""
    kind = {"type": f"urn:pixmill:problem:{code}", "title": "No", "status": status, "code": code}
    return json.dumps(kind | {"detail": "It cannot be done."} | more)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less between attempts than people would."""
    monkeypatch.setattr(wire, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr("pixmill.client.watch.PAUSE", 0.01)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def test_nothing_listening_is_said_with_the_address() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with Client(url) as client, pytest.raises(ServiceUnreachable) as raised:
        client.status("req_1")
    assert raised.value.message == (
        f"No pixmill service answers at {url}: the connection was refused."
    )
    assert not raised.value.maybe_done


def test_a_service_that_hangs_is_given_up() -> None:
    with (
        broken.server(broken.hang) as service,
        Client(service.url, timeout=0.2, retries=0) as client,
        pytest.raises(ServiceUnreachable, match="it takes too long"),
    ):
        client.status("req_1")


def test_an_unknown_host_is_told_apart() -> None:
    with (
        Client("http://no-such-host.invalid", retries=0) as client,
        pytest.raises(ServiceUnreachable, match="its host name cannot be found"),
    ):
        client.status("req_1")


@pytest.mark.parametrize(
    "body", [b"<!doctype html><title>Hello</title>", b"{}", b"", b"\xff\xfe", b"[1]"]
)
def test_an_answer_that_is_no_pixmills_is_no_service(body: bytes) -> None:
    with (
        broken.server(answer("200 OK", body, "text/html; charset=utf-8")) as service,
        Client(service.url) as client,
        pytest.raises(ServiceUnreachable, match="is not a pixmill service: it sent 'text/html'"),
    ):
        client.status("req_1")


def test_an_error_without_an_explanation_names_its_status() -> None:
    page = answer("500 Internal \x1b[31mServer Error", "<h1>Oops</h1>", "text/html")
    with (
        broken.server(page) as service,
        Client(service.url) as client,
        pytest.raises(ServiceRefused) as raised,
    ):
        client.status("req_1")
    assert (raised.value.status, raised.value.code) == (500, "unexplained")
    assert "status 500" in raised.value.message
    assert "\x1b" not in raised.value.message


def test_a_problem_document_becomes_an_error_with_all_that_it_says() -> None:
    errors = [{"line": 2, "column": "Image", "code": "invalid_url", "message": "No URL."}]
    body = problem(422, "sheet_rejected", errors=errors, totalErrors=7)
    with (
        broken.server(answer("422 No", body, "application/problem+json")) as service,
        Client(service.url) as client,
        pytest.raises(ServiceRefused) as raised,
    ):
        client.upload(io.BytesIO(b"a"))
    refused = raised.value
    assert isinstance(refused, PixmillError)
    assert (refused.status, refused.code) == (422, "sheet_rejected")
    assert refused.message == str(refused) == "It cannot be done."
    assert [error.line for error in refused.errors] == [2]
    assert refused.total_errors == 7


def test_a_busy_service_is_asked_again_when_it_says() -> None:
    busy = answer("429 Too Many Requests", problem(429, "rate_limited"), Retry_After="0")
    away = answer("503 Service Unavailable", problem(503, "store_unavailable"))
    with (
        broken.server(busy, away, answer("200 OK", standing())) as service,
        Client(service.url) as client,
    ):
        assert client.status("req_1").total_images == 4
    assert len(service.calls) == 3


def test_a_service_that_asks_for_more_than_a_minute_is_not_waited_for() -> None:
    busy = answer("429 Too Many Requests", problem(429, "rate_limited"), Retry_After="3600")
    with (
        broken.server(busy) as service,
        Client(service.url) as client,
        pytest.raises(ServiceRefused) as raised,
    ):
        client.cancel("req_1")
    assert raised.value.retry_after == 3600
    assert len(service.calls) == 1


def test_retry_after_may_be_a_date_or_nonsense() -> None:
    long_ago = "Wed, 21 Oct 2015 07:28:00 GMT"
    body = problem(503, "store_unavailable")
    with (
        broken.server(
            answer("503 Away", body, Retry_After=long_ago),
            answer("503 Away", body, Retry_After="soon"),
            answer("200 OK", standing()),
        ) as service,
        Client(service.url) as client,
    ):
        client.status("req_1")
    assert len(service.calls) == 3


@pytest.mark.parametrize("trouble", [broken.cut, answer("502 Bad Gateway")], ids=["cut", "502"])
def test_only_calls_that_may_be_repeated_are_repeated(trouble: broken.Answer) -> None:
    """A cancel that was carried out would be refused the second time."""
    with broken.server(trouble, answer("200 OK", standing())) as service:
        with Client(service.url) as client:
            assert client.status("req_1").request_id == "req_1"
        assert len(service.calls) == 2
    calls: list[Callable[[Client], object]] = [
        lambda client: client.cancel("req_1"),
        lambda client: client.retry("req_1"),
        lambda client: client.delete("req_1"),
    ]
    for call in calls:
        with broken.server(trouble, answer("200 OK", standing())) as service:
            with Client(service.url) as client, pytest.raises(PixmillError):
                call(client)
            assert len(service.calls) == 1


def test_an_upload_is_repeated_whole_and_under_the_same_idempotency_key(tmp_path: Path) -> None:
    sheet = tmp_path / "products.csv"
    sheet.write_bytes(b"Serial Number,Product Name,Input Image Urls\r\n" * 50)
    with (
        broken.server(broken.cut, broken.cut, answer("202 Accepted", ACCEPTED)) as service,
        Client(service.url) as client,
    ):
        assert client.upload(sheet).request_id == "req_1"
        client.upload(sheet)
        client.upload(sheet, idempotency_key="mine")
    keys = [service.headers(number)["idempotency-key"] for number in range(5)]
    assert keys[0] == keys[1] == keys[2]
    assert len({*keys}) == 3
    assert keys[4] == "mine"
    for _, body in service.calls:
        assert body.count(sheet.read_bytes()) == 1
        assert b'name="csv"; filename="products.csv"' in body


def test_an_upload_has_more_time_since_all_of_it_is_validated_first() -> None:
    def ponder(connection: socket.socket) -> None:
        time.sleep(1)  # twice the usual patience
        connection.sendall(answer("202 Accepted", ACCEPTED))

    with broken.server(ponder) as service, Client(service.url, timeout=0.5, retries=0) as client:
        client.upload(io.BytesIO(b"x"))


def test_a_redirect_is_not_followed_and_the_key_goes_nowhere_else() -> None:
    with broken.server(answer("200 OK", standing())) as elsewhere:
        leads = answer("307 Temporary Redirect", Location=f"{elsewhere.url}/api/status/req_1")
        with (
            broken.server(leads) as service,
            Client(service.url, KEY) as client,
            pytest.raises(ServiceRefused, match="not followed") as raised,
        ):
            client.status("req_1")
        assert raised.value.code == "redirected"
        assert elsewhere.url in raised.value.message
    assert elsewhere.calls == []


def test_the_key_is_sent_and_never_shown() -> None:
    with broken.server(answer("401 No", problem(401, "unauthenticated"))) as service:
        with Client(service.url, f" {KEY}\n") as client, pytest.raises(ServiceRefused) as raised:
            client.status("req_1")
        assert service.headers(0)["x-api-key"] == KEY
    with Client(f"http://127.0.0.1:{free_port()}", KEY, retries=0) as client:
        with pytest.raises(ServiceUnreachable) as away:
            client.status("req_1")
        told = [repr(client), *traceback.format_exception(away.value)]
    told += traceback.format_exception(raised.value)
    assert not any("s3cret" in line for line in told)


@pytest.mark.parametrize("key", ["pixmill_s3cret\r\nX-Evil: 1", "s3crét", "two s3cret"])
def test_a_key_that_cannot_be_one_is_refused_without_being_repeated(key: str) -> None:
    with pytest.raises(InvalidSetting) as raised:
        Client(api_key=key)
    assert "s3cr" not in raised.value.message


@pytest.mark.parametrize(
    ("url", "exposed"),
    [
        ("http://pixmill.example", True),
        ("http://10.0.0.1:8000", True),
        ("http://127.0.0.1.example", True),
        ("https://pixmill.example", False),
        ("http://127.0.0.1:8000", False),
        ("http://[::1]:8000", False),
        ("http://localhost", False),
    ],
)
def test_a_key_is_exposed_by_plain_http_beyond_this_machine(url: str, *, exposed: bool) -> None:
    with Client(url, KEY) as client:
        assert client.exposes_key is exposed
    with Client(url) as client:
        assert not client.exposes_key


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://host", "http://", "http://[::1"])
def test_an_address_that_cannot_be_one_is_refused(url: str) -> None:
    with pytest.raises(InvalidSetting, match="must look like http"):
        Client(url)


def test_the_address_may_have_a_path_a_login_or_the_api_in_it() -> None:
    with broken.server(answer("200 OK", standing())) as service:
        netloc = service.url.removeprefix("http://")
        with Client(f"http://user:passw0rd@{netloc}/mill/api/", KEY) as client:
            client.status("req_1")
            assert "passw0rd" not in repr(client)
    assert service.paths() == ["GET /mill/api/status/req_1"]
    assert service.headers(0)["authorization"].startswith("Basic ")
    assert service.headers(0)["x-api-key"] == KEY


def test_proxies_of_the_environment_are_not_asked_about_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with (
        broken.server(answer("200 OK", standing())) as service,
        Client(service.url, retries=0) as client,
    ):
        client.status("req_1")


def test_a_certificate_that_nobody_vouches_for_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    def secured(connection: socket.socket) -> None:
        with suppress(OSError), context.wrap_socket(connection.dup(), server_side=True) as tls:
            tls.recv(65536)
            tls.sendall(answer("200 OK", standing()))

    listening = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        for _ in range(3):
            connection, _ = listening.accept()
            with connection:
                secured(connection)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    url = f"https://127.0.0.1:{listening.getsockname()[1]}"
    with (
        Client(url, KEY, retries=0) as client,
        pytest.raises(ServiceUnreachable, match=r"cannot be trusted.*SSL_CERT_FILE"),
    ):
        client.status("req_1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with Client(url, KEY, retries=0) as client:
        client.status("req_1")
    monkeypatch.delenv("SSL_CERT_FILE")
    with Client(url, KEY, retries=0, ca_file=tmp_path / "ca.pem") as client:
        client.status("req_1")
    thread.join()
    listening.close()


def test_https_where_plain_http_is_spoken_is_said() -> None:
    with (
        broken.server(answer("400 Bad Request")) as service,
        Client(service.url.replace("http:", "https:"), retries=0) as client,
        pytest.raises(ServiceUnreachable, match=r"Does it speak plain http there\?$"),
    ):
        client.status("req_1")


def test_plain_http_where_https_is_spoken_is_said() -> None:
    """A service that waits for a handshake hangs up without a word."""
    with (
        broken.server(broken.cut) as service,
        Client(service.url, retries=0) as client,
        pytest.raises(
            ServiceUnreachable, match=r"without an answer\. Does it speak https there\?$"
        ),
    ):
        client.status("req_1")


def test_a_file_of_authorities_that_is_none_is_said_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nonsense")
    with pytest.raises(InvalidSetting, match=r"ca\.pem holds no certificate"):
        Client(ca_file=tmp_path / "ca.pem")
    with pytest.raises(FileNotFoundError, match=r"none\.pem"):
        Client(ca_file="none.pem")


@pytest.mark.parametrize("given", ["", "..", "req_", "a/../b?c", "req_1/cancel", "REQ_1", "req_é"])
def test_what_cannot_be_an_id_is_not_sent(given: str) -> None:
    """The path would be another one, and whoever answers might well say yes."""
    with broken.server(answer("204 No Content")) as service, Client(service.url) as client:
        for call in (client.delete, client.status, client.cancel, client.replay):
            with pytest.raises(NotFound, match="There is no"):
                call(given)
        with pytest.raises(NotFound, match="id of one begins with req_"):
            client.download(given, io.BytesIO())
    assert service.calls == []


def test_an_answer_without_an_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LARGEST_BODY", 100_000)
    monkeypatch.setattr(wire, "LARGEST_REFUSAL", 100_000)
    read = 0

    def pour(status: str) -> broken.Answer:
        def endlessly(connection: socket.socket) -> None:
            nonlocal read
            connection.sendall(f"HTTP/1.1 {status}\r\nConnection: close\r\n\r\n".encode())
            for _ in range(1000):
                connection.sendall(b" " * 100_000)
                read += 100_000

        return endlessly

    with (
        broken.server(pour("200 OK"), pour("500 Oops")) as service,
        Client(service.url, retries=0) as client,
    ):
        with pytest.raises(ServiceUnreachable, match="its answer is larger than 100,000 bytes"):
            client.status("req_1")
        with pytest.raises(ServiceRefused, match="status 500 'Oops' and without an explanation"):
            client.status("req_1")
    assert read < 50_000_000


def event(body: str, number: int | None = None) -> bytes:
    """The bytes of a server-sent event."""
    head = "" if number is None else f"id: {number}\n"
    return f"{head}event: progress\ndata: {body}\n\n".encode()


def stream(*pieces: bytes) -> bytes:
    """The bytes of an answer that streams events and then hangs up."""
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + b"".join(pieces)


def test_watching_goes_on_where_a_stream_was_cut() -> None:
    first = stream(b": hello\n\n", event(standing(done=1), 7), event(standing(done=2), 8)[:-9])
    asked = answer("200 OK", standing(done=2))
    second = stream(b"data: no progress\n\n", event(standing("COMPLETED", 4), 9))
    with (
        broken.server(first, asked, second) as service,
        Client(service.url) as client,
    ):
        seen = [(step.status.value, step.processed_images) for step in client.watch("req_1")]
    assert seen == [("PROCESSING", 1), ("PROCESSING", 2), ("COMPLETED", 4)]
    assert service.paths() == [
        "GET /api/requests/req_1/events",
        "GET /api/status/req_1?limit=1",
        "GET /api/requests/req_1/events",
    ]
    assert "last-event-id" not in service.headers(0)
    assert service.headers(2)["last-event-id"] == "7"


def test_watching_asks_plainly_where_no_events_get_through() -> None:
    page = answer("200 OK", "<h1>Hello</h1>", "text/html")
    refused = answer("406 Not Acceptable")
    steps = [answer("200 OK", standing(done=done)) for done in (1, 1)]
    end = answer("200 OK", standing("FAILED", 3))
    with (
        broken.server(page, steps[0], broken.cut, steps[1], refused, end) as service,
        Client(service.url) as client,
    ):
        assert [step.processed_images for step in client.watch("req_1")] == [1, 3]


def test_watching_survives_an_outage_but_not_one_that_never_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = stream(event(standing(done=1), 1))
    end = answer("200 OK", standing("COMPLETED", 4))
    with (
        broken.server(begun, *[broken.cut] * 12, end) as service,
        Client(service.url) as client,
    ):
        assert [step.processed_images for step in client.watch("req_1")] == [1, 4]
    monkeypatch.setattr("pixmill.client.watch.OUTAGE", 0.3)
    with (
        broken.server(begun, broken.cut) as service,
        Client(service.url) as client,
        pytest.raises(ServiceUnreachable),
    ):
        list(client.watch("req_1"))


def test_watching_tells_for_how_long_the_service_has_been_away() -> None:
    """Whether nobody answers or a proxy says so."""
    begun = stream(event(standing(done=1), 1))
    gateway = answer("502 Bad Gateway", "<h1>Bad Gateway</h1>", "text/html")
    end = answer("200 OK", standing("COMPLETED", 4))
    told: list[float] = []
    with (
        broken.server(begun, *[broken.cut, broken.cut, gateway, gateway] * 4, end) as service,
        Client(service.url, retries=0) as client,
    ):
        steps = client.watch("req_1", away=told.append)
        assert next(steps).processed_images == 1
        assert told == []
        assert [step.processed_images for step in steps] == [4]
    assert len(told) >= 4
    assert told == sorted(told)


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 100_000, b"data: " + b"x" * 100_000 + b"\n"])
def test_an_event_without_an_end_is_not_waited_for(piece: bytes) -> None:
    sent = 0

    def pour(connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(stream())
        for _ in range(1000):
            connection.sendall(piece)
            sent += len(piece)

    end = answer("200 OK", standing("COMPLETED", 4))
    with broken.server(pour, end) as service, Client(service.url) as client:
        assert [step.processed_images for step in client.watch("req_1")] == [4]
    assert sent < 50_000_000


def test_watching_what_is_not_there_is_refused() -> None:
    missing = answer("404 Not Found", problem(404, "not_found"))
    with (
        broken.server(missing) as service,
        Client(service.url) as client,
        pytest.raises(ServiceRefused) as raised,
    ):
        list(client.watch("req_1"))
    assert raised.value.code == "not_found"


def test_waiting_ends_when_the_time_is_over() -> None:
    with (
        broken.server(answer("200 OK", standing(done=1))) as service,
        Client(service.url) as client,
        pytest.raises(StillRunning, match=r"req_1 is still PROCESSING \(25 %\)") as raised,
    ):
        client.wait("req_1", timeout=0.2)
    assert raised.value.progress.processed_images == 1


def test_a_download_that_breaks_off_leaves_what_was_there_before(tmp_path: Path) -> None:
    target = tmp_path / "output.csv"
    target.write_text("before")
    short = answer("200 OK", b"half of it", "text/csv").replace(b"Length: 10", b"Length: 20")
    with (
        broken.server(short) as service,
        Client(service.url) as client,
        pytest.raises(ServiceUnreachable, match="the connection broke off"),
    ):
        client.download("req_1", target)
    assert [path.name for path in tmp_path.iterdir()] == ["output.csv"]
    assert target.read_text() == "before"
    with (
        broken.server(answer("200 OK", b"all", "text/csv")) as service,
        Client(service.url) as client,
    ):
        client.download("req_1", target)
    assert target.read_text() == "all"
    assert [path.name for path in tmp_path.iterdir()] == ["output.csv"]

"""Fetching from servers that behave: what is asked, handed over, and told of failures."""

from __future__ import annotations

import contextlib
import email.utils
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pycurl
import pytest

from pixmill.core.errors import ImageError, ImageErrorCode, PixelsUnavailable
from pixmill.io.fetch import FetchLimits
from tests.fleet import wait_until
from tests.io.origins import IMAGE, Hangup, Visit, fetching, free_port, image, origin
from tests.io.turning import WaitingFetcher


def status(line: str, headers: str = "") -> Callable[[Visit], None]:
    return lambda visit: visit.respond(b"an error page", status=line, headers=headers)


def test_an_image_is_fetched_as_it_is(tmp_path: Path) -> None:
    with origin() as server, fetching(tmp_path) as fetcher:
        fetched = fetcher.fetch(server.url())
    assert fetched.body == IMAGE
    assert fetched.size == len(IMAGE)


def test_the_request_says_who_asks_and_what_for_and_nothing_else(tmp_path: Path) -> None:
    with origin() as server, fetching(tmp_path) as fetcher:
        fetcher.fetch(server.url("/a%2Cb.jpg?w=1&sig=%2F#part"))
    lines = server.visits[0].head.strip().split("\r\n")
    assert lines[0] == "GET /a%2Cb.jpg?w=1&sig=%2F HTTP/1.1"
    headers = dict(line.split(": ", 1) for line in lines[1:])
    assert headers.keys() == {"Host", "User-Agent", "Accept"}
    assert headers["User-Agent"] == "pixmill-tests/1"
    assert headers["Accept"].startswith("image/jpeg,image/png")


def test_surroundings_have_no_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = f"http://127.0.0.1:{free_port()}"
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, proxy)
    (tmp_path / ".netrc").write_text("default login someone password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    with origin() as server, fetching(tmp_path) as fetcher:
        assert fetcher.fetch(server.url()).size == len(IMAGE)
    assert "authorization" not in server.visits[0].head.lower()


def test_cookies_are_not_kept(tmp_path: Path) -> None:
    def answer(visit: Visit) -> None:
        visit.respond(b"x", headers="Set-Cookie: a=b\r\n")

    with origin(answer) as server, fetching(tmp_path) as fetcher:
        fetcher.fetch(server.url())
        fetcher.fetch(server.url())
    assert "cookie" not in server.visits[1].head.lower()


def test_connections_are_kept_alive(tmp_path: Path) -> None:
    with origin() as server, fetching(tmp_path) as fetcher:
        for number in range(20):
            fetcher.fetch(server.url(f"/{number}.jpg"))
        assert server.connections == 1
        assert len(server.visits) == 20


def test_an_http_error_does_not_cost_the_connection(tmp_path: Path) -> None:
    with origin(status("404 Not Found")) as server, fetching(tmp_path) as fetcher:
        for _ in range(3):
            with pytest.raises(ImageError):
                fetcher.fetch(server.url())
        assert server.connections == 1


def test_origins_that_alternate_keep_their_connections(tmp_path: Path) -> None:
    with origin() as one, origin() as other, fetching(tmp_path) as fetcher:
        for _ in range(5):
            fetcher.fetch(one.url())
            fetcher.fetch(other.url())
        assert (one.connections, other.connections) == (1, 1)


def test_connections_are_used_again_whoever_made_them(tmp_path: Path) -> None:
    both_busy = threading.Barrier(2)

    def answer(visit: Visit) -> None:
        if visit.path == "/together.jpg":
            both_busy.wait(10)
        image(visit)

    with origin(answer) as one, origin(answer) as other, fetching(tmp_path) as fetcher:
        thread = threading.Thread(target=fetcher.fetch, args=(one.url("/together.jpg"),))
        thread.start()
        fetcher.fetch(other.url("/together.jpg"))
        thread.join()
        for _ in range(3):
            fetcher.fetch(one.url())
            fetcher.fetch(other.url())
            fetcher.fetch(other.url())
        assert (one.connections, other.connections) == (1, 1)


def test_there_are_no_more_handles_than_fetches_at_once(tmp_path: Path) -> None:
    """A handle that has met a TLS server holds 700 kB of trusted certificates."""
    with contextlib.ExitStack() as stack, fetching(tmp_path) as fetcher:
        for _ in range(12):
            fetcher.fetch(stack.enter_context(origin()).url())
        assert len(fetcher.fetcher._transfers._idle) == 1


def test_a_connection_that_the_server_closed_meanwhile_is_replaced(tmp_path: Path) -> None:
    def answer(visit: Visit) -> None:
        image(visit)
        raise Hangup

    with origin(answer) as server, fetching(tmp_path) as fetcher:
        for _ in range(5):
            assert fetcher.fetch(server.url()).body == IMAGE
        assert server.connections == 5


def test_many_threads_share_one_fetcher(tmp_path: Path) -> None:
    def answer(visit: Visit) -> None:
        visit.respond(visit.path.encode() * 5000)

    wrong: list[str] = []
    with origin(answer) as server, fetching(tmp_path) as fetcher:

        def run(thread: int) -> None:
            for number in range(15):
                path = f"/{thread}-{number}.jpg"
                if fetcher.fetch(server.url(path)).body != path.encode() * 5000:
                    wrong.append(path)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert len(server.visits) == 32 * 15
        assert server.connections <= 32


def test_a_big_image_is_handed_over_as_a_file(tmp_path: Path) -> None:
    body = IMAGE * 20
    limits = FetchLimits(spill_bytes=200_000)
    with (
        origin(lambda visit: visit.respond(body)) as server,
        fetching(tmp_path, limits=limits) as fetcher,
    ):
        fetched = fetcher.fetch(server.url())
        assert isinstance(fetched.body, Path)
        assert fetched.body.parent == tmp_path / "spill"
        assert fetched.body.read_bytes() == body
        assert fetched.size == len(body)
        fetched.body.unlink()


def test_a_body_of_just_the_spill_size_stays_in_memory(tmp_path: Path) -> None:
    limits = FetchLimits(spill_bytes=len(IMAGE))
    with origin() as server, fetching(tmp_path, limits=limits) as fetcher:
        assert fetcher.fetch(server.url()).body == IMAGE


def test_an_idle_fetcher_does_not_hold_on_to_what_it_fetched(tmp_path: Path) -> None:
    body = bytes(3 * 2**20)
    with origin(lambda visit: visit.respond(body)) as server, fetching(tmp_path) as fetcher:
        tracemalloc.start()
        try:
            fetcher.fetch(server.url())
            # The server, of this process too, may not have let go of what it sent.
            wait_until(lambda: tracemalloc.get_traced_memory()[0] < 2**20, 10, "it is held")
        finally:
            tracemalloc.stop()


def test_a_full_temporary_folder_is_a_storage_failure_and_leaves_nothing(tmp_path: Path) -> None:
    limits = FetchLimits(spill_bytes=10)
    with origin() as server, fetching(tmp_path, limits=limits) as fetcher:
        (tmp_path / "spill").rmdir()
        with pytest.raises(ImageError, match="temporary folder") as caught:
            fetcher.fetch(server.url())
        (tmp_path / "spill").mkdir()
    assert caught.value.code is ImageErrorCode.STORAGE_FAILURE
    assert caught.value.retryable


def fetch_in_vain(fetcher: WaitingFetcher, url: str) -> None:
    with pytest.raises(PixelsUnavailable, match="closed"):
        fetcher.fetch(url)


def test_a_closed_fetcher_leaves_no_connection_and_no_file(tmp_path: Path) -> None:
    def answer(visit: Visit) -> None:
        visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(50_000))
        visit.wait()

    before = len(list(Path("/proc/self/fd").iterdir()))
    with fetching(tmp_path, limits=FetchLimits(spill_bytes=1000)) as fetcher:
        with origin(answer) as server:
            thread = threading.Thread(target=fetch_in_vain, args=(fetcher, server.url()))
            thread.start()
            while not list((tmp_path / "spill").iterdir()):
                time.sleep(0.01)
            fetcher.close()
            thread.join(10)
        assert len(list(Path("/proc/self/fd").iterdir())) <= before


@pytest.mark.parametrize(
    ("line", "retryable"),
    [
        ("304 Not Modified", False),
        ("400 Bad Request", False),
        ("401 Unauthorized", False),
        ("403 Forbidden", False),
        ("404 Not Found", False),
        ("408 Request Timeout", True),
        ("410 Gone", False),
        ("425 Too Early", True),
        ("429 Too Many Requests", True),
        ("500 Internal Server Error", True),
        ("502 Bad Gateway", True),
        ("503 Service Unavailable", True),
        ("520 Unknown", True),
        ("999 Denied", False),
    ],
)
def test_an_http_error_names_status_and_place_and_is_asked_once(
    tmp_path: Path, line: str, retryable: bool
) -> None:
    with origin(status(line)) as server, fetching(tmp_path) as fetcher:
        with pytest.raises(ImageError) as caught:
            fetcher.fetch(server.url("/a.jpg?key=secret"))
        assert len(server.visits) == 1
    error = caught.value
    assert error.code is ImageErrorCode.HTTP_ERROR
    assert error.http_status == int(line[:3])
    assert error.retryable is retryable
    assert f"127.0.0.1:{server.port}/a.jpg answered {line[:3]}" in error.message
    assert "secret" not in error.message


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        ("120", 120),
        ("0", None),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", None),
    ],
)
@pytest.mark.parametrize("line", ["429 Too Many Requests", "503 Service Unavailable"])
def test_retry_after_is_passed_on_if_it_can_be_read(
    tmp_path: Path, line: str, value: str, seconds: float | None
) -> None:
    with (
        origin(status(line, f"Retry-After: {value}\r\n")) as server,
        fetching(tmp_path) as fetcher,
        pytest.raises(ImageError) as caught,
    ):
        fetcher.fetch(server.url())
    assert caught.value.retryable
    assert caught.value.retry_after == seconds


def test_retry_after_may_be_a_date(tmp_path: Path) -> None:
    date = email.utils.formatdate(time.time() + 30, usegmt=True)
    with (
        origin(status("503 Service Unavailable", f"Retry-After: {date}\r\n")) as server,
        fetching(tmp_path) as fetcher,
        pytest.raises(ImageError) as caught,
    ):
        fetcher.fetch(server.url())
    assert caught.value.retry_after == pytest.approx(30, abs=2)


def test_a_closed_port_is_a_connect_failure(tmp_path: Path) -> None:
    with fetching(tmp_path) as fetcher, pytest.raises(ImageError, match=r"127\.0\.0\.1") as caught:
        fetcher.fetch(f"http://127.0.0.1:{free_port()}/a.jpg")
    assert caught.value.code is ImageErrorCode.CONNECT_FAILURE
    assert caught.value.retryable


def test_a_name_without_address_is_a_dns_failure(tmp_path: Path) -> None:
    with fetching(tmp_path) as fetcher, pytest.raises(ImageError, match=r"shop\.invalid") as caught:
        fetcher.fetch("http://shop.invalid/a.jpg?secret")
    assert caught.value.code is ImageErrorCode.DNS_FAILURE
    assert caught.value.retryable
    assert "secret" not in caught.value.message


def test_an_unusable_url_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    with origin() as server, fetching(tmp_path) as fetcher:
        for url in (f"http://u:p@127.0.0.1:{server.port}/", "file:///etc/passwd", "http://[::g]/"):
            with pytest.raises(ImageError) as caught:
                fetcher.fetch(url)
            assert caught.value.code is ImageErrorCode.INVALID_URL
        assert server.connections == 0


def test_a_request_that_cannot_be_begun_leaves_nothing_behind(tmp_path: Path) -> None:
    with origin() as server, fetching(tmp_path) as fetcher:
        fetcher.fetch(server.url())
        transfers = fetcher.fetcher._transfers
        elsewhere = pycurl.CurlMulti()
        elsewhere.add_handle(transfers._idle[0]._curl)  # libcurl refuses to drive it twice
        with pytest.raises(pycurl.error):
            fetcher.fetch(server.url())
        assert not transfers._running
        assert not transfers._idle
        elsewhere.close()
        assert fetcher.fetch(server.url()).body == IMAGE

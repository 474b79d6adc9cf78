"""Servers that lie, stall, babble or bite: each ends as an error of its own, in bounded time."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pixmill.core.errors import ImageError, ImageErrorCode
from pixmill.io.fetch import FetchLimits
from tests.io.origins import Answer, Hangup, Visit, fetching, full_backlog, origin

BROKEN = (ImageErrorCode.CONNECT_FAILURE, True)
NOT_HTTP = (ImageErrorCode.HTTP_ERROR, False)
TOO_LARGE = (ImageErrorCode.TOO_LARGE, False)
TIMEOUT = (ImageErrorCode.TIMEOUT, True)


def says(data: bytes) -> Answer:
    """Send these bytes, whatever was asked, and hang up."""

    def answer(visit: Visit) -> None:
        visit.send(data)
        raise Hangup

    return answer


def failure(tmp_path: Path, answer: Answer, limits: FetchLimits | None = None) -> ImageError:
    """The error of fetching from such a server; there must be one."""
    with (
        origin(answer) as server,
        fetching(tmp_path, limits=limits or FetchLimits(deadline=5)) as fetcher,
        pytest.raises(ImageError) as caught,
    ):
        fetcher.fetch(server.url("/a.jpg?key=secret"))
    assert "secret" not in caught.value.message
    assert caught.value.message.endswith((".", ")"))
    return caught.value


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"", BROKEN, id="nothing at all"),
        pytest.param(OK + b"Content-Le", (ImageErrorCode.EMPTY, True), id="half a head"),
        pytest.param(OK + b"Content-Length: 100\r\n\r\nabc", BROKEN, id="shorter than said"),
        pytest.param(OK + b"Content-Length: -5\r\n\r\nabc", NOT_HTTP, id="negative length"),
        pytest.param(OK + b"Content-Length: 6e9\r\n\r\nabc", NOT_HTTP, id="odd length"),
        pytest.param(
            OK + b"Content-Length: 3\r\nContent-Length: 6\r\n\r\nabcdef", NOT_HTTP, id="two lengths"
        ),
        pytest.param(OK + b"Content-Length: 52428801\r\n\r\nabc", TOO_LARGE, id="one byte too big"),
        pytest.param(OK + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n", TOO_LARGE, id="huge"),
        pytest.param(
            OK + b"Content-Length: 0\r\n\r\n", (ImageErrorCode.EMPTY, False), id="empty 200"
        ),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", (ImageErrorCode.EMPTY, False), id="204"),
        pytest.param(
            OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc", BROKEN, id="chunked garbage"
        ),
        pytest.param(
            OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc", BROKEN, id="chunk cut short"
        ),
        pytest.param(
            OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            NOT_HTTP,
            id="compressed transfer",
        ),
        pytest.param(OK + b"no colon here\r\n\r\nabc", NOT_HTTP, id="header without colon"),
        pytest.param(OK + b"A: \0\r\n\r\nabc", NOT_HTTP, id="NUL in a header"),
        pytest.param(OK + b"A: " + b"x" * 400_000 + b"\r\n\r\nabc", NOT_HTTP, id="giant header"),
        pytest.param(OK + b"A: b\r\n" * 60_000 + b"\r\nabc", NOT_HTTP, id="many headers"),
        pytest.param(b"\x89PNG\r\n\x1a\n no head at all", NOT_HTTP, id="HTTP/0.9"),
        pytest.param(b"SSH-2.0-OpenSSH_9\r\n", NOT_HTTP, id="another protocol"),
        pytest.param(b"HTTP/1.1 abc OK\r\n\r\n", NOT_HTTP, id="no status"),
        pytest.param(b"HTTP/1.1 103 Hints\r\n\r\n" * 20_000, NOT_HTTP, id="nothing but 1xx"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", BROKEN, id="1xx and silence"),
    ],
)
def test_a_broken_answer_is_an_error_of_its_own(
    tmp_path: Path, data: bytes, expected: tuple[ImageErrorCode, bool]
) -> None:
    error = failure(tmp_path, says(data))
    assert (error.code, error.retryable) == expected


def test_an_upgrade_to_another_protocol_is_no_image(tmp_path: Path) -> None:
    error = failure(tmp_path, says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nabc"))
    assert error.code in {ImageErrorCode.HTTP_ERROR, ImageErrorCode.CONNECT_FAILURE}


@pytest.mark.parametrize(
    ("data", "body"),
    [
        pytest.param(OK + b"Content-Length: 3\r\n\r\nabcdef", b"abc", id="longer than said"),
        pytest.param(OK + b"\r\nabc", b"abc", id="no length"),
        pytest.param(b"HTTP/1.0 200 OK\n\nabc", b"abc", id="bare line feeds"),
        pytest.param(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n"
            + OK
            + b"Content-Length: 3\r\n\r\nabc",
            b"abc",
            id="1xx first",
        ),
        pytest.param(
            OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n",
            b"abc",
            id="chunks and a trailer",
        ),
        pytest.param(OK + b"Content-Encoding: nonsense\r\n\r\nabc", b"abc", id="odd encoding"),
    ],
)
def test_odd_answers_with_an_image_in_them_are_taken(
    tmp_path: Path, data: bytes, body: bytes
) -> None:
    with origin(says(data)) as server, fetching(tmp_path) as fetcher:
        assert fetcher.fetch(server.url()).body == body


@pytest.mark.parametrize("encoding", ["Content-Encoding: gzip\r\n", ""])
def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path, encoding: str) -> None:
    bomb = gzip.compress(bytes(20 * 2**20))
    with (
        origin(lambda visit: visit.respond(bomb, headers=encoding)) as server,
        fetching(tmp_path) as fetcher,
    ):
        assert fetcher.fetch(server.url()).body == bomb
        assert "accept-encoding" not in server.visits[0].head.lower()


def endless(head: bytes, unit: bytes) -> Answer:
    def answer(visit: Visit) -> None:
        visit.send(head)
        while not visit.closing.is_set():
            visit.send(unit * (65536 // len(unit)))

    return answer


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(OK + b"\r\n", id="no length"),
        pytest.param(OK + b"Content-Length: 1000000000000\r\n\r\n", id="with length"),
    ],
)
@pytest.mark.parametrize("spill_bytes", [0, 100_000, 10**9])
def test_an_endless_body_is_cut_off_and_leaves_no_file(
    tmp_path: Path, head: bytes, spill_bytes: int
) -> None:
    limits = FetchLimits(max_bytes=2**20, spill_bytes=spill_bytes)
    error = failure(tmp_path, endless(head, b"x"), limits)
    assert (error.code, error.retryable) == TOO_LARGE
    assert "1 MB" in error.message


def test_endless_chunks_are_cut_off(tmp_path: Path) -> None:
    head = OK + b"Transfer-Encoding: chunked\r\n\r\n"
    error = failure(tmp_path, endless(head, b"4\r\nabcd\r\n"), FetchLimits(max_bytes=2**20))
    assert (error.code, error.retryable) == TOO_LARGE


def test_endless_headers_are_cut_off(tmp_path: Path) -> None:
    error = failure(tmp_path, endless(OK, b"X: y\r\n"))
    assert (error.code, error.retryable) == NOT_HTTP


def test_a_body_of_just_the_limit_is_taken(tmp_path: Path) -> None:
    limits = FetchLimits(max_bytes=100_000)
    with fetching(tmp_path, limits=limits) as fetcher:
        with origin(lambda visit: visit.respond(bytes(100_000))) as server:
            assert fetcher.fetch(server.url()).size == 100_000
        with (
            origin(says(OK + b"\r\n" + bytes(100_001))) as server,
            pytest.raises(ImageError) as caught,
        ):
            fetcher.fetch(server.url())
    assert caught.value.code is ImageErrorCode.TOO_LARGE


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(endless(b"HTTP/1.1 404 Not Found\r\n\r\n", b"x"), id="endless"),
        pytest.param(
            says(b"HTTP/1.1 404 Not Found\r\nContent-Length: 99999999999\r\n\r\n"), id="huge"
        ),
        pytest.param(
            says(b"HTTP/1.1 404 Not Found\r\nContent-Length: 99\r\n\r\nabc"), id="cut off"
        ),
    ],
)
def test_an_error_page_changes_nothing_about_the_error(tmp_path: Path, answer: Answer) -> None:
    error = failure(tmp_path, answer, FetchLimits(max_bytes=2**20, spill_bytes=1000))
    assert error.code is ImageErrorCode.HTTP_ERROR
    assert error.http_status == 404
    assert not error.retryable


def test_a_reset_is_tried_again(tmp_path: Path) -> None:
    error = failure(tmp_path, lambda visit: visit.reset())
    assert (error.code, error.retryable) == BROKEN


def test_a_reset_in_the_middle_is_tried_again_and_leaves_no_file(tmp_path: Path) -> None:
    def answer(visit: Visit) -> None:
        visit.send(OK + b"Content-Length: 1000000\r\n\r\n" + bytes(50_000))
        visit.wait(0.05)
        visit.reset()

    error = failure(tmp_path, answer, FetchLimits(spill_bytes=1000))
    assert (error.code, error.retryable) == BROKEN


def silent(visit: Visit) -> None:
    visit.wait()


def silent_after_the_head(visit: Visit) -> None:
    visit.send(OK + b"Content-Length: 1000\r\n\r\n")
    visit.wait()


def drip(head: bytes, unit: bytes, seconds: float) -> Answer:
    def answer(visit: Visit) -> None:
        visit.send(head)
        while True:
            visit.send(unit)
            visit.wait(seconds)

    return answer


@pytest.mark.parametrize("answer", [silent, silent_after_the_head])
def test_a_server_that_stalls_is_left(tmp_path: Path, answer: Answer) -> None:
    begun = time.monotonic()
    error = failure(tmp_path, answer, FetchLimits(stall=1, deadline=30))
    assert (error.code, error.retryable) == TIMEOUT
    assert "sent nothing for too long" in error.message
    assert time.monotonic() - begun < 4


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(drip(OK + b"Content-Length: 1000\r\n\r\n", b"x", 0.1), id="body"),
        pytest.param(drip(OK, b"X: y\r\n", 0.1), id="headers"),
        pytest.param(drip(OK + b"X: ", b"y", 0.1), id="one header"),
        pytest.param(
            drip(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", 0.1), id="chunks"
        ),
    ],
)
def test_a_server_that_drips_meets_the_deadline(tmp_path: Path, answer: Answer) -> None:
    begun = time.monotonic()
    error = failure(tmp_path, answer, FetchLimits(deadline=0.8))
    assert (error.code, error.retryable) == TIMEOUT
    assert time.monotonic() - begun < 2


def test_a_host_that_does_not_take_the_connection_is_left(tmp_path: Path) -> None:
    with full_backlog() as port, fetching(tmp_path, limits=FetchLimits(connect_timeout=0.5)) as f:
        begun = time.monotonic()
        with pytest.raises(ImageError, match="could not be reached in time") as caught:
            f.fetch(f"http://127.0.0.1:{port}/a.jpg")
    assert (caught.value.code, caught.value.retryable) == TIMEOUT
    assert time.monotonic() - begun < 3


def test_a_slow_host_does_not_hold_up_others(tmp_path: Path) -> None:
    with (
        origin(silent) as slow,
        origin() as quick,
        fetching(tmp_path, limits=FetchLimits(deadline=2)) as fetcher,
    ):
        ended: list[float] = []

        def run() -> None:
            with pytest.raises(ImageError):
                fetcher.fetch(slow.url())
            ended.append(time.monotonic())

        thread = threading.Thread(target=run)
        thread.start()
        begun = time.monotonic()
        for _ in range(50):
            fetcher.fetch(quick.url())
        assert time.monotonic() - begun < 1.5
        thread.join()


def test_after_any_failure_the_next_fetch_is_clean(tmp_path: Path) -> None:
    answers: list[Callable[[Visit], None]] = [
        says(b""),
        says(OK + b"Content-Length: 100\r\n\r\nabc"),
        endless(OK + b"\r\n", b"x"),
        lambda visit: visit.respond(b"gone", status="404 Not Found"),
    ]

    def answer(visit: Visit) -> None:
        if visit.path == "/good.jpg":
            visit.respond(b"good")
        else:
            answers[int(visit.path[1:])](visit)

    with origin(answer) as server, fetching(tmp_path, limits=FetchLimits(max_bytes=10**6)) as f:
        for number in range(len(answers)):
            with pytest.raises(ImageError):
                f.fetch(server.url(f"/{number}"))
            assert f.fetch(server.url("/good.jpg")).body == b"good"

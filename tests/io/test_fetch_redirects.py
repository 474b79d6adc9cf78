"""Redirects are followed hop by hop, each URL checked and each address guarded."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pixmill.core.errors import ImageError, ImageErrorCode
from pixmill.io.fetch import FetchLimits
from tests.io.origins import IMAGE, Hangup, Visit, fetching, image, origin


def countdown(visit: Visit) -> None:
    """``/3`` redirects to ``/2`` and so on; ``/0`` is an image."""
    left = int(visit.path.lstrip("/"))
    if left:
        visit.redirect(f"/{left - 1}")
    else:
        image(visit)


def test_five_redirects_are_followed(tmp_path: Path) -> None:
    with origin(countdown) as server, fetching(tmp_path) as fetcher:
        assert fetcher.fetch(server.url("/5")).body == IMAGE
        assert [visit.path for visit in server.visits] == ["/5", "/4", "/3", "/2", "/1", "/0"]
        assert server.connections == 1


def test_the_sixth_is_one_too_many(tmp_path: Path) -> None:
    with origin(countdown) as server, fetching(tmp_path) as fetcher:
        with pytest.raises(ImageError, match="more than 5 times") as caught:
            fetcher.fetch(server.url("/6"))
        assert len(server.visits) == 6
    assert caught.value.code is ImageErrorCode.TOO_MANY_REDIRECTS
    assert not caught.value.retryable


def test_a_loop_ends(tmp_path: Path) -> None:
    with origin(lambda visit: visit.redirect(visit.path)) as server, fetching(tmp_path) as fetcher:
        with pytest.raises(ImageError) as caught:
            fetcher.fetch(server.url())
        assert len(server.visits) == 6
    assert caught.value.code is ImageErrorCode.TOO_MANY_REDIRECTS


@pytest.mark.parametrize(
    "status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"]
)
def test_every_kind_of_redirect_is_followed(tmp_path: Path, status: str) -> None:
    def answer(visit: Visit) -> None:
        if visit.path == "/new.jpg":
            image(visit)
        else:
            visit.redirect("new.jpg", status)

    with origin(answer) as server, fetching(tmp_path) as fetcher:
        assert fetcher.fetch(server.url("/old.jpg?x")).body == IMAGE


@pytest.mark.parametrize("status", ["300 Multiple Choices", "304 Not Modified", "305 Use Proxy"])
def test_other_3xx_are_errors(tmp_path: Path, status: str) -> None:
    with (
        origin(lambda visit: visit.redirect("/b", status)) as server,
        fetching(tmp_path) as fetcher,
    ):
        with pytest.raises(ImageError) as caught:
            fetcher.fetch(server.url())
        assert len(server.visits) == 1
    assert caught.value.code is ImageErrorCode.HTTP_ERROR
    assert caught.value.http_status == int(status[:3])


def test_a_redirect_without_a_target_is_an_error_that_says_so(tmp_path: Path) -> None:
    with (
        origin(lambda visit: visit.respond(status="302 Found")) as server,
        fetching(tmp_path) as fetcher,
        pytest.raises(ImageError, match="does not say where") as caught,
    ):
        fetcher.fetch(server.url())
    assert caught.value.http_status == 302


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "ftp://127.0.0.1/a.jpg",
        "gopher://127.0.0.1:6379/_FLUSHALL",
        "dict://127.0.0.1:11211/stats",
        "ldap://127.0.0.1/",
        "smb://127.0.0.1/share",
        "javascript:alert(1)",
        "data:image/png;base64,AAAA",
        "http://[::1",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1%2f.shop.example/",
        "http://[fe80::1%25lo]/",
    ],
)
def test_what_is_not_plain_http_is_not_followed(tmp_path: Path, location: str) -> None:
    with origin(lambda visit: visit.redirect(location)) as server, fetching(tmp_path) as fetcher:
        with pytest.raises(ImageError, match="redirects to a URL that is not followed") as caught:
            fetcher.fetch(server.url())
        assert len(server.visits) == 1
    assert caught.value.code is ImageErrorCode.INVALID_URL


def test_credentials_in_a_redirect_are_never_sent(tmp_path: Path) -> None:
    with origin() as target:
        location = f"http://someone:secret@127.0.0.1:{target.port}/a.jpg"
        with (
            origin(lambda visit: visit.redirect(location)) as server,
            fetching(tmp_path) as fetcher,
        ):
            assert fetcher.fetch(server.url()).body == IMAGE
        assert len(target.visits) == 1
        assert "authorization" not in target.visits[0].head.lower()
        assert "referer" not in target.visits[0].head.lower()


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("/a b.jpg", "/a%20b.jpg"),
        ("/ä.jpg?n=ö".encode().decode("latin-1"), "/%C3%A4.jpg?n=%C3%B6"),
        ("?v=2", "/old/a.jpg?v=2"),
        ("../new.jpg", "/new.jpg"),
        ("/a%2Cb?sig=%2F%3D", "/a%2Cb?sig=%2F%3D"),
    ],
)
def test_sloppy_targets_are_resolved_and_encoded_once(
    tmp_path: Path, location: str, path: str
) -> None:
    def answer(visit: Visit) -> None:
        if visit.path == "/old/a.jpg":
            visit.redirect(location)
        else:
            image(visit)

    with origin(answer) as server, fetching(tmp_path) as fetcher:
        assert fetcher.fetch(server.url("/old/a.jpg")).body == IMAGE
        assert server.visits[-1].path == path


def test_the_deadline_covers_all_hops(tmp_path: Path) -> None:
    def answer(visit: Visit) -> None:
        visit.wait(0.25)
        countdown(visit)

    limits = FetchLimits(deadline=0.6)
    with origin(answer) as server, fetching(tmp_path, limits=limits) as fetcher:
        with pytest.raises(ImageError) as caught:
            fetcher.fetch(server.url("/5"))
        assert len(server.visits) <= 3
    assert caught.value.code is ImageErrorCode.TIMEOUT


def test_the_last_hop_has_only_what_is_left_of_the_deadline(tmp_path: Path) -> None:
    def answer(visit: Visit) -> None:
        if visit.path == "/1":
            visit.wait(0.6)
            visit.redirect("/silent")
        else:
            visit.wait()

    begun = time.monotonic()
    with (
        origin(answer) as server,
        fetching(tmp_path, limits=FetchLimits(deadline=0.8)) as fetcher,
        pytest.raises(ImageError) as caught,
    ):
        fetcher.fetch(server.url("/1"))
    assert caught.value.code is ImageErrorCode.TIMEOUT
    assert time.monotonic() - begun < 1.3


MOVED = b"HTTP/1.1 302 Found\r\nLocation: %s\r\n"


def _hangs(visit: Visit) -> None:
    visit.send(MOVED % b"b.jpg" + b"Content-Length: 99\r\n\r\nmov")
    visit.wait()


def _hangs_before_its_body(visit: Visit) -> None:
    visit.send(MOVED % b"?b" + b"Content-Length: 99\r\n\r\n")
    visit.wait()


def _breaks_off(visit: Visit) -> None:
    visit.send(MOVED % b"//127.0.0.1:%d/b c.jpg" % visit.connection.getsockname()[1])
    visit.send(b"Content-Length: 99\r\n\r\nmov")
    raise Hangup


def _is_announced_as_huge(visit: Visit) -> None:
    visit.send(b"HTTP/1.1 302 Found\r\nContent-Length: 99999999999\r\nlocation: /b\r\n\r\n")
    raise Hangup


def _never_ends(visit: Visit) -> None:
    visit.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
    visit.send(MOVED % b"/b" + b"Transfer-Encoding: chunked\r\n\r\n")
    while not visit.closing.is_set():
        visit.send(b"400\r\n" + bytes(1024) + b"\r\n")


@pytest.mark.parametrize(
    "redirect",
    [_hangs, _hangs_before_its_body, _breaks_off, _is_announced_as_huge, _never_ends],
)
def test_a_redirect_is_followed_whatever_becomes_of_its_body(
    tmp_path: Path, redirect: Callable[[Visit], None]
) -> None:
    limits = FetchLimits(stall=1)
    with (
        origin(lambda visit: image(visit) if "b" in visit.path else redirect(visit)) as server,
        fetching(tmp_path, limits=limits) as fetcher,
    ):
        assert fetcher.fetch(server.url("/old/a")).body == IMAGE
        assert len(server.visits) == 2


def test_a_redirect_that_never_says_where_to_is_tried_again(tmp_path: Path) -> None:
    def answer(visit: Visit) -> None:
        visit.send(b"HTTP/1.1 302 Found\r\nLoca")
        visit.wait()

    with (
        origin(answer) as server,
        fetching(tmp_path, limits=FetchLimits(stall=1)) as fetcher,
        pytest.raises(ImageError) as caught,
    ):
        fetcher.fetch(server.url())
    assert caught.value.retryable


@pytest.mark.parametrize("status", ["302 Found", "404 Not Found"])
def test_nobody_waits_for_the_rest_of_an_error_page(tmp_path: Path, status: str) -> None:
    def answer(visit: Visit) -> None:
        visit.send(f"HTTP/1.1 {status}\r\nContent-Length: 99\r\n\r\nsorry".encode())
        visit.wait()

    begun = time.monotonic()
    with (
        origin(answer) as server,
        fetching(tmp_path, limits=FetchLimits(stall=30)) as fetcher,
        pytest.raises(ImageError) as caught,
    ):
        fetcher.fetch(server.url())
    assert caught.value.http_status == int(status[:3])
    assert time.monotonic() - begun < 15

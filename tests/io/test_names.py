"""Host names: looked up once for all that wait, and one that hangs holds up no other."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pycurl
import pytest

from pixmill.core.errors import ImageError, ImageErrorCode
from pixmill.io import names as names_module
from pixmill.io.fetch import FetchLimits
from pixmill.io.names import is_name
from tests.io.origins import IMAGE, Visit, fetching, image, origin


class Asked(Counter[str]):
    """How often each name was asked for; what hangs does so until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.over = threading.Event()

    def release(self) -> None:
        """Let the name servers that hang answer."""
        self.over.set()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Asked]:
    """Name servers that know ``*.example`` as this host, and never answer for ``*.hang``."""
    count = Asked()

    def getaddrinfo(host: str, *_: object, **__: object) -> list[Any]:
        count[host] += 1
        if host.endswith(".hang"):
            count.over.wait(30)
        if host.endswith(".example"):
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(names_module.socket, "getaddrinfo", getaddrinfo)
    yield count
    count.release()


NO_NAMES = """127.0.0.1 [::1] [fe80::1] 127.1 0x7f.1 0x7f000001 2130706433 127.0.0.1.
    localhost cdn.localhost localhost."""


@pytest.mark.parametrize("host", NO_NAMES.split())
def test_addresses_and_this_host_are_not_looked_up(host: str) -> None:
    assert not is_name(host)


@pytest.mark.parametrize("host", ["shop.example", "cdn1.shop.example.", "7.shop", "a-0x1", "0x7g"])
def test_everything_else_is_a_name(host: str) -> None:
    assert is_name(host)


def test_a_name_is_looked_up_once_for_all_that_ask_for_it(tmp_path: Path, asked: Asked) -> None:
    with origin() as server, fetching(tmp_path) as fetcher:
        urls = [server.url(f"/{number}.jpg", host="shop.example") for number in range(20)]
        with ThreadPoolExecutor(20) as threads:
            assert {fetched.body for fetched in threads.map(fetcher.fetch, urls)} == {IMAGE}
        assert fetcher.fetch(server.url(host="shop.example")).body == IMAGE
        assert "Host: shop.example" in server.visits[0].head
    assert asked == {"shop.example": 1}


def test_libcurl_is_told_the_addresses_anew_when_it_has_forgotten_them(
    tmp_path: Path, asked: Asked
) -> None:
    def answer(visit: Visit) -> None:
        visit.respond(IMAGE, headers="Connection: close\r\n")

    with origin(answer) as server, fetching(tmp_path) as fetcher:
        url = server.url(host="shop.example")
        assert fetcher.fetch(url).body == IMAGE
        (transfer,) = fetcher.fetcher._transfers._idle
        transfer._curl.setopt(pycurl.DNS_CACHE_TIMEOUT, 1)  # a minute otherwise
        for _ in range(2):
            time.sleep(1.2)
            assert fetcher.fetch(url).body == IMAGE
    assert asked == {"shop.example": 1}


def test_the_names_of_redirects_are_looked_up_too(tmp_path: Path, asked: Asked) -> None:
    def answer(visit: Visit) -> None:
        if "first.example" in visit.head:
            visit.redirect(f"http://second.example:{server.port}/b.jpg")
        else:
            image(visit)

    with origin(answer) as server, fetching(tmp_path) as fetcher:
        assert fetcher.fetch(server.url(host="first.example")).body == IMAGE
    assert asked == {"first.example": 1, "second.example": 1}


def test_the_guard_judges_what_a_name_stands_for(tmp_path: Path, asked: Asked) -> None:
    with origin() as server, fetching(tmp_path, allowed="") as fetcher:
        with pytest.raises(ImageError) as caught:
            fetcher.fetch(server.url(host="rebound.example"))
        assert server.connections == 0
    assert caught.value.code is ImageErrorCode.FORBIDDEN_ADDRESS
    assert asked["rebound.example"] == 1


def test_an_unknown_name_is_a_dns_failure_and_asked_again_the_next_time(
    tmp_path: Path, asked: Asked
) -> None:
    with fetching(tmp_path) as fetcher:
        for _ in range(2):
            with pytest.raises(ImageError, match="could not be resolved") as caught:
                fetcher.fetch("http://nobody.invalid/a.jpg")
    assert caught.value.code is ImageErrorCode.DNS_FAILURE
    assert caught.value.retryable
    assert asked["nobody.invalid"] == 2


def test_names_that_hang_hold_up_no_other(tmp_path: Path, asked: Asked) -> None:
    limits = FetchLimits(connect_timeout=4.0)
    with (
        origin() as server,
        fetching(tmp_path, limits=limits) as fetcher,
        ThreadPoolExecutor(50) as threads,
    ):
        hanging = [
            threads.submit(_error_of, fetcher.fetch, f"http://shop{number % 25}.hang/{number}.jpg")
            for number in range(50)
        ]
        time.sleep(0.3)
        begun = time.monotonic()
        assert fetcher.fetch(server.url(host="shop.example")).body == IMAGE
        assert fetcher.fetch(server.url()).body == IMAGE
        assert time.monotonic() - begun < 3
        errors = [future.result(timeout=60) for future in hanging]
    assert {error.code for error in errors} == {ImageErrorCode.TIMEOUT}
    assert all("could not be reached in time" in error.message for error in errors)
    assert sum(asked.values()) == 26


def test_at_most_so_many_names_are_looked_up_at_once(
    tmp_path: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names_module, "_MOST_AT_ONCE", 3)
    with origin() as server, fetching(tmp_path) as fetcher, ThreadPoolExecutor(12) as threads:
        urls = [server.url(host=f"shop{number}.example") for number in range(12)]
        assert {fetched.body for fetched in threads.map(fetcher.fetch, urls)} == {IMAGE}
    assert sum(asked.values()) == 12


def test_a_name_has_its_time_from_when_it_is_looked_up_and_none_once_nobody_waits(
    tmp_path: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names_module, "_MOST_AT_ONCE", 1)
    limits = FetchLimits(connect_timeout=0.7, deadline=4.0)
    with (
        origin() as server,
        fetching(tmp_path, limits=limits) as fetcher,
        ThreadPoolExecutor(8) as threads,
    ):
        first = threads.submit(_error_of, fetcher.fetch, "http://one.hang/a.jpg")
        while not asked:
            time.sleep(0.01)
        late = [
            threads.submit(_error_of, fetcher.fetch, f"http://shop{number}.nowhere/a.jpg")
            for number in range(4)
        ]
        first.result()
        time.sleep(0.5)
        assert not any(future.done() for future in late)  # nobody has looked for them yet
        assert {future.result().code for future in late} == {ImageErrorCode.TIMEOUT}
        in_time = threads.submit(fetcher.fetch, server.url(host="shop.example"))
        time.sleep(1.0)
        asked.release()
        assert in_time.result().body == IMAGE
    assert set(asked) == {"one.hang", "shop.example"}


def _error_of(fetch: Callable[[str], object], url: str) -> ImageError:
    with pytest.raises(ImageError) as caught:
        fetch(url)
    return caught.value

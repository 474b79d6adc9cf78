"""What a connection may cost before its call is known, tried with bare sockets."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI

from pixmill.web.connections import LONGEST_HEAD, PIECE, GuardedConnection
from tests.web.server import CSV, serving

START = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n"
CHUNKED = b"POST /api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"

MUCH = 60_000_000
"""Bytes, more than all buffers between may take together."""


class Hasty(GuardedConnection):
    """Waits for a head no longer than a test may take."""

    head_seconds = 0.2


@pytest.fixture
def connection(app: FastAPI) -> Iterator[socket.socket]:
    with serving(app) as url, connected(url) as made:
        yield made


def connected(url: str) -> closing[socket.socket]:
    """A bare connection to the service."""
    address = urlsplit(url)
    return closing(socket.create_connection((address.hostname or "", address.port or 0), 30))


def all_of(connection: socket.socket) -> bytes:
    """What the service says until it hangs up, however it does that."""
    said = b""
    with suppress(ConnectionError):
        while piece := connection.recv(65536):
            said += piece
    return said


def flood(connection: socket.socket, start: bytes, piece: bytes) -> tuple[int, bytes]:
    """How many bytes the service took of what never ends, and what it said then."""
    sent = 0
    connection.sendall(start)
    with suppress(ConnectionError):
        for _ in range(MUCH // len(piece)):
            connection.sendall(piece)
            sent += len(piece)
    return sent, all_of(connection)


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (START, b"X-Filler: " + b"x" * 990 + b"\r\n"),
        (START + b"X-Endless: ", b"x" * 1000),
        (START, b"x" * 1000),
        (b"GET /", b"x" * 1000),
        (CHUNKED + b"0\r\n", b"X-Trailer: " + b"x" * 990 + b"\r\n"),
        (CHUNKED + b"1;extended=", b"x" * 1000),
    ],
    ids=["many headers", "one header", "one name", "request line", "trailers", "chunk extension"],
)
def test_what_never_ends_is_hung_up_on(
    connection: socket.socket, start: bytes, piece: bytes
) -> None:
    sent, _ = flood(connection, start, piece)
    assert sent < MUCH // 2


def test_a_head_that_is_too_large_is_told_so(connection: socket.socket) -> None:
    connection.sendall(START + b"X-Filler: " + b"x" * (LONGEST_HEAD + PIECE))
    said = all_of(connection)
    assert said.startswith(b"HTTP/1.1 431 ")
    assert b'"code": "headers_too_large"' in said
    assert b"connection: close" in said


def test_heads_just_below_the_limit_are_fine_one_after_the_other(
    connection: socket.socket,
) -> None:
    filler = b"X-Filler: " + b"x" * (LONGEST_HEAD - len(START) - 100) + b"\r\n\r\n"
    for _ in range(3):
        connection.sendall(START + filler)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_bodies_may_be_much_larger_than_heads_and_another_call_may_follow(
    connection: socket.socket,
) -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="csv"; filename="a.csv"\r\n\r\n'
        + CSV
        + b"\n" * 500_000
        + b"\r\n--b--\r\n"
    )
    head = (
        b"POST /api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: %d\r\n\r\n" % len(body)
    )
    connection.sendall(head + body + START + b"Connection: close\r\n\r\n")
    said = all_of(connection)
    assert said.startswith(b"HTTP/1.1 202 ")
    assert b"HTTP/1.1 200 " in said


@pytest.mark.parametrize("start", [b"", b"\r\n", START], ids=["nothing", "a blank", "half a head"])
def test_a_head_that_takes_too_long_is_hung_up_on(app: FastAPI, start: bytes) -> None:
    with serving(app, Hasty) as url, connected(url) as connection:
        connection.sendall(start)
        assert all_of(connection) == b""


def test_a_head_that_trickles_has_no_more_time_and_neither_has_a_second_one(app: FastAPI) -> None:
    with serving(app, Hasty) as url, connected(url) as connection:
        connection.sendall(START + b"\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        connection.sendall(START + b"X-Filler: ")
        deadline = time.monotonic() + 15
        connection.settimeout(0.01)
        while True:
            assert time.monotonic() < deadline, "it is never hung up on"
            try:
                connection.sendall(b"x")
                assert connection.recv(1) == b""
                break
            except TimeoutError:
                continue
            except ConnectionError:
                break


def test_a_call_in_hand_has_all_the_time_it_needs(app: FastAPI) -> None:
    @app.get("/slow")
    def slow() -> str:
        time.sleep(3 * Hasty.head_seconds)
        return "done"

    with serving(app, Hasty) as url, connected(url) as connection:
        connection.sendall(b"GET /slow HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        assert b"done" in all_of(connection)

"""Posting webhooks: only a permitted address is dialled, and whatever it answers is bounded."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from pixmill.core.addresses import AddressPolicy
from pixmill.core.errors import InvalidOption
from pixmill.io.post import MOST_ANSWER_BYTES, Answer, Poster, check_endpoint
from tests.io.origins import LOOPBACK, Visit, free_port, origin

HEADERS = {"Content-Type": "application/json", "webhook-id": "msg_1"}
BODY = b'{"type": "request.completed"}'


def post(url: str, allowed: str = LOOPBACK, timeout: float = 10) -> Answer:
    """Post the body once."""
    poster = Poster(AddressPolicy.parse(allowed), "pixmill/test", timeout=timeout)
    try:
        return poster.post(url, HEADERS, BODY)
    finally:
        poster.close()


def read_body(visit: Visit) -> bytes:
    """The body of a request, of which some may have come with its head."""
    head, _, start = visit.head.partition("\r\n\r\n")
    size = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
    body = start.encode("latin-1")
    while len(body) < size:
        more = visit.connection.recv(size - len(body))
        assert more, "the connection ended before the body did"
        body += more
    return body


def test_the_body_and_the_headers_arrive_as_they_are() -> None:
    bodies = []

    def answer(visit: Visit) -> None:
        bodies.append(read_body(visit))
        visit.respond(status="204 No Content")

    with origin(answer) as server:
        told = post(server.url("/hook?a=1"))
    assert (told.http_status, told.error) == (204, None)
    assert bodies == [BODY]
    head = server.visits[0].head
    assert head.startswith("POST /hook?a=1 HTTP/1.1\r\n")
    assert "content-type: application/json\r\n" in head.lower()
    assert "webhook-id: msg_1\r\n" in head
    assert "expect" not in head.lower()


def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    def answer(visit: Visit) -> None:
        read_body(visit)
        visit.redirect("/elsewhere")

    with origin(answer) as server:
        assert post(server.url()).http_status == 302
    assert len(server.visits) == 1


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_told_however_long_it_is(form: str) -> None:
    def answer(visit: Visit) -> None:
        read_body(visit)
        date = formatdate(time.time() + 50_000, usegmt=True)
        asked = "50000" if form == "seconds" else date
        visit.send(b"HTTP/1.1 103 Early Hints\r\nRetry-After: 1\r\n\r\n")
        visit.respond(status="503 Service Unavailable", headers=f"retry-AFTER:{asked}\r\n")

    with origin(answer) as server:
        told = post(server.url())
    assert told.http_status == 503
    assert told.retry_after == pytest.approx(50_000, abs=60)


def test_an_earlier_answers_retry_after_is_not_the_next_ones() -> None:
    def answer(visit: Visit) -> None:
        read_body(visit)
        asked = "Retry-After: 7\r\n" if len(server.visits) == 1 else ""
        visit.respond(status="503 Service Unavailable", headers=asked)

    with origin(answer) as server:
        poster = Poster(AddressPolicy.parse(LOOPBACK), "pixmill/test")
        try:
            told = [poster.post(server.url(), HEADERS, BODY).retry_after for _ in range(2)]
        finally:
            poster.close()
    assert told == [7, None]


def test_a_receiver_that_hangs_is_given_up() -> None:
    with origin(lambda visit: visit.wait()) as server:
        started = time.monotonic()
        told = post(server.url(), timeout=0.5)
    assert told.http_status is None
    assert told.error == "127.0.0.1 did not answer in time."
    assert time.monotonic() - started < 10


def test_a_receiver_that_never_ends_its_answer_is_cut_short() -> None:
    sent = 0

    def answer(visit: Visit) -> None:
        nonlocal sent
        read_body(visit)
        visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while sent < 200_000_000:
            visit.send(b"x" * MOST_ANSWER_BYTES)
            sent += MOST_ANSWER_BYTES

    with origin(answer) as server:
        assert post(server.url()).http_status == 200
    assert sent < 200_000_000


def test_a_receiver_that_drips_its_answer_has_answered() -> None:
    def answer(visit: Visit) -> None:
        read_body(visit)
        visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            visit.send(b".")
            visit.wait(0.1)

    with origin(answer) as server:
        assert post(server.url(), timeout=0.5).http_status == 200


def test_nobody_at_home_is_told_in_words() -> None:
    told = post(f"http://127.0.0.1:{free_port()}/hook")
    assert (told.http_status, told.error) == (None, "127.0.0.1 does not accept connections.")


def test_a_forbidden_address_gets_no_packet() -> None:
    with origin(lambda visit: visit.respond()) as server:
        told = post(server.url(), allowed="")
    assert server.connections == 0
    assert told.http_status is None
    assert "not on the public internet" in (told.error or "")


def test_the_guard_judges_each_post_anew() -> None:
    with origin(lambda visit: (read_body(visit), visit.respond())[1]) as server:
        poster = Poster(AddressPolicy.parse(f"127.0.0.1:{server.port}"), "pixmill/test")
        try:
            assert poster.post(server.url(), HEADERS, BODY).http_status == 200
            other = poster.post("http://127.0.0.1:1/", HEADERS, BODY)
            assert "was not asked" in (other.error or "")
            assert poster.post(server.url(), HEADERS, BODY).http_status == 200
        finally:
            poster.close()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://example.com/", "http"),
        ("http://user:pass@127.0.0.1/", "user"),
        ("http://127.0.0.1/hook", "not on the public internet"),
        ("http://localhost/hook", "not on the public internet"),
        ("http://169.254.169.254/latest", "not on the public internet"),
        ("http://[::1]/hook", "not on the public internet"),
        ("http://no-such-host.invalid/hook", "could not be resolved"),
        ("http://" + "a" * 64 + ".example/", "could not be resolved|not a usable"),
        ("nonsense", "http"),
    ],
)
def test_an_endpoint_that_would_never_be_dialled_cannot_be_registered(
    url: str, reason: str
) -> None:
    with pytest.raises(InvalidOption, match=reason):
        check_endpoint(url, AddressPolicy())


def test_an_allowed_endpoint_can_be_registered() -> None:
    check_endpoint("http://127.0.0.1:9000/hook", AddressPolicy.parse("127.0.0.1:9000"))

"""Fetching over TLS: bad certificates are final, broken handshakes are not."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import pytest
import trustme

from pixmill.core.errors import ImageError, ImageErrorCode
from pixmill.io.fetch import FetchLimits
from tests.io.origins import IMAGE, Hangup, Visit, blurting, fetching, origin

CA = trustme.CA()
LONG_AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


@pytest.fixture
def ca_file(tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    CA.cert_pem.write_to_path(str(path))
    return str(path)


def tls(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_an_image_is_fetched_from_a_server_with_a_good_certificate(
    tmp_path: Path, ca_file: str, host: str
) -> None:
    context = tls(CA.issue_cert("localhost", "127.0.0.1"))
    with origin(tls=context) as server, fetching(tmp_path, ca_file=ca_file) as fetcher:
        for _ in range(3):
            assert fetcher.fetch(server.url(host=host)).body == IMAGE
        assert server.connections == 1


@pytest.mark.parametrize(
    "certificate",
    [
        pytest.param(trustme.CA().issue_cert("127.0.0.1"), id="unknown authority"),
        pytest.param(CA.issue_cert("shop.example"), id="another host"),
        pytest.param(CA.issue_cert("127.0.0.1", not_after=LONG_AGO), id="expired"),
    ],
)
def test_a_bad_certificate_is_final(
    tmp_path: Path, ca_file: str, certificate: trustme.LeafCert
) -> None:
    with origin(tls=tls(certificate)) as server, fetching(tmp_path, ca_file=ca_file) as fetcher:
        with pytest.raises(ImageError, match=r"certificate of 127\.0\.0\.1") as caught:
            fetcher.fetch(server.url())
        assert not server.visits
    assert caught.value.code is ImageErrorCode.TLS_FAILURE
    assert not caught.value.retryable


def test_without_a_file_of_its_own_the_public_authorities_are_trusted(tmp_path: Path) -> None:
    context = tls(CA.issue_cert("127.0.0.1"))
    with (
        origin(tls=context) as server,
        fetching(tmp_path) as fetcher,
        pytest.raises(ImageError) as caught,
    ):
        fetcher.fetch(server.url())
    assert caught.value.code is ImageErrorCode.TLS_FAILURE


def test_an_unreadable_file_of_authorities_is_named_as_the_reason(tmp_path: Path) -> None:
    context = tls(CA.issue_cert("127.0.0.1"))
    with (
        origin(tls=context) as server,
        fetching(tmp_path, ca_file=str(tmp_path / "none.pem")) as fetcher,
        pytest.raises(ImageError, match="trusted certificates cannot be read") as caught,
    ):
        fetcher.fetch(server.url())
    assert caught.value.code is ImageErrorCode.TLS_FAILURE


@pytest.mark.parametrize("first_words", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_a_broken_handshake_may_be_tried_again(tmp_path: Path, first_words: bytes) -> None:
    with (
        blurting(first_words) as port,
        fetching(tmp_path) as fetcher,
        pytest.raises(ImageError) as caught,
    ):
        fetcher.fetch(f"https://127.0.0.1:{port}/a.jpg")
    assert caught.value.code is ImageErrorCode.TLS_FAILURE
    assert caught.value.retryable


def test_a_handshake_that_never_ends_meets_the_connect_timeout(tmp_path: Path) -> None:
    limits = FetchLimits(connect_timeout=0.5)
    with (
        origin() as server,  # waits for an HTTP request that does not come
        fetching(tmp_path, limits=limits) as fetcher,
        pytest.raises(ImageError, match="could not be reached in time") as caught,
    ):
        fetcher.fetch(server.url().replace("http:", "https:"))
    assert caught.value.code is ImageErrorCode.TIMEOUT


def test_https_may_redirect_to_http_and_back(tmp_path: Path, ca_file: str) -> None:
    context = tls(CA.issue_cert("127.0.0.1"))
    with (
        origin() as plain,
        origin(lambda visit: visit.redirect(plain.url()), tls=context) as secure,
        origin(lambda visit: visit.redirect(secure.url())) as first,
        fetching(tmp_path, ca_file=ca_file) as fetcher,
    ):
        assert fetcher.fetch(first.url()).body == IMAGE


def test_a_body_cut_off_without_a_goodbye_is_tried_again(tmp_path: Path, ca_file: str) -> None:
    def answer(visit: Visit) -> None:
        visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc")
        raise Hangup

    context = tls(CA.issue_cert("127.0.0.1"))
    with (
        origin(answer, tls=context) as server,
        fetching(tmp_path, ca_file=ca_file) as fetcher,
        pytest.raises(ImageError) as caught,
    ):
        fetcher.fetch(server.url())
    assert caught.value.code is ImageErrorCode.CONNECT_FAILURE
    assert caught.value.retryable

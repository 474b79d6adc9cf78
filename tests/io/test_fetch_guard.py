"""The guard acts on the address that is dialled, whatever URL, name or redirect say."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pixmill.core.errors import ImageError, ImageErrorCode
from tests.io.origins import IMAGE, Origin, fetching, free_port, origin

# Each spells this machine or a cloud's metadata service; each passes a filter that looks at text.
THIS_HOST = [
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "127.0.1",
    "2130706433",
    "017700000001",
    "0x7f000001",
    "0177.0.0.1",
    "0x7f.0.0.1",
    "0x7f.1",
    "127.255.255.254",
    "0.0.0.0",
    "0",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "cdn.localhost",
    "a.b.localhost",
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::1]",
]
METADATA = [
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "169.254.43518",
    "169.16689662",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::a9fe:a9fe]",
    "[2002:a9fe:a9fe::1]",
    "[fd00:ec2::254]",
    "[fe80::a9fe:a9fe]",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
]


@contextlib.contextmanager
def listening_everywhere() -> Iterator[list[Origin]]:
    """Servers on one port of every address of this machine, IPv6 included where there is any."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(origin(address="0.0.0.0"))]
        if has_ipv6():
            servers.append(stack.enter_context(origin(address="::", port=servers[0].port)))
        yield servers


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(
    not has_ipv6() and not os.environ.get("CI"), reason="this machine has no IPv6 loopback"
)


@pytest.mark.parametrize("host", THIS_HOST)
def test_no_spelling_of_this_host_gets_a_packet(tmp_path: Path, host: str) -> None:
    with listening_everywhere() as servers, fetching(tmp_path, allowed="") as fetcher:
        with pytest.raises(ImageError) as caught:
            fetcher.fetch(servers[0].url(host=host))
        time.sleep(0.01)  # a connection would be accepted by now
        assert [server.connections for server in servers] == [0] * len(servers)
    assert caught.value.code is ImageErrorCode.FORBIDDEN_ADDRESS
    assert not caught.value.retryable


@pytest.mark.parametrize("host", METADATA)
def test_no_spelling_of_a_metadata_service_is_dialled(tmp_path: Path, host: str) -> None:
    begun = time.monotonic()
    with fetching(tmp_path) as fetcher, pytest.raises(ImageError) as caught:
        fetcher.fetch(f"http://{host}/latest/meta-data/")
    assert caught.value.code is ImageErrorCode.FORBIDDEN_ADDRESS
    assert time.monotonic() - begun < 1  # dialling would wait for an answer that never comes


@pytest.mark.parametrize("host", METADATA)
def test_no_redirect_leads_to_a_metadata_service(tmp_path: Path, host: str) -> None:
    location = f"http://{host}/latest/meta-data/?secret"
    with (
        origin(lambda visit: visit.redirect(location)) as server,
        fetching(tmp_path) as fetcher,
        pytest.raises(ImageError) as caught,
    ):
        fetcher.fetch(server.url())
    assert caught.value.code is ImageErrorCode.FORBIDDEN_ADDRESS
    assert "secret" not in caught.value.message


def test_a_redirect_to_another_port_of_an_allowed_host_is_guarded(tmp_path: Path) -> None:
    with (
        origin() as secret,
        origin(lambda visit: visit.redirect(secret.url())) as server,
        fetching(tmp_path, allowed=f"127.0.0.1:{server.port}") as fetcher,
    ):
        with pytest.raises(ImageError) as caught:
            fetcher.fetch(server.url())
        assert secret.connections == 0
    assert caught.value.code is ImageErrorCode.FORBIDDEN_ADDRESS


def test_a_forbidden_port_of_a_public_address_is_not_dialled(tmp_path: Path) -> None:
    with fetching(tmp_path) as fetcher, pytest.raises(ImageError, match="port 8080") as caught:
        fetcher.fetch("http://192.0.1.1:8080/a.jpg")
    assert caught.value.code is ImageErrorCode.FORBIDDEN_ADDRESS


@needs_ipv6
def test_a_name_with_several_addresses_falls_over_to_the_permitted_one(tmp_path: Path) -> None:
    """``localhost`` resolves to ::1 and 127.0.0.1: the name is the same, the address decides."""
    with (
        origin(address="127.0.0.1") as four,
        origin(address="::1", port=four.port) as six,
        fetching(tmp_path, allowed="[::1]") as only_six,
        fetching(tmp_path, allowed="127.0.0.1") as only_four,
    ):
        assert only_six.fetch(four.url(host="localhost")).body == IMAGE
        assert (four.connections, six.connections) == (0, 1)
        assert only_four.fetch(four.url(host="cdn.localhost")).body == IMAGE
        assert (four.connections, six.connections) == (1, 1)


def test_a_permitted_address_that_does_not_answer_is_no_forbidden_address(tmp_path: Path) -> None:
    with fetching(tmp_path, allowed="127.0.0.1") as fetcher, pytest.raises(ImageError) as caught:
        fetcher.fetch(f"http://localhost:{free_port()}/")
    assert caught.value.code is ImageErrorCode.CONNECT_FAILURE


def test_the_reason_does_not_tell_what_a_name_resolves_to(tmp_path: Path) -> None:
    with fetching(tmp_path, allowed="") as fetcher, pytest.raises(ImageError) as caught:
        fetcher.fetch("http://intranet.localhost/a.jpg")
    assert "intranet.localhost" in caught.value.message
    assert "127.0.0.1" not in caught.value.message
    assert "::1" not in caught.value.message


def test_a_refusal_does_not_outlive_its_request(tmp_path: Path) -> None:
    with origin() as server, fetching(tmp_path, allowed=f"127.0.0.1:{server.port}") as fetcher:
        with pytest.raises(ImageError):
            fetcher.fetch("http://169.254.169.254/")
        assert fetcher.fetch(server.url()).body == IMAGE
    with fetching(tmp_path, allowed="127.0.0.1") as fetcher:
        with pytest.raises(ImageError):
            fetcher.fetch("http://169.254.169.254/")
        with pytest.raises(ImageError) as caught:
            fetcher.fetch(f"http://127.0.0.1:{free_port()}/")
    assert caught.value.code is ImageErrorCode.CONNECT_FAILURE

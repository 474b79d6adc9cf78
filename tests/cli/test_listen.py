"""Where the service listens: what cannot be is refused with what can."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from pixmill.cli.listen import only_this_machine, open_door
from pixmill.core.errors import InvalidSetting
from pixmill.settings import load_settings


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"host": ""}, "PIXMILL_HOST"),
        ({"host": "a b"}, "Cannot listen on 'a b'"),
        ({"host": "a" * 300}, "Cannot listen on"),
        ({"host": "203.0.113.9"}, "this machine has no such address"),
        ({"tls_cert": "/no/such.pem"}, "Cannot read /no/such.pem"),
        ({"tls_cert": __file__}, "are not a certificate and its unencrypted private key"),
        ({"tls_key": __file__}, "PIXMILL_TLS_KEY is set without"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_is_refused_in_a_sentence(settings: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidSetting) as error:
        open_door(load_settings({"port": 0} | settings, {}))
    assert said in error.value.message


def test_a_private_key_that_asks_for_a_password_is_refused(tmp_path: Path) -> None:
    issued = trustme.CA().issue_cert("127.0.0.1")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(chain)
    plain = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    key.write_bytes(
        plain.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(InvalidSetting, match="unencrypted"):
        open_door(load_settings({"port": 0, "tls_cert": chain, "tls_key": key}, {}))


@pytest.mark.parametrize(
    ("host", "alone"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("localhost", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.1", False),
        ("::ffff:192.0.2.1", False),
    ],
)
def test_only_loopback_is_this_machine_alone(host: str, alone: bool) -> None:
    assert only_this_machine(load_settings({"host": host}, {})) is alone


def test_whoever_names_proxies_is_not_alone() -> None:
    assert not only_this_machine(load_settings({"trusted_proxies": "127.0.0.1"}, {}))


def test_all_addresses_are_named_by_the_name_of_the_machine() -> None:
    door = open_door(load_settings({"host": "0.0.0.0", "port": 0}, {}))
    for opened in door.sockets:
        opened.close()
    assert door.url.startswith(f"http://{socket.gethostname()}:")


def test_a_name_with_two_addresses_has_one_port_on_both() -> None:
    door = open_door(load_settings({"host": "localhost", "port": 0}, {}))
    ports = set()
    for opened in door.sockets:
        with closing(opened):
            ports.add(opened.getsockname()[1])
    assert ports == {int(door.url.rpartition(":")[2])}

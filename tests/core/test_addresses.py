"""The guard: which addresses may be dialled, which URLs may be asked for."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixmill.core.addresses import AddressPolicy, check_url, host_of, place_of
from pixmill.core.errors import ImageError, ImageErrorCode, InvalidSetting

PUBLIC_ONLY = AddressPolicy.parse("")


def words(text: str) -> list[str]:
    return text.split()


PUBLIC = words("""
1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 93.184.216.34 100.63.255.255 100.128.0.0 126.255.255.255
128.0.0.1 151.101.1.1 168.63.129.15 168.63.129.17 169.253.255.255 169.255.0.0 172.15.255.255
172.32.0.0 191.255.255.255 192.0.1.0 192.0.3.0 192.88.98.255 192.88.100.0 192.167.255.255
192.169.0.0 198.17.255.255 198.20.0.0 198.51.99.255 198.51.101.0 203.0.112.255 203.0.114.0
223.255.255.255
2001:200::1 2001:4860:4860::8888 2606:4700:4700::1111 2620:fe::fe 2a00:1450:4001::1 3ffd::1
3fff:1000::1 ::ffff:8.8.8.8 64:ff9b::8.8.8.8 2606:4700::5efe:808:808
""")

FORBIDDEN = words("""
0.0.0.0 0.1.2.3 10.0.0.0 10.1.2.3 10.255.255.255 100.64.0.0 100.100.100.200 100.127.255.255
127.0.0.1 127.255.255.255 168.63.129.16 169.254.0.0 169.254.169.254 169.254.170.2 172.16.0.0
172.31.255.255 192.0.0.1 192.0.0.170 192.0.0.192 192.0.2.1 192.31.196.1 192.52.193.1 192.88.99.1
192.168.0.1 192.168.255.255 192.175.48.1 198.18.0.0 198.19.255.255 198.51.100.7 203.0.113.7
224.0.0.1 233.252.0.1 239.255.255.250 240.0.0.1 255.255.255.255
:: ::1 ::2 ::127.0.0.1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254
::ffff:0:127.0.0.1 ::ffff:0:8.8.8.8 64:ff9b::127.0.0.1 64:ff9b::10.0.0.1 64:ff9b::a9fe:a9fe
64:ff9b:1::10.0.0.1 64:ff9b:1::808:808 100::1 100:0:0:1::1 200::1 1fff::1 4000::1
2001::1 2001:0:7f00:1:: 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:2::1 2001:3::1 2001:4:112::1
2001:10::1 2001:20::1 2001:30::1 2001:1ff::1 2001:db8::1 2002:7f00:1::1 2002:a00:1::1
2002:808:808::1 2620:4f:8000::1 2606:4700::5efe:a00:1 2606:4700::200:5efe:7f00:1
2606:4700::5efe:a9fe:a9fe 3ffe::1 3fff::1 3fff:fff::1 5f00::1 fc00::1 fd00:ec2::254 fdff::1
fe80::1 fe80::1%eth0 fe80::5efe:10.0.0.1 febf::1 fec0::1 feff::1 ff02::1 ff0e::1
""")


def test_the_tables_are_as_long_as_they_should_be() -> None:
    assert len(PUBLIC) + len(FORBIDDEN) >= 120


@pytest.mark.parametrize("address", PUBLIC)
@pytest.mark.parametrize("port", [80, 443])
def test_public_addresses_may_be_dialled_on_web_ports(address: str, port: int) -> None:
    assert PUBLIC_ONLY.refusal(address, port) is None


@pytest.mark.parametrize("address", FORBIDDEN)
def test_everything_else_is_refused_without_repeating_the_address(address: str) -> None:
    refusal = PUBLIC_ONLY.refusal(address, 443)
    assert refusal is not None
    assert address not in refusal.replace("::", "")


@pytest.mark.parametrize("port", [0, 1, 22, 25, 79, 81, 442, 444, 6379, 8080, 65535])
def test_other_ports_are_refused(port: int) -> None:
    assert "not a web port" in str(PUBLIC_ONLY.refusal("8.8.8.8", port))


@pytest.mark.parametrize("text", ["", "localhost", "127.1", "2130706433", "0x7f000001", "1.2.3"])
def test_what_is_not_a_numeric_address_is_refused(text: str) -> None:
    assert PUBLIC_ONLY.refusal(text, 80) is not None


PRIVATE_4 = st.sampled_from(
    [
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "224.0.0.0/4",
        "240.0.0.0/4",
    ]
).flatmap(
    lambda text: st.integers(
        int(IPv4Network(text).network_address), int(IPv4Network(text).broadcast_address)
    )
)
EMBEDDINGS: dict[str, Callable[[int], IPv4Address | IPv6Address]] = {
    "as it is": lambda four: IPv4Address(four),
    "mapped": lambda four: IPv6Address((0xFFFF << 32) | four),
    "compatible": lambda four: IPv6Address(four),
    "translated": lambda four: IPv6Address((0xFFFF << 48) | four),
    "NAT64": lambda four: IPv6Address((0x64FF9B << 96) | four),
    "local NAT64": lambda four: IPv6Address((0x64FF9B0001 << 80) | four),
    "6to4": lambda four: IPv6Address((0x2002 << 112) | (four << 80) | 1),
    "Teredo": lambda four: IPv6Address((0x20010000 << 96) | (four ^ 0xFFFFFFFF)),
    "Teredo server": lambda four: IPv6Address((0x20010000 << 96) | (four << 64) | 0xF7F7F7F7),
    "ISATAP": lambda four: IPv6Address((0x26064700 << 96) | (0x5EFE << 32) | four),
    "global ISATAP": lambda four: IPv6Address((0x26064700 << 96) | (0x2005EFE << 32) | four),
}


@given(PRIVATE_4, st.sampled_from(sorted(EMBEDDINGS)), st.sampled_from([80, 443]))
def test_no_private_ipv4_address_gets_through_in_any_embedding(
    four: int, embedding: str, port: int
) -> None:
    assert PUBLIC_ONLY.refusal(str(EMBEDDINGS[embedding](four)), port) is not None


@given(st.ip_addresses(v=6))
def test_no_ipv6_address_outside_global_unicast_gets_through(address: IPv6Address) -> None:
    unwrapped = address.ipv4_mapped or (
        IPv4Address(int(address) & 0xFFFFFFFF) if int(address) >> 32 == 0x64FF9B << 64 else None
    )
    if int(address) >> 125 != 1 and unwrapped is None:
        assert PUBLIC_ONLY.refusal(str(address), 443) is not None


@given(st.ip_addresses())
def test_the_guard_is_never_more_generous_than_the_standard_library(
    address: IPv4Address | IPv6Address,
) -> None:
    if not address.is_global:
        assert PUBLIC_ONLY.refusal(str(address), 443) is not None


@pytest.mark.parametrize(
    ("allowed", "address", "port"),
    [
        ("127.0.0.0/8:8088", "127.0.0.1", 8088),
        ("127.0.0.0/8:8088", "::ffff:127.0.0.1", 8088),
        ("127.0.0.0/8:8088,[::1]", "::1", 1),
        ("[::1]:9000", "::1", 9000),
        ("::1", "::1", 9000),
        ("fd00::/8", "fd12::1", 80),
        ("[fd00::/8]:80", "fd12::1", 80),
        ("[fd00::]/8:80", "fd12::1", 80),
        (" 10.1.2.3 , 10.1.2.4 ,", "10.1.2.4", 5000),
        ("8.8.8.8:8080", "8.8.8.8", 8080),
    ],
)
def test_the_operator_can_allow_networks_and_ports(allowed: str, address: str, port: int) -> None:
    assert AddressPolicy.parse(allowed).refusal(address, port) is None


@pytest.mark.parametrize(
    ("allowed", "address", "port"),
    [
        ("127.0.0.0/8:8088", "127.0.0.1", 8089),
        ("127.0.0.0/8:8088", "127.0.0.1", 80),
        ("127.0.0.0/8", "::1", 80),
        ("[::1]", "127.0.0.1", 80),
        ("10.1.2.3", "10.1.2.4", 80),
        ("10.0.0.0/8", "64:ff9b::10.1.2.3", 80),
        ("8.8.8.8:8080", "8.8.4.4", 8080),
    ],
)
def test_an_allowed_network_allows_nothing_beside_it(allowed: str, address: str, port: int) -> None:
    assert AddressPolicy.parse(allowed).refusal(address, port) is not None


@pytest.mark.parametrize(
    "entry",
    [
        "localhost",
        "127.0.0.1/8",
        "127.0.0.0/33",
        "127.0.0.1:0",
        "127.0.0.1:65536",
        "127.0.0.1:http",
        "[::1",
        "[127.0.0.1",
        "0177.0.0.1",
        "127.1",
        "*",
        "http://127.0.0.1",
        "::ffff:10.0.0.1",
        "[::g]",
        "10.0.0.0/8/8",
        ":80",
        "[]:80",
        "1:2",
    ],
)
def test_an_entry_that_cannot_be_read_is_named_beside_the_right_form(entry: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        AddressPolicy.parse(f"[::1],{entry}")
    assert repr(entry) in caught.value.message
    assert "127.0.0.0/8:8088" in caught.value.message


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://shop.example/a.jpg", "shop.example"),
        ("HTTPS://Shop.Example:443", "shop.example"),
        ("http://shop.example:/a", "shop.example"),
        ("http://shop.example?q", "shop.example"),
        ("http://shop.example#f", "shop.example"),
        ("http://a_b.example./", "a_b.example."),
        ("http://[2606:4700::1111]:80/", "[2606:4700::1111]"),
        ("http://cdn.example/a@2x.jpg?u=http://b@c", "cdn.example"),
        ("http://cdn.example/w_300,h_200/%2C%20.jpg", "cdn.example"),
        ("http://2130706433/", "2130706433"),
    ],
)
def test_the_host_of_a_plain_url_is_read(url: str, host: str) -> None:
    assert check_url(url) == host


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.jpg",
        "//shop.example/",
        "http:",
        "http:/shop.example",
        "http:shop.example",
        "http://",
        "http:///etc",
        "http://:80/",
        "http://?q",
        "file:///etc/passwd",
        "ftp://shop.example/",
        "gopher://shop.example/",
        "javascript:alert(1)",
        "data:,x",
        "http+unix://x/",
        "dict://x/",
        "http://user@shop.example/",
        "http://user:pw@shop.example/",
        "http://@shop.example/",
        "http://shop.example\\@127.0.0.1/",
        "http://127.0.0.1\\.shop.example/",
        "http://a%2eb/",
        "http://shop.example/a\\b.jpg",
        "http://127.0.0.1%00.shop.example/",
        "http://[fe80::1%25eth0]/",
        "http://shop example/",
        "http://shop.example/\r\nX: y",
        "http://shop.example/\x00",
        "http://shop.example/\t",
        "http://shop.example/a b",
        " http://shop.example/",
        "http://shop.example/\x7f",
        "http://shöp.example/",
        "http://１２７.0.0.1/",  # noqa: RUF001  # the trap itself
        "http://①②⑦.0.0.1/",
        "http://a。b/",
        "http://shop.example:99999/",
        "http://shop.example:0/",
        "http://shop.example:8o/",
        "http://shop.example:80:80/",
        "http://[::1/",
        "http://::1/",
        "http://[v1.a]/",
        "http://a;b/",
    ],
)
def test_anything_but_plain_http_and_https_is_an_invalid_url(url: str) -> None:
    with pytest.raises(ImageError) as caught:
        check_url(url)
    assert caught.value.code is ImageErrorCode.INVALID_URL
    assert not caught.value.retryable


def test_a_user_name_is_named_as_the_trouble() -> None:
    with pytest.raises(ImageError, match="user name or password"):
        check_url("https://user:pw@shop.example/")


@given(st.text(max_size=60).map(lambda text: "http://" + text))
def test_any_text_is_either_a_url_with_a_plain_host_or_refused(url: str) -> None:
    try:
        host = check_url(url)
    except ImageError:
        return
    assert host
    assert not set(host) & set("@/\\%?# \t\r\n")


def test_the_key_of_a_host_ignores_case_port_and_trailing_dot() -> None:
    keys = {host_of(f"{url}/a.jpg") for url in ("http://A.example", "https://a.EXAMPLE.:443")}
    assert keys == {"a.example"}
    assert host_of("file:///a.jpg") == host_of("nonsense") == ""


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://cdn.example/a.jpg?X-Signature=secret#secret", "cdn.example/a.jpg"),
        ("https://user:secret@cdn.example/a.jpg", "cdn.example/a.jpg"),
        ("https://cdn.example?secret", "cdn.example"),
        ("user:secret@cdn.example/a", "cdn.example/a"),
    ],
)
def test_messages_show_a_place_and_no_secret(url: str, place: str) -> None:
    assert place_of(url) == place


def test_the_place_of_a_long_url_is_cut() -> None:
    assert len(place_of("http://a.example/" + "x" * 5000)) == 120

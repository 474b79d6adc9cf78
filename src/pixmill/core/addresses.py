"""Which addresses and URLs pixmill may fetch from: the guard against being used as a proxy inwards.

The guard judges the address that is really dialled, so that redirects, DNS rebinding and odd
spellings of an address end in the same place. ``ipaddress.is_global`` is not used: it says yes to
NAT64, 6to4, Teredo, multicast and several cloud-internal addresses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import NoReturn

from pixmill.core.errors import ImageError, ImageErrorCode, InvalidSetting

_WEB_PORTS = frozenset({80, 443})

# The IANA special-purpose registry of IPv4 (RFC 6890), and what it lacks.
_DENIED_4 = [
    (IPv4Network(network), what)
    for network, what in (
        ("0.0.0.0/8", "this host itself"),  # RFC 791, RFC 1122 section 3.2.1.3
        ("10.0.0.0/8", "a private network"),  # RFC 1918
        ("100.64.0.0/10", "a provider's shared network"),  # RFC 6598; Alibaba's metadata too
        ("127.0.0.0/8", "this host itself"),  # RFC 1122 section 3.2.1.3
        ("168.63.129.16/32", "the Azure platform"),  # no RFC: Azure's virtual public address
        ("169.254.0.0/16", "link-local, where cloud metadata lives"),  # RFC 3927
        ("172.16.0.0/12", "a private network"),  # RFC 1918
        ("192.0.0.0/24", "reserved for protocols"),  # RFC 6890; Oracle's metadata too
        ("192.0.2.0/24", "reserved for documentation"),  # RFC 5737
        ("192.31.196.0/24", "reserved for AS112"),  # RFC 7535
        ("192.52.193.0/24", "reserved for multicast tunnels"),  # RFC 7450
        ("192.88.99.0/24", "a 6to4 relay"),  # RFC 3068, RFC 7526
        ("192.168.0.0/16", "a private network"),  # RFC 1918
        ("192.175.48.0/24", "reserved for AS112"),  # RFC 7534
        ("198.18.0.0/15", "reserved for benchmarks"),  # RFC 2544
        ("198.51.100.0/24", "reserved for documentation"),  # RFC 5737
        ("203.0.113.0/24", "reserved for documentation"),  # RFC 5737
        ("224.0.0.0/4", "multicast"),  # RFC 5771
        ("240.0.0.0/4", "reserved or broadcast"),  # RFC 1112 section 4, RFC 919
    )
]

# Everything outside is loopback, link-local, unique local (RFC 4193), site-local (RFC 3879),
# multicast, discard-only (RFC 6666), segment routing (RFC 9602) or an embedding of IPv4.
_GLOBAL_6 = IPv6Network("2000::/3")  # RFC 4291 section 2.4, RFC 3587

_DENIED_6 = [
    (IPv6Network(network), what)
    for network, what in (
        ("2001::/23", "reserved for protocols"),  # RFC 2928; Teredo (RFC 4380), ORCHID (RFC 7343)
        ("2001:db8::/32", "reserved for documentation"),  # RFC 3849
        ("2002::/16", "a 6to4 tunnel"),  # RFC 3056, RFC 7526
        ("2620:4f:8000::/48", "reserved for AS112"),  # RFC 7534
        ("3ffe::/16", "the former 6bone"),  # RFC 3701
        ("3fff::/20", "reserved for documentation"),  # RFC 9637
    )
]

_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052 section 2.1: the only NAT64 prefix known to all
_LOW_32 = 0xFFFF_FFFF

# RFC 5214 section 6.1: the interface identifier of ISATAP is 00-00-5E-FE or 02-00-5E-FE and IPv4.
_ISATAP = frozenset({0x0000_5EFE, 0x0200_5EFE})

_RIGHT_FORM = "Write networks with an optional port, such as 127.0.0.0/8:8088,[::1],10.1.2.3"


@dataclass(frozen=True, slots=True)
class _Allowed:
    network: IPv4Network | IPv6Network
    port: int | None


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """What may be dialled: public addresses on ports 80 and 443, and what the operator allows."""

    allowed: tuple[_Allowed, ...] = ()

    @classmethod
    def parse(cls, allowed: str) -> AddressPolicy:
        """Read the text of ``PIXMILL_ALLOWED_ADDRESSES``; an empty text allows nothing extra.

        Raises InvalidSetting naming the entry that cannot be read.
        """
        entries = (entry.strip() for entry in allowed.split(","))
        return cls(tuple(_parse_allowed(entry) for entry in entries if entry))

    def refusal(self, address: str, port: int) -> str | None:
        """Why ``address`` (numeric) may not be dialled on ``port``, in words; None if it may.

        The words do not repeat the address: who sent the URL is not told what a name inside this
        network resolves to.
        """
        try:
            parsed = ip_address(address)
        except ValueError:
            return "this is not an IP address"
        # RFC 4291 section 2.5.5.2: dialling a mapped address dials the IPv4 address inside.
        target = getattr(parsed, "ipv4_mapped", None) or parsed
        if any(
            entry.port in {None, port}
            and entry.network.version == target.version
            and target in entry.network
            for entry in self.allowed
        ):
            return None
        what = _denied_4(target) if isinstance(target, IPv4Address) else _denied_6(target)
        if what:
            return f"its address is not on the public internet ({what})"
        if port not in _WEB_PORTS:
            return f"port {port} is not a web port (80 and 443 are)"
        return None


def _denied_4(address: IPv4Address) -> str | None:
    return next((what for network, what in _DENIED_4 if address in network), None)


def _denied_6(address: IPv6Address) -> str | None:
    embedded = IPv4Address(int(address) & _LOW_32)
    if address in _NAT64:  # the way to every IPv4 host from a network that has only IPv6
        return _denied_4(embedded)
    if address not in _GLOBAL_6:
        return "IPv6 outside the global unicast range"
    if int(address) >> 32 & _LOW_32 in _ISATAP and (what := _denied_4(embedded)):
        return what
    return next((what for network, what in _DENIED_6 if address in network), None)


_ENTRY = re.compile(
    r"(?: \[(?P<six>[^\[\]]+)\] (?P<length>/\d+)? | (?P<four>[^:\[\]]+) ) (?: :(?P<port>\d+) )?"
    r"| (?P<bare>[^\[\]]*:[^\[\]]*:[^\[\]]*)",  # IPv6 without brackets, hence without a port
    re.VERBOSE | re.ASCII,
)


def _parse_allowed(entry: str) -> _Allowed:
    match = _ENTRY.fullmatch(entry)
    if match is None:
        _reject(entry, "it is neither an address nor a network")
    six, length, four, port, bare = match.group("six", "length", "four", "port", "bare")
    text = four or bare or six + (length or "")
    try:
        network = ip_network(text)
    except ValueError as problem:
        host = re.search("[a-z]", four or "", re.IGNORECASE)
        _reject(entry, "host names are not accepted, only addresses" if host else str(problem))
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped:
        _reject(entry, "write an IPv4 address as IPv4")
    if port and not 1 <= int(port) <= 65_535:
        _reject(entry, f"there is no port {port}")
    return _Allowed(network, int(port) if port else None)


def _reject(entry: str, why: str) -> NoReturn:
    raise InvalidSetting(
        f"The entry {entry!r} of the allowed addresses cannot be used: {why}. {_RIGHT_FORM}."
    )


# RFC 3986 sections 3.1 and 3.2. Only what every parser reads alike gets through: libcurl, which
# parses the URL again in order to dial, must never see another host than the one checked here.
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<rest>.*)")
_HOST_AND_PORT = re.compile(
    r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{0,5}))?"
)
_NOT_IN_A_URL = re.compile(r"[^\x21-\x7e]|\\")


def check_url(url: str) -> str:
    """The host of a URL that may be asked for, in lower case.

    Raises ImageError (``invalid_url``) for anything but plain http and https: other schemes, user
    names, and the characters that make two parsers see two different hosts.
    """
    if odd := _NOT_IN_A_URL.search(url):
        raise _invalid(f"The URL contains {odd[0]!r}, which must be percent-encoded.")
    match = _URL.fullmatch(url)
    if match is None:
        raise _invalid("This is not a URL: it must begin with http:// or https://.")
    scheme, authority = match["scheme"].lower(), match["authority"]
    if scheme not in {"http", "https"}:
        raise _invalid(f"The URL begins with {scheme}://; only http:// and https:// are fetched.")
    if "@" in authority:
        raise _invalid("The URL contains a user name or password; these are never sent.")
    parts = _HOST_AND_PORT.fullmatch(authority)
    if parts is None or int(parts["port"] or 80) not in range(1, 65_536):
        raise _invalid(f"The URL names no usable host: {authority[:100]!r}.")
    return parts["host"].lower()


def host_of(url: str) -> str:
    """The key under which per-host limits count a URL; empty for local files and unusable URLs."""
    try:
        return check_url(url).rstrip(".")
    except ImageError:
        return ""


def place_of(url: str) -> str:
    """Host and path of a URL for messages: never its query, where signatures and keys live."""
    place = re.split(r"[?#]", url, maxsplit=1)[0]
    place = place.partition("://")[2] or place
    place = place.rpartition("@")[2] if "@" in place.partition("/")[0] else place
    return place if len(place) <= 120 else f"{place[:119]}…"


def _invalid(message: str) -> ImageError:
    return ImageError(ImageErrorCode.INVALID_URL, message)

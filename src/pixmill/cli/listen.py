"""Where ``pixmill serve`` listens: sockets, TLS, and how others find it."""

from __future__ import annotations

import errno
import socket
import ssl
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from pixmill.core.errors import InvalidSetting
from pixmill.settings import Settings

BACKLOG = 2048
EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104  # a name for what is given by the user
"""Hosts that stand for all addresses of this machine, and so are no name for others."""


@dataclass(frozen=True, slots=True)
class Door:
    """Open sockets, what secures them, and their URL."""

    sockets: list[socket.socket]
    tls: ssl.SSLContext | None
    url: str


def addresses(settings: Settings) -> list[str]:
    """The addresses that the host of the settings stands for; raises InvalidSetting."""
    host = settings.host.strip("[]")
    try:
        found = socket.getaddrinfo(host or " ", None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "that is no host name"
        raise InvalidSetting(
            f"Cannot listen on {settings.host!r}: {reason}. PIXMILL_HOST (--host) is an address or"
            " name of this machine, such as 127.0.0.1, or 0.0.0.0 for all of its addresses."
        ) from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def only_this_machine(settings: Settings) -> bool:
    """Whether nobody but programs of this machine can call."""
    # Whoever names proxies expects calls that come from elsewhere through them.
    return not settings.trusted_proxies and all(
        ip_address(address).is_loopback for address in addresses(settings)
    )


def open_door(settings: Settings) -> Door:
    """Listen as the settings say; raises InvalidSetting with what is wrong."""
    tls = _tls(settings.tls_cert, settings.tls_key)
    sockets: list[socket.socket] = []
    port = settings.port
    for address in addresses(settings):
        try:
            sockets.append(_listening(address, port))
        except OSError as error:
            for opened in sockets:
                opened.close()
            raise InvalidSetting(_why_not(address, port, error)) from None
        port = sockets[0].getsockname()[1]
    return Door(sockets, tls, f"{'https' if tls else 'http'}://{_name(settings.host)}:{port}")


def _listening(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, port), family=family, backlog=BACKLOG)


def _why_not(address: str, port: int, error: OSError) -> str:
    where = f"{_bracketed(address)}:{port}"
    if error.errno == errno.EADDRINUSE:
        return f"Another program listens on {where} already. Choose another port with --port."
    if error.errno == errno.EACCES:
        return f"Listening on {where} is not allowed here. Ports below 1024 often need a privilege."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"Cannot listen on {where}: this machine has no such address."
    return f"Cannot listen on {where}: {error.strerror}."


def _name(host: str) -> str:
    """The host as it stands in a URL that others can use."""
    host = host.strip("[]")
    if host in EVERYWHERE:
        return socket.gethostname()
    return _bracketed(host)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if certificate is None:
        if key is not None:
            raise InvalidSetting("PIXMILL_TLS_KEY is set without its PIXMILL_TLS_CERT.")
        return None
    for path in filter(None, (certificate, key)):
        try:
            path.open("rb").close()
        except OSError as error:
            raise InvalidSetting(f"Cannot read {path}: {error.strerror}.") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # An empty password makes an encrypted key an error instead of a question.
        context.load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise InvalidSetting(
            f"{certificate} and {key or 'no key'} are not a certificate and its unencrypted"
            f" private key, as PEM files ({reason})."
        ) from None
    return context

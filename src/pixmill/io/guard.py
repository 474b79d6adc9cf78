"""The address guard where sockets are made: no permission, no socket, no packet."""

from __future__ import annotations

import socket
from typing import Any, Protocol

import pycurl

from pixmill.core.addresses import AddressPolicy

_INTERNET = frozenset({socket.AF_INET, socket.AF_INET6})
_NO_SOCKET: int = pycurl.SOCKET_BAD


class _Sockaddr(Protocol):
    family: int
    socktype: int
    protocol: int
    addr: tuple[Any, ...]


class Guard:
    """Judges each address that a libcurl handle is about to dial (CURLOPT_OPENSOCKETFUNCTION).

    ``refusal`` is why an address was not dialled during the present request, in words that do not
    repeat it; ``dialled`` says whether another one was.
    """

    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy
        self.refusal: str | None = None
        self.dialled = False

    def reset(self) -> None:
        """Begin a request: what was seen during the last one is forgotten."""
        self.refusal, self.dialled = None, False

    def open_socket(self, _purpose: int, address: _Sockaddr) -> int:
        """Open a socket for a permitted address; called from C, so nothing may be raised."""
        if address.family not in _INTERNET:
            self.refusal = "this is not an internet address"
            return _NO_SOCKET
        ip, port = address.addr[:2]
        refusal = self._policy.refusal(ip, port)
        if refusal is not None:
            self.refusal = refusal
            return _NO_SOCKET
        self.dialled = True
        try:
            return socket.socket(address.family, address.socktype, address.protocol).detach()
        except OSError:  # out of file descriptors: the same as not getting through
            return _NO_SOCKET

"""One libcurl handle: its fixed options, the address guard, and one request at a time.

The callbacks are called from C: an exception there would only be printed, so what goes wrong is
remembered and raised once libcurl has returned. Each call takes the interpreter's lock, which is
what many threads wait for; so there are no callbacks for headers, and error pages are read like
images, within the same limits.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pycurl

from pixmill.core.addresses import AddressPolicy
from pixmill.core.errors import ImageError, ImageErrorCode
from pixmill.io.body import Body, too_large
from pixmill.io.curl_errors import image_error
from pixmill.io.limits import FetchLimits

_ACCEPT = "Accept: image/jpeg,image/png,image/webp;q=0.9,image/*;q=0.8,*/*;q=0.5"
_CONNECTIONS = 8  # kept alive per handle
_BUFFER = 128 * 1024
_INTERNET = frozenset({socket.AF_INET, socket.AF_INET6})
_NO_SOCKET: int = pycurl.SOCKET_BAD


class _Sockaddr(Protocol):
    family: int
    socktype: int
    protocol: int
    addr: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said to one request. ``body`` is set for a 2xx only, and is the taker's."""

    status: int
    location: str | None = None
    retry_after: float | None = None
    body: Body | None = None


class Handle:
    """A reusable libcurl handle with its kept-alive connections; one thread uses it at a time."""

    def __init__(
        self,
        policy: AddressPolicy,
        limits: FetchLimits,
        spill_folder: Path,
        user_agent: str,
        ca_file: str,
    ) -> None:
        self._policy = policy
        self._limits = limits
        self._spill_folder = spill_folder
        self._origins: dict[str, None] = {}
        self._refusal: str | None = None
        self._dialled = False
        self._curl = pycurl.Curl()
        self._set_fixed_options(user_agent, ca_file)

    def knows(self, origin: str) -> bool:
        """Whether a connection to the origin may still be open."""
        return origin in self._origins

    def close(self) -> None:
        """Close the handle and its connections."""
        self._curl.close()

    def ask(self, url: str, origin: str, host: str, seconds: float) -> Answer:
        """Request a checked URL, which has ``seconds`` to be answered in full.

        Raises ImageError if there was no usable answer; an HTTP error is an answer.
        """
        self._remember(origin)
        self._refusal, self._dialled = None, False
        body = Body(self._limits, self._spill_folder)
        try:
            answer = self._perform(url, body, host, seconds)
        except BaseException:  # whatever it is goes on; only the temporary file must not stay
            body.discard()
            raise
        if answer.body is None:
            body.discard()
        return answer

    def _perform(self, url: str, body: Body, host: str, seconds: float) -> Answer:
        curl = self._curl
        curl.setopt(pycurl.URL, url)
        curl.setopt(pycurl.TIMEOUT_MS, max(1, int(seconds * 1000)))
        curl.setopt(pycurl.WRITEFUNCTION, body.write)
        problem = None
        try:
            curl.perform()
        except pycurl.error as raised:
            problem = raised
        status: int = curl.getinfo(pycurl.RESPONSE_CODE)
        if problem is not None and status < 400:  # an HTTP error has said all there is to know
            raise self._failure(*problem.args, body=body, host=host) from None
        if 200 <= status <= 299:
            if not body.size:
                raise self._empty(host)
            return Answer(status, body=body)
        location = curl.getinfo_raw(pycurl.REDIRECT_URL)
        return Answer(
            status,
            location=location and location.decode(errors="replace"),
            retry_after=curl.getinfo(pycurl.RETRY_AFTER) or None,
        )

    def _empty(self, host: str) -> ImageError:
        # A server that did not say that there is nothing may have been cut off in its first words.
        cut_off = self._curl.getinfo(pycurl.CONTENT_LENGTH_DOWNLOAD_T) < 0
        return ImageError(
            ImageErrorCode.EMPTY, f"{host} answered with nothing in it.", retryable=cut_off
        )

    def _failure(self, code: int, detail: str, *, body: Body, host: str) -> ImageError:
        if body.failure is not None:
            return body.failure
        if code == pycurl.E_FILESIZE_EXCEEDED:
            return too_large(self._limits)
        if code == pycurl.E_COULDNT_CONNECT and self._refusal and not self._dialled:
            return ImageError(
                ImageErrorCode.FORBIDDEN_ADDRESS,
                f"{host} was not asked: {self._refusal}. "
                "If it should be, add it to PIXMILL_ALLOWED_ADDRESSES.",
            )
        return image_error(code, detail, host)

    def _remember(self, origin: str) -> None:
        self._origins.pop(origin, None)
        self._origins[origin] = None
        if len(self._origins) > _CONNECTIONS:  # libcurl closes the oldest connection likewise
            del self._origins[next(iter(self._origins))]

    def _guard(self, _purpose: int, address: _Sockaddr) -> int:
        """CURLOPT_OPENSOCKETFUNCTION: no socket, no packet."""
        if address.family not in _INTERNET:
            self._refusal = "this is not an internet address"
            return _NO_SOCKET
        ip, port = address.addr[:2]
        refusal = self._policy.refusal(ip, port)
        if refusal is not None:
            self._refusal = refusal
            return _NO_SOCKET
        self._dialled = True
        try:
            return socket.socket(address.family, address.socktype, address.protocol).detach()
        except OSError:  # out of file descriptors: the same as not getting through
            return _NO_SOCKET

    def _set_fixed_options(self, user_agent: str, ca_file: str) -> None:
        limits = self._limits
        for option, value in (
            (pycurl.OPENSOCKETFUNCTION, self._guard),
            # Nothing of the surroundings takes part: no proxy variables, .netrc, cookies, signals.
            (pycurl.PROXY, ""),
            (pycurl.NOPROXY, "*"),
            (pycurl.NETRC, pycurl.NETRC_IGNORED),
            (pycurl.NOSIGNAL, 1),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            (pycurl.REDIR_PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            (pycurl.FOLLOWLOCATION, 0),  # Fetcher follows, so that each hop is checked
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS),
            (pycurl.HTTPHEADER, [_ACCEPT]),
            (pycurl.USERAGENT, user_agent),
            # Nothing is decompressed: a gzip body can be a bomb, and is no image.
            (pycurl.HTTP_CONTENT_DECODING, 0),
            (pycurl.SSL_VERIFYPEER, 1),
            (pycurl.SSL_VERIFYHOST, 2),
            (pycurl.CAINFO, ca_file),
            (pycurl.MAXFILESIZE_LARGE, limits.max_bytes),  # refuses by Content-Length already
            (pycurl.CONNECTTIMEOUT_MS, int(limits.connect_timeout * 1000)),
            (pycurl.LOW_SPEED_LIMIT, 1),
            (pycurl.LOW_SPEED_TIME, limits.stall),
            (pycurl.BUFFERSIZE, _BUFFER),
            (pycurl.MAXCONNECTS, _CONNECTIONS),
            (pycurl.TCP_KEEPALIVE, 1),
        ):
            self._curl.setopt(option, value)

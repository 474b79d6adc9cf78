"""One libcurl handle: its fixed options, the address guard, and one request at a time.

The callbacks are called from C: an exception there would only be printed, so what goes wrong is
remembered and raised once libcurl has returned. Headers are only collected, which costs next to
nothing, and what is no image is not kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pycurl

from pixmill.core.addresses import AddressPolicy
from pixmill.core.errors import ImageError, ImageErrorCode
from pixmill.io.body import Body, too_large
from pixmill.io.curl_errors import image_error
from pixmill.io.guard import Guard
from pixmill.io.head import Head
from pixmill.io.limits import FetchLimits

_ACCEPT = "Accept: image/jpeg,image/png,image/webp;q=0.9,image/*;q=0.8,*/*;q=0.5"
_BUFFER = 128 * 1024
_STOP = -1
_MOST_PAGE_BYTES = 16 * 1024
"""What is read of an error page or a redirect's, to use the connection again."""
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said to one request. ``body`` is set for a 2xx only, and is the taker's."""

    status: int
    location: str | None = None
    retry_after: float | None = None
    body: Body | None = None


class Transfer:
    """A reusable libcurl handle that a multi handle drives, to which its connections belong."""

    def __init__(
        self,
        policy: AddressPolicy,
        limits: FetchLimits,
        spill_folder: Path,
        user_agent: str,
        ca_file: str,
    ) -> None:
        self._guard = Guard(policy)
        self._limits = limits
        self._spill_folder = spill_folder
        self._host = ""
        self._known: list[str] = []
        self._url = ""
        self._head = Head()
        self._body = Body(limits, spill_folder)
        self._page_bytes = 0
        self._curl = pycurl.Curl()
        self._set_fixed_options(user_agent, ca_file)

    def close(self) -> None:
        """Forget a request that has not ended, and close the handle."""
        self._body.discard()
        self._curl.close()

    def begin(
        self, url: str, host: str, seconds: float, addresses: Sequence[str] = ()
    ) -> pycurl.Curl:
        """Make a request for a checked URL, which has ``seconds`` to be answered in full.

        ``addresses`` are the host's, if they have been looked up. Returns the handle to drive.
        """
        self._resolve(url, host, addresses)
        self._guard.reset()
        self._url, self._host = url, host
        self._head = Head()
        self._body = Body(self._limits, self._spill_folder)
        self._page_bytes = 0
        curl = self._curl
        curl.setopt(pycurl.URL, url)
        curl.setopt(pycurl.TIMEOUT_MS, max(1, int(seconds * 1000)))
        curl.setopt(pycurl.HEADERFUNCTION, self._head.add)
        curl.setopt(pycurl.WRITEFUNCTION, self._write)
        return curl

    def answer(self, problem: tuple[int, str] | None) -> Answer:
        """What came of the request; ``problem`` is libcurl's code and message, if it gave up.

        Raises ImageError if there was no usable answer; an HTTP error is an answer.
        """
        answer = None
        try:
            answer = self._answer(problem)
        finally:
            if answer is None or answer.body is None:
                self._body.discard()
        return answer

    def _resolve(self, url: str, host: str, addresses: Sequence[str]) -> None:
        """Tell libcurl the host's addresses; they are checked when they are dialled, as ever."""
        known: list[str] = []
        if addresses:
            scheme, _, rest = url.partition("://")
            port = urlsplit(f"//{rest}").port or _PORTS[scheme.lower()]
            places = ",".join(f"[{one}]" if ":" in one else one for one in addresses)
            known = [f"+{host}:{port}:{places}"]  # with a +, it is forgotten after a minute
        if known or self._known:  # each time, since libcurl forgets what it was told
            self._known = known
            self._curl.setopt(pycurl.RESOLVE, known)

    def _answer(self, problem: tuple[int, str] | None) -> Answer:
        curl, body = self._curl, self._body
        status: int = curl.getinfo(pycurl.RESPONSE_CODE)
        # An HTTP error has said all there is to know, and so has a redirect.
        if problem is not None and (status < 300 or (status < 400 and not self._head.whole)):
            raise self._failure(*problem)
        if 200 <= status <= 299:
            if not body.size:
                raise self._empty()
            return Answer(status, body=body)
        location = curl.getinfo_raw(pycurl.REDIRECT_URL)  # set only if the body came, too
        return Answer(
            status,
            location=location.decode(errors="replace")
            if location
            else self._head.target(self._url),
            retry_after=curl.getinfo(pycurl.RETRY_AFTER) or None,
        )

    def _write(self, data: bytes) -> int | None:
        """Take a piece of the body; anything but None ends the transfer."""
        if self._body.size or self._head.status < 300:
            return self._body.write(data)
        # A page that has not come at once is not worth waiting for, nor is a long one.
        self._page_bytes += len(data)
        length = self._head.length
        if length is None:  # its end may be there already, for all we can tell
            return None if self._page_bytes <= _MOST_PAGE_BYTES else _STOP
        return None if self._page_bytes >= length else _STOP

    def _empty(self) -> ImageError:
        # A server that did not say that there is nothing may have been cut off in its first words.
        cut_off = self._curl.getinfo(pycurl.CONTENT_LENGTH_DOWNLOAD_T) < 0
        return ImageError(
            ImageErrorCode.EMPTY, f"{self._host} answered with nothing in it.", retryable=cut_off
        )

    def _failure(self, code: int, detail: str) -> ImageError:
        if self._body.failure is not None:
            return self._body.failure
        if code == pycurl.E_FILESIZE_EXCEEDED:
            return too_large(self._limits)
        if code == pycurl.E_COULDNT_CONNECT and self._guard.refusal and not self._guard.dialled:
            return ImageError(
                ImageErrorCode.FORBIDDEN_ADDRESS,
                f"{self._host} was not asked: {self._guard.refusal}. "
                "If it should be, add it to PIXMILL_ALLOWED_ADDRESSES.",
            )
        return image_error(code, detail, self._host)

    def _set_fixed_options(self, user_agent: str, ca_file: str) -> None:
        limits = self._limits
        for option, value in (
            (pycurl.OPENSOCKETFUNCTION, self._guard.open_socket),
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
            (pycurl.TCP_KEEPALIVE, 1),
        ):
            self._curl.setopt(option, value)

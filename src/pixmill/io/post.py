"""Posts webhooks: one request each, guarded like a fetch, and never to where it is sent on."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import certifi
import pycurl

from pixmill.core.addresses import AddressPolicy, check_url
from pixmill.core.errors import ImageError, InvalidOption
from pixmill.core.webhooks import retry_seconds
from pixmill.io.curl_errors import image_error
from pixmill.io.guard import Guard

TIMEOUT_SECONDS = 15.0
MOST_ANSWER_BYTES = 16 * 1024
"""What is read of an answer. Nobody looks at it; a short one lets the connection be used again."""

_STOP = -1


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a POST: the HTTP status, or why there was none; seconds it took.

    ``broken_off`` says that it was we who did not wait for the answer.
    """

    http_status: int | None
    error: str | None
    retry_after: float | None
    duration: float
    broken_off: bool = False


class Poster:
    """Posts one body at a time, over connections that are kept alive.

    ``over`` is asked about once a second whether posts are to be broken off.
    """

    def __init__(
        self,
        policy: AddressPolicy,
        user_agent: str,
        *,
        ca_file: str | None = None,
        timeout: float = TIMEOUT_SECONDS,
        over: Callable[[], bool] = lambda: False,
    ) -> None:
        self._guard = Guard(policy)
        self._over = over
        self._curl = pycurl.Curl()
        for option, value in (
            (pycurl.OPENSOCKETFUNCTION, self._guard.open_socket),
            # Nothing of the surroundings takes part: no proxy variables, .netrc, cookies, signals.
            (pycurl.PROXY, ""),
            (pycurl.NOPROXY, "*"),
            (pycurl.NETRC, pycurl.NETRC_IGNORED),
            (pycurl.NOSIGNAL, 1),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            (pycurl.FOLLOWLOCATION, 0),
            (pycurl.HTTP_CONTENT_DECODING, 0),
            (pycurl.USERAGENT, user_agent),
            (pycurl.SSL_VERIFYPEER, 1),
            (pycurl.SSL_VERIFYHOST, 2),
            (pycurl.CAINFO, ca_file or certifi.where()),
            (pycurl.TIMEOUT_MS, int(timeout * 1000)),
            (pycurl.NOPROGRESS, 0),
            (pycurl.XFERINFOFUNCTION, lambda *_: self._over()),
        ):
            self._curl.setopt(option, value)

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Post a body once. Whatever goes wrong is told in the answer, never raised."""
        started = time.monotonic()
        try:
            host = check_url(url)
        except ImageError as refused:
            return Answer(None, refused.message, None, 0.0)
        head = _Head()
        status, error = self._perform(url, host, headers, body, head)
        retry_after = retry_seconds(head.retry_after, time.time())
        return Answer(
            status,
            error,
            retry_after,
            time.monotonic() - started,
            broken_off=status is None and self._over(),
        )

    def close(self) -> None:
        """Close all connections."""
        self._curl.close()

    def _perform(
        self, url: str, host: str, headers: Mapping[str, str], body: bytes, head: _Head
    ) -> tuple[int | None, str | None]:
        self._guard.reset()
        curl = self._curl
        curl.setopt(pycurl.URL, url)
        curl.setopt(pycurl.POSTFIELDS, body)
        lines = [f"{name}: {value}" for name, value in headers.items()]
        curl.setopt(pycurl.HTTPHEADER, [*lines, "Expect:"])
        curl.setopt(pycurl.HEADERFUNCTION, head.read)
        curl.setopt(pycurl.WRITEFUNCTION, _Discarded().write)
        try:
            curl.perform()
        except pycurl.error as problem:
            code, detail = problem.args
        else:
            code, detail = 0, ""
        status: int = curl.getinfo(pycurl.RESPONSE_CODE)
        if status >= 200:  # it has been said; how the rest of the answer ends changes nothing
            return status, None
        if self._guard.refusal and not self._guard.dialled:
            return None, f"{host} was not asked: {self._guard.refusal}."
        return None, _explained(code, detail, host)


class Posters:
    """Posts from many threads at once: each takes a poster that is idle, or a new one."""

    def __init__(self, policy: AddressPolicy, user_agent: str, *, ca_file: str | None) -> None:
        self._policy = policy
        self._user_agent = user_agent
        self._ca_file = ca_file
        self._over = threading.Event()
        self._idle: list[Poster] = []

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Post a body once. Whatever goes wrong is told in the answer, never raised."""
        try:
            poster = self._idle.pop()
        except IndexError:
            poster = Poster(
                self._policy, self._user_agent, ca_file=self._ca_file, over=self._over.is_set
            )
        answer = poster.post(url, headers, body)
        self._idle.append(poster)
        return answer

    def break_off(self) -> None:
        """End the posts that are under way, and those to come, without their answers."""
        self._over.set()

    def close(self) -> None:
        """Close all connections; nothing is under way any more."""
        while self._idle:
            self._idle.pop().close()


def check_endpoint(url: str, policy: AddressPolicy) -> None:
    """Refuse an endpoint that would never be dialled. Raises InvalidOption with the reason.

    This is for whoever registers it; the guard judges anew at each attempt.
    """
    try:
        host = check_url(url)
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except ImageError as refused:
        raise InvalidOption(f"The webhook URL cannot be used. {refused.message}") from None
    except (OSError, UnicodeError):
        raise InvalidOption(
            f"The host of the webhook URL, {host}, could not be resolved. Check its spelling."
        ) from None
    refusals = [policy.refusal(str(place[4][0]), port) for place in found]
    if all(refusals):
        raise InvalidOption(
            f"The webhook URL cannot be used: {host} is refused, since {refusals[0]}."
            " If it should be notified, add it to PIXMILL_ALLOWED_ADDRESSES."
        )


class _Head:
    """Keeps the Retry-After of an answer: libcurl itself would cut it to six hours."""

    def __init__(self) -> None:
        self.retry_after = ""

    def read(self, line: bytes) -> None:
        """Look at one line of the head."""
        name, _, value = line.decode("latin-1").partition(":")
        if name.startswith("HTTP/"):  # another answer begins, after one such as 103
            self.retry_after = ""
        elif name.lower() == "retry-after":
            self.retry_after = value


class _Discarded:
    """Counts an answer's bytes and stops it when there are too many."""

    def __init__(self) -> None:
        self._size = 0

    def write(self, data: bytes) -> int | None:
        self._size += len(data)
        return None if self._size <= MOST_ANSWER_BYTES else _STOP


def _explained(code: int, detail: str, host: str) -> str:
    if code == pycurl.E_OPERATION_TIMEDOUT:
        return f"{host} did not answer in time."
    return image_error(code, detail, host).message

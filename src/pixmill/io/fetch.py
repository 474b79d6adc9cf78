"""Fetches source images over http and https, every hop guarded and every cost bounded."""

from __future__ import annotations

import time
from http import HTTPStatus
from pathlib import Path
from threading import Lock

import certifi

from pixmill.core.addresses import AddressPolicy, check_url, place_of
from pixmill.core.errors import ImageError, ImageErrorCode
from pixmill.core.model import Fetched
from pixmill.core.retry import worth_retry
from pixmill.io.handle import Answer, Handle
from pixmill.io.limits import FetchLimits

__all__ = ["FetchLimits", "Fetcher"]

_REDIRECTS = frozenset({301, 302, 303, 307, 308})  # RFC 9110 section 15.4
_HINTS = {
    **dict.fromkeys(_REDIRECTS, "It does not say where the image has gone."),
    401: "The server asks for a login; the image must be public.",
    403: "The server refuses to show it; the image must be public, and the link not expired.",
    404: "There is no such file on the server.",
    410: "The file has been removed from the server.",
    429: "The server asks for fewer requests.",
}


class Fetcher:
    """Fetches images; any number of threads may call ``fetch`` at once.

    Handles are lent to one thread at a time. A handle that has been at the same origin is
    preferred, the last used first, so that kept-alive connections are used again; there are never
    more handles than there were fetches at once.
    """

    def __init__(
        self,
        policy: AddressPolicy,
        limits: FetchLimits,
        spill_folder: Path,
        user_agent: str,
        ca_file: str | None = None,
    ) -> None:
        self._policy = policy
        self._limits = limits
        self._spill_folder = spill_folder
        self._user_agent = user_agent
        self._ca_file = ca_file or certifi.where()
        self._lock = Lock()
        self._idle: list[Handle] = []  # the last used at the end
        self._closed = False

    def fetch(self, url: str) -> Fetched:
        """The image behind a URL, redirects followed. Who gets a Path deletes the file.

        Raises ImageError with the reason and whether another attempt makes sense.
        """
        ends = time.monotonic() + self._limits.deadline
        host = check_url(url)
        for _ in range(self._limits.max_redirects + 1):
            answer = self._ask(url, host, ends)
            if answer.body is not None:
                return answer.body.taken()
            if answer.status not in _REDIRECTS or not answer.location:
                raise _http_error(answer, url)
            url = answer.location
            host = _check_redirect(url, host)
        raise ImageError(
            ImageErrorCode.TOO_MANY_REDIRECTS,
            f"The URL redirects more than {self._limits.max_redirects} times, last to {host}.",
        )

    def close(self) -> None:
        """Close all connections; those in use, once their fetch has ended."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for handle in idle:
            handle.close()

    def _ask(self, url: str, host: str, ends: float) -> Answer:
        seconds = ends - time.monotonic()
        if seconds <= 0:
            raise ImageError(
                ImageErrorCode.TIMEOUT,
                f"The redirects up to {host} took longer than {self._limits.deadline:g} seconds.",
                retryable=True,
            )
        origin = "/".join(url.split("/", 3)[:3])
        handle = self._borrow(origin)
        try:
            return handle.ask(url, origin, host, seconds)
        finally:
            self._give_back(handle)

    def _borrow(self, origin: str) -> Handle:
        with self._lock:
            for position in range(len(self._idle) - 1, -1, -1):
                if self._idle[position].knows(origin):
                    return self._idle.pop(position)
            if self._idle:
                return self._idle.pop(0)
        return Handle(
            self._policy, self._limits, self._spill_folder, self._user_agent, self._ca_file
        )

    def _give_back(self, handle: Handle) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(handle)
                return
        handle.close()


def _check_redirect(url: str, from_host: str) -> str:
    try:
        return check_url(url)
    except ImageError as problem:
        raise ImageError(
            problem.code, f"{from_host} redirects to a URL that is not followed. {problem.message}"
        ) from None


def _http_error(answer: Answer, url: str) -> ImageError:
    status = answer.status
    try:
        phrase = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        phrase = str(status)
    message = f"{place_of(url)} answered {phrase}. {_HINTS.get(status, '')}".rstrip()
    return ImageError(
        ImageErrorCode.HTTP_ERROR,
        message,
        retryable=worth_retry(status),
        retry_after=answer.retry_after,
        http_status=status,
    )

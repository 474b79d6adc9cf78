"""Fetches source images over http and https, every hop guarded and every cost bounded."""

from __future__ import annotations

import time
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Generic, TypeVar

import certifi

from pixmill.core.addresses import AddressPolicy, check_url, place_of
from pixmill.core.errors import ImageError, ImageErrorCode
from pixmill.core.model import Fetched
from pixmill.core.retry import worth_retry
from pixmill.io.curl_errors import slow_name, unknown_name
from pixmill.io.limits import FetchLimits
from pixmill.io.loop import Loop
from pixmill.io.names import Addresses, Names, is_name
from pixmill.io.transfer import Answer, Transfer
from pixmill.io.transfers import Transfers

__all__ = ["FetchLimits", "Fetcher"]

T = TypeVar("T")

_REDIRECTS = frozenset({301, 302, 303, 307, 308})  # RFC 9110 section 15.4
_HINTS = {
    **dict.fromkeys(_REDIRECTS, "It does not say where the image has gone."),
    401: "The server asks for a login; the image must be public.",
    403: "The server refuses to show it; the image must be public, and the link not expired.",
    404: "There is no such file on the server.",
    410: "The file has been removed from the server.",
    429: "The server asks for fewer requests.",
}


@dataclass(eq=False, slots=True)
class _Way(Generic[T]):
    """The way to one image: the hop it is at, and when it must be there."""

    ticket: T
    url: str
    host: str
    ends: float
    redirects: int = 0
    resolve_until: float = 0.0


class Fetcher(Generic[T]):
    """Fetches many images at once for one thread, which never waits for any of them.

    Each is known by its ticket. The thread turns the loop, then asks for what has ``ended``.
    """

    def __init__(
        self,
        policy: AddressPolicy,
        limits: FetchLimits,
        spill_folder: Path,
        user_agent: str,
        loop: Loop,
        ca_file: str | None = None,
    ) -> None:
        self._limits = limits
        authorities = ca_file or certifi.where()
        self._transfers: Transfers[_Way[T]] = Transfers(
            loop, lambda: Transfer(policy, limits, spill_folder, user_agent, authorities)
        )
        self._names = Names(loop.wake)
        self._nameless: dict[str, list[_Way[T]]] = {}  # by the name that is being looked up
        self._ended: list[tuple[T, Fetched | Exception]] = []

    def start(self, ticket: T, url: str) -> None:
        """Begin to fetch the image behind a URL, redirects followed."""
        try:
            host = check_url(url)
        except ImageError as error:
            self._ended.append((ticket, error))
        else:
            self._ask(_Way(ticket, url, host, time.monotonic() + self._limits.deadline))

    def ended(self) -> list[tuple[T, Fetched | Exception]]:
        """The images that have come, or ImageError with the reason and whether to try again.

        Who gets a Path deletes the file.
        """
        self._take_names()
        for way, answer in self._transfers.ended():
            try:
                if fetched := self._arrived(way, answer):
                    self._ended.append((way.ticket, fetched))
            except Exception as error:  # the boundary of an image: it is its own affair
                self._ended.append((way.ticket, error))
        ended, self._ended = self._ended, []
        return ended

    def patience(self, now: float) -> float:
        """Seconds after which to ask for what has ended though nothing happens."""
        if self._ended:
            return 0.0
        waits = [way.resolve_until - now for ways in self._nameless.values() for way in ways]
        return min([self._transfers.patience(now), *waits])

    def close(self) -> None:
        """Break off all fetches and close all connections."""
        self._transfers.close()

    def _ask(self, way: _Way[T]) -> None:
        """Begin the next hop, as soon as its host's addresses are known."""
        if not is_name(way.host):
            self._begin(way, ())
            return
        now = time.monotonic()
        addresses = self._names.addresses(way.host, now)
        if addresses is not None:
            self._begin(way, addresses)
            return
        way.resolve_until = way.ends
        if not self._names.waiting(way.host):
            self._start_clock(way, now)
        self._nameless.setdefault(way.host, []).append(way)

    def _take_names(self) -> None:
        """Let those go on whose host's name is known by now, and fail those that wait too long."""
        now = time.monotonic()
        for host, addresses in self._names.found(now):
            for way in self._nameless.pop(host, []):
                if addresses:
                    self._begin(way, addresses)
                else:
                    self._ended.append((way.ticket, unknown_name(host)))
        for name in self._names.begun():
            for way in self._nameless.get(name, []):
                self._start_clock(way, now)
        for host, ways in list(self._nameless.items()):
            late = [way for way in ways if way.resolve_until <= now]
            self._ended += [(way.ticket, slow_name(host)) for way in late]
            if len(late) == len(ways):
                del self._nameless[host]
                self._names.forget(host)
            elif late:
                self._nameless[host] = [way for way in ways if way not in late]

    def _start_clock(self, way: _Way[T], now: float) -> None:
        """Its host's name is being looked up: that may take as long as connecting."""
        way.resolve_until = min(way.ends, now + self._limits.connect_timeout)

    def _begin(self, way: _Way[T], addresses: Addresses) -> None:
        seconds = way.ends - time.monotonic()
        if seconds <= 0:
            self._ended.append((way.ticket, _too_late(way.host, self._limits)))
            return
        try:
            self._transfers.start(way, way.url, way.host, seconds, addresses)
        except Exception as error:  # the boundary of an image: what is wrong is its own affair
            self._ended.append((way.ticket, error))

    def _arrived(self, way: _Way[T], answer: Answer | Exception) -> Fetched | None:
        """The image, or None if another hop was begun."""
        if isinstance(answer, Exception):
            raise answer
        if answer.body is not None:
            return answer.body.taken()
        if answer.status not in _REDIRECTS or not answer.location:
            raise _http_error(answer, way.url)
        way.url = answer.location
        way.host = _check_redirect(way.url, way.host)
        way.redirects += 1
        if way.redirects > self._limits.max_redirects:
            raise ImageError(
                ImageErrorCode.TOO_MANY_REDIRECTS,
                f"The URL redirects more than {self._limits.max_redirects} times,"
                f" last to {way.host}.",
            )
        self._ask(way)
        return None


def _too_late(host: str, limits: FetchLimits) -> ImageError:
    return ImageError(
        ImageErrorCode.TIMEOUT,
        f"The redirects up to {host} took longer than {limits.deadline:g} seconds.",
        retryable=True,
    )


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

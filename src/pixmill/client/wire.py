"""Calls to a service: where it is, the key it is shown, and when a call is tried again."""

from __future__ import annotations

import ipaddress
import random
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from typing import Any, BinaryIO, TypeVar

import httpx
from pydantic import ValidationError

from pixmill.client.errors import ServiceRefused, ServiceUnreachable
from pixmill.client.troubles import not_pixmill, refusal, translated
from pixmill.core.errors import InvalidSetting
from pixmill.web.schemas import Schema

Body = TypeVar("Body", bound=Schema)

FIRST_PAUSE = 0.25
LONGEST_PAUSE = 60.0
"""Seconds; a service that asks for more patience than this is not tried again."""

NOT_NOW = frozenset({429, 503})
"""Statuses of calls that were not carried out and may be made again."""

IN_BETWEEN = frozenset({502, 504})
"""Statuses by which a proxy says that it got no answer: nobody knows what was carried out."""


LARGEST_BODY = 100_000_000
"""Bytes of an answer that is read as a whole."""

LARGEST_REFUSAL = 1_000_000


class Wire:
    """The connections to one service."""

    def __init__(
        self,
        url: str,
        api_key: str | None,
        *,
        timeout: float,
        retries: int,
        ca_file: str | PathLike[str] | None,
    ) -> None:
        try:
            base = httpx.URL(url.rstrip("/").removesuffix("/api"))
        except httpx.InvalidURL:
            base = httpx.URL()
        if base.scheme not in {"http", "https"} or not base.host:
            raise InvalidSetting(
                "The address of a service must look like http://127.0.0.1:8000 or"
                " https://pixmill.example.com."
            )
        self.url = str(base.copy_with(userinfo=b"")).rstrip("/")
        self.timeout = timeout
        self._retries = retries
        headers = _headers(api_key)
        local = _is_loopback(base.host)
        self.exposes_key = bool(headers) and base.scheme == "http" and not local
        self._http = httpx.Client(
            base_url=base,
            headers=headers,
            timeout=timeout,
            follow_redirects=False,  # the key would go wherever they lead
            # An idle connection is closed before the service may close it under a call.
            limits=httpx.Limits(keepalive_expiry=2),
            verify=_trusting(ca_file),
            trust_env=not local,  # a proxy cannot reach this machine's own services
        )

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def ask(self, method: str, path: str, body: type[Body], **call: Any) -> Body:
        """Make a call and return the body of its answer."""
        with self.open(method, path, **call) as response:
            return self._parsed(response, body)

    def look(self, path: str, body: type[Body], statuses: frozenset[int]) -> Body:
        """Ask once for something outside of the API, which comes with one of these statuses."""
        with translated(self.url), self._http.stream("GET", path) as response:
            if response.status_code not in statuses:
                raise not_pixmill(self.url, f"it answers {response.status_code} to {path}")
            return self._parsed(response, body)

    def _parsed(self, response: httpx.Response, body: type[Body]) -> Body:
        content = _read(response, LARGEST_BODY)
        if content is None:
            raise not_pixmill(self.url, f"its answer is larger than {LARGEST_BODY:,} bytes")
        try:
            return body.model_validate_json(content)
        except ValidationError:
            kind = response.headers.get("content-type", "something").split(";")[0]
            raise not_pixmill(self.url, f"it sent {kind!r} that makes no sense here") from None

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        *,
        repeatable: bool = True,
        tries: int | None = None,
        **call: Any,
    ) -> Iterator[httpx.Response]:
        """Make a call, and try again what is worth it; its answer is yet to be read.

        What is not ``repeatable`` is made again only if it was surely not carried out. Raises
        ServiceUnreachable and ServiceRefused.
        """
        for attempt in range(1, (tries or 1 + self._retries) + 1):
            try:
                response = self._once(method, path, **call)
                break
            except (ServiceUnreachable, ServiceRefused) as trouble:
                pause = _pause(trouble, attempt, repeatable=repeatable)
                if pause is None or attempt == (tries or 1 + self._retries):
                    raise
            time.sleep(pause)
        try:
            with translated(self.url):
                yield response
        finally:
            response.close()

    def _once(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        data: Mapping[str, Any] | None = None,
        files: Mapping[str, tuple[str, BinaryIO, str]] | None = None,
        patience: float | None = None,
    ) -> httpx.Response:
        """Make a call once. ``patience`` is how many seconds the answer may be silent."""
        with translated(self.url):
            request = self._http.build_request(
                method,
                f"/api{path}",
                params={name: value for name, value in (params or {}).items() if value is not None},
                headers=headers,
                data=data,
                files=files,
                timeout=httpx.Timeout(self.timeout, read=patience or self.timeout),
            )
            response = self._http.send(request, stream=True)
            if response.is_success:
                return response
            try:
                content = _read(response, LARGEST_REFUSAL)
            finally:
                response.close()
        raise refusal(self.url, response, content or b"")


def _read(response: httpx.Response, most: int) -> bytes | None:
    """The body of an answer; None if it is larger than it may be."""
    pieces, size = [], 0
    for piece in response.iter_bytes():
        size += len(piece)
        if size > most:
            return None
        pieces.append(piece)
    return b"".join(pieces)


def _trusting(ca_file: str | PathLike[str] | None) -> ssl.SSLContext:
    """Whom to trust: the authority of this file, or else whom SSL_CERT_FILE or certifi names."""
    if ca_file is None:
        return httpx.create_ssl_context()
    try:
        return ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        raise InvalidSetting(f"{ca_file} holds no certificate in PEM form.") from None
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(ca_file)) from None


def _is_loopback(host: str) -> bool:
    """Whether what is sent to this host never leaves the machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _headers(api_key: str | None) -> dict[str, str]:
    """The key goes into a header of its own: ``Authorization`` may be a proxy's."""
    key = (api_key or "").strip()
    if not key:
        return {}
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise InvalidSetting("The API key has characters that no key has: copy it once more.")
    return {"X-API-Key": key}


def _pause(
    trouble: ServiceUnreachable | ServiceRefused, attempt: int, *, repeatable: bool
) -> float | None:
    """Seconds to wait before the next attempt; None if there shall be none."""
    pause = FIRST_PAUSE * 2 ** (attempt - 1) * random.uniform(0.75, 1.25)  # noqa: S311  # not a secret
    if isinstance(trouble, ServiceUnreachable):
        return pause if repeatable or not trouble.maybe_done else None
    if trouble.status in NOT_NOW:
        pause = pause if trouble.retry_after is None else trouble.retry_after
        return pause if pause <= LONGEST_PAUSE else None
    return pause if repeatable and trouble.status in IN_BETWEEN else None

"""Turns what httpx raises, and answers that are not a success, into errors for people."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
from pydantic import ValidationError

from pixmill.client.errors import ServiceRefused, ServiceUnreachable
from pixmill.core.sheets.problems import shown
from pixmill.web.schemas import ProblemDocument

UNEXPLAINED = "unexplained"
"""The code of a refusal that comes without a problem document, from a proxy for example."""

REDIRECTED = "redirected"
"""The code of an answer that names another address."""


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Raise ServiceUnreachable for whatever happens on the way to ``url`` and back."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
        raise ServiceUnreachable(_nobody(url, error), maybe_done=False) from None
    except httpx.TransportError as error:
        raise ServiceUnreachable(_nobody(url, error)) from None
    except httpx.DecodingError:
        raise not_pixmill(url, "its answer cannot be unpacked") from None


def not_pixmill(url: str, why: str) -> ServiceUnreachable:
    """The error for something that answers but is not pixmill."""
    return ServiceUnreachable(f"What answers at {url} is not a pixmill service: {why}.")


def refusal(url: str, response: httpx.Response, content: bytes) -> ServiceRefused:
    """The error for an answer that is not a success, with this body."""
    if response.is_redirect:
        return ServiceRefused(
            f"{url} leads on to {shown(response.headers.get('location', ''), 200)}. That is not"
            " followed, since the API key would travel along; if it is your service, use its"
            " address.",
            status=response.status_code,
            code=REDIRECTED,
        )
    try:
        problem = ProblemDocument.model_validate_json(content)
    except ValidationError:
        return ServiceRefused(
            f"{url} answered with status {response.status_code}"
            f" {shown(response.reason_phrase, 40)} and without an explanation: it may not be a"
            " pixmill service, or something on the way to it is in trouble.",
            status=response.status_code,
            code=UNEXPLAINED,
            retry_after=_retry_after(response),
        )
    errors = problem.errors or ()
    return ServiceRefused(
        problem.detail,
        status=response.status_code,
        code=problem.code,
        errors=errors,
        total_errors=len(errors) if problem.total_errors is None else problem.total_errors,
        retry_after=_retry_after(response),
    )


def _retry_after(response: httpx.Response) -> float | None:
    """``Retry-After`` in seconds, which may also be given as a date."""
    text = response.headers.get("retry-after", "").strip()
    if text.isdecimal() and len(text) < 10:
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _nobody(url: str, error: httpx.TransportError) -> str:
    question = _question(url, error)
    return f"No pixmill service answers at {url}: {_why(error)}.{question and f' {question}'}"


def _question(url: str, error: httpx.TransportError) -> str:
    """What may be the matter, where the scheme of the address may be wrong."""
    cause = _root(error)
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLCertVerificationError):
        return "Does it speak plain http there?"
    if _hung_up(error) and url.startswith("http:"):
        return "Does it speak https there?"
    return ""


def _hung_up(error: httpx.TransportError) -> bool:
    """Whether the other side hung up without a word, as those do who wait for TLS."""
    return isinstance(error, httpx.RemoteProtocolError) and "without sending a resp" in str(error)


def _why(error: httpx.TransportError) -> str:
    cause = _root(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return (
            f"its certificate cannot be trusted ({cause.verify_message}). The authority of a"
            " certificate of your own can be named in SSL_CERT_FILE"
        )
    if isinstance(cause, ssl.SSLError):
        return "no secure connection can be made"
    if isinstance(error, httpx.ProxyError):
        return "the proxy of HTTP_PROXY or HTTPS_PROXY refuses"
    if isinstance(error, httpx.TimeoutException):
        return "it takes too long"
    if isinstance(cause, ConnectionRefusedError):
        return "the connection was refused"
    if isinstance(cause, socket.gaierror):
        return "its host name cannot be found"
    if _hung_up(error):
        return "it hung up without an answer"
    if isinstance(error, httpx.ConnectError):
        return "no connection can be made"
    return "the connection broke off"


def _root(error: BaseException) -> BaseException:
    """What an exception was first caused by."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return error

"""What the commands that talk to a service share: the way there, waiting, and what they say."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.text import Text

from pixmill.cli.exit_codes import ALL_DONE, INTERRUPTED, REFUSED, SOME_FAILED
from pixmill.cli.flags import CLIENT_SETTINGS, flags_of
from pixmill.cli.progress import Outage, show
from pixmill.cli.words import err, out, show_line, show_outcomes
from pixmill.client.client import Client
from pixmill.client.errors import ServiceRefused, ServiceUnreachable
from pixmill.core.advice import HOPELESS
from pixmill.core.errors import NotFound, PixmillError, Problem, StorageFailure
from pixmill.settings import Settings, load_settings
from pixmill.web.problems import Code
from pixmill.web.schemas import RequestDetail, RequestSummary, ResultTotals, SheetProblem

remote_flags = flags_of(*CLIENT_SETTINGS)
request_argument = click.argument("request_id", metavar="ID")


@contextmanager
def connected(given: Mapping[str, Any]) -> Iterator[Client]:
    """The client of the service that flags and environment name; its errors say what to do."""
    settings = load_settings({name: given[name] for name in CLIENT_SETTINGS}, os.environ)
    try:
        with Client(settings.url, settings.api_key or None) as client:
            if client.exposes_key:
                warning = (
                    "The API key goes over the network in plain text: use an https:// address."
                )
                err.print(Text(f"Warning: {warning}", style="yellow"))
            yield client
    except ServiceUnreachable as error:
        raise ServiceUnreachable(
            f"{error.message} Is `pixmill serve` running there? Another address can be given as"
            " PIXMILL_URL or --url."
        ) from None
    except ServiceRefused as refused:
        _explain(refused, settings)
    except NotFound as error:  # what cannot be an id was not even sent
        raise NotFound(f"{error.message} `pixmill status` lists your requests.") from None


def command(given: Mapping[str, Any], *words: str) -> str:
    """A command for the same service, as it can be typed."""
    url = given.get("url")
    return shlex.join(["pixmill", *words, *(["--url", url] if url else [])])


def wait_for(client: Client, request_id: str, given: Mapping[str, Any]) -> RequestDetail | None:
    """Show progress until a request is terminal; None if the user would not wait so long."""
    outage = Outage()
    try:
        show(client.watch(request_id, away=outage.lasts), outage)
        return client.status(request_id, limit=1)
    except KeyboardInterrupt:
        again = command(given, "status", request_id, "--watch")
        err.print(f"{request_id} goes on without you. Watch it with: {again}")
        return None
    except ServiceUnreachable as error:
        raise ServiceUnreachable(
            f"{error.message} {request_id} goes on as soon as the service does."
        ) from None


def ended(
    client: Client,
    request: RequestDetail | None,
    given: Mapping[str, Any],
    output: Path | None = None,
    *,
    again: bool = False,
) -> int:
    """Say how a request ended that was waited for; return the exit code.

    ``output`` is where its output CSV has been written to. ``again`` is for a request that was
    tried again: its speed would count from when it was submitted.
    """
    if request is None:
        return INTERRUPTED
    totals = client.totals(request.request_id)
    if again:
        totals = totals.model_copy(update={"images_per_second": 0.0})
    show_request(request, totals, given, output, err)
    return exit_code(request)


def exit_code(request: RequestSummary) -> int:
    """The exit code of a command that has waited for this request."""
    if request.error_message:
        return REFUSED
    done = request.status == "COMPLETED" and not request.failed_images
    return ALL_DONE if done else SOME_FAILED


def show_request(
    request: RequestSummary,
    totals: ResultTotals,
    given: Mapping[str, Any],
    output: Path | None = None,
    console: Console = out,
) -> None:
    """Say where a request stands, and what can be done with it."""
    show_line("request", request.request_id, console=console)
    show_line("file", one_line(request.filename), console=console)
    show_line("status", f"{request.status}, {request.completion_percentage:g} %", console=console)
    show_outcomes(request, totals.errors, totals.bytes_in, totals.bytes_out, console)
    if totals.images_per_second and request.processed_images:
        show_line("speed", f"{totals.images_per_second:,.1f} images/s", console=console)
    if request.error_message:
        show_line("error", one_line(request.error_message), "red", console)
    else:
        _show_next(request, given, output, can_help=not set(totals.errors) <= HOPELESS)


def _show_next(
    request: RequestSummary, given: Mapping[str, Any], output: Path | None, *, can_help: bool
) -> None:
    """Say what can be done with a request."""
    if not request.status.terminal:
        err.print(f"Watch it with: {command(given, 'status', request.request_id, '--watch')}")
        return
    err.print(f"Output CSV: {output or command(given, 'download', request.request_id)}")
    if request.failed_images:
        failed = command(given, "download", request.request_id, "--report", "errors")
        err.print(f"What failed: {failed}")
    if request.failed_images and can_help:
        err.print(f"Try it again: {command(given, 'retry', request.request_id, '--wait')}")


def problems_of(found: Iterable[SheetProblem]) -> list[Problem]:
    """Problems of a CSV as the service has found them."""
    return [
        Problem(problem.code, spoken(problem.message), problem.line, problem.column)
        for problem in found
    ]


def spoken(message: str) -> str:
    """A message of the service in a line, with flags in place of the fields of a form."""
    return _FIELD.sub(
        lambda field: re.sub("[A-Z]", lambda big: f"-{big[0].lower()}", f"--{field[1]}"),
        one_line(message),
    )


_FIELD = re.compile(r"\b[Tt]he form field '([a-z][A-Za-z]*)'")


def one_line(text: str) -> str:
    """Text from elsewhere, without anything that a terminal would obey."""
    return "".join(char if char.isprintable() else " " for char in text)


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Say which file it is that cannot be written."""
    try:
        yield
    except OSError as error:
        raise StorageFailure(f"Cannot write {path}: {error.strerror}.") from None


def _explain(refused: ServiceRefused, settings: Settings) -> NoReturn:
    """Raise what a refusal means to somebody at a terminal."""
    match refused.code:
        case Code.UNAUTHENTICATED if settings.api_key:
            raise PixmillError(
                "The service does not accept this API key: it is unknown or revoked. Set"
                " PIXMILL_API_KEY to another one."
            ) from None
        case Code.UNAUTHENTICATED:
            raise PixmillError(
                "The service wants an API key. Set PIXMILL_API_KEY to one that `pixmill keys"
                " create` has made where the service runs."
            ) from None
        case Code.NOT_FOUND:
            raise NotFound(
                f"{spoken(refused.message)} `pixmill status` lists your requests."
            ) from None
        case _:
            raise PixmillError(spoken(refused.message)) from None

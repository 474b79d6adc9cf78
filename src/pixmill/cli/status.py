"""``pixmill status``: how far a request is, or which requests there are."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import Any

import click
from rich.text import Text

from pixmill.cli.exit_codes import ALL_DONE, INTERRUPTED
from pixmill.cli.numbers import age
from pixmill.cli.remote import (
    connected,
    ended,
    exit_code,
    one_line,
    remote_flags,
    show_request,
    wait_for,
)
from pixmill.cli.words import err, out
from pixmill.client.client import Client
from pixmill.web.schemas import RequestSummary

NEWEST = 20


@click.command(short_help="Show how far a request is, or list the newest.")
@click.argument("request_id", metavar="[ID]", required=False)
@click.option(
    "--watch",
    is_flag=True,
    help="Stay until it has finished; a service that is away is tried for a minute.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs; with --watch a line each.")
@remote_flags
def status(request_id: str | None, *, watch: bool, as_json: bool, **given: Any) -> int:
    """Show how far a request is, or without ID the newest 20 requests.

    Exit code: 0, or with --watch: 0 all images done, 1 some failed, 2 refused, 130 interrupted.
    """
    if watch and request_id is None:
        raise click.UsageError("--watch needs the ID of a request.")
    with connected(given) as client:
        if request_id is None:
            _list(list(islice(client.requests(), NEWEST)), as_json=as_json)
        elif watch and as_json:
            return _stream(client, request_id)
        elif watch:
            return ended(client, wait_for(client, request_id, given), given)
        elif as_json:
            click.echo(client.status(request_id).model_dump_json(by_alias=True, indent=2))
        else:
            show_request(client.status(request_id, limit=1), client.totals(request_id), given)
        return ALL_DONE


def _stream(client: Client, request_id: str) -> int:
    """Print each change as a line of JSON."""
    try:
        for progress in client.watch(request_id):
            click.echo(progress.model_dump_json(by_alias=True))
        return exit_code(client.status(request_id, limit=1))
    except KeyboardInterrupt:
        return INTERRUPTED


def _list(requests: list[RequestSummary], *, as_json: bool) -> None:
    if as_json:
        click.echo(f"[{','.join(one.model_dump_json(by_alias=True) for one in requests)}]")
        return
    if not requests:
        err.print("There are no requests yet. Hand one over with: pixmill submit products.csv")
        return
    rows = [("REQUEST", "STATUS", "IMAGES", "FAILED", "AGE", "FILE"), *map(_short_row, requests)]
    if not out.is_terminal:  # for a script, or a file: nothing is cut
        rows = [
            ("REQUEST", "STATUS", "DONE", "IMAGES", "FAILED", "CREATED", "FILE"),
            *map(_long_row, requests),
        ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        *facts, file = map(str.ljust, row, [*widths[:-1], 0])
        line = "  ".join([*facts, file])
        if out.is_terminal:
            out.print(Text(line), overflow="ellipsis", no_wrap=True, soft_wrap=False)
        else:
            out.print(Text(line))


def _short_row(one: RequestSummary) -> tuple[str, ...]:
    """A line that fits on a screen of 80 columns, but for the file's name."""
    part = "" if one.status == "COMPLETED" else f" {one.completion_percentage:.0f} %"
    return (
        one.request_id,
        f"{one.status}{part}",
        f"{one.total_images:,}",
        f"{one.failed_images:,}" if one.failed_images else "",
        age((datetime.now(UTC) - one.created_at).total_seconds()),
        one_line(one.filename),
    )


def _long_row(one: RequestSummary) -> tuple[str, ...]:
    return (
        one.request_id,
        one.status,
        f"{one.completion_percentage:.0f} %",
        f"{one.total_images:,}",
        f"{one.failed_images:,}",
        one.created_at.astimezone().strftime("%Y-%m-%d %H:%M"),
        one_line(one.filename),
    )

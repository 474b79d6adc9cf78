"""``pixmill status``: how far a request is, or which requests there are."""

from __future__ import annotations

from itertools import islice
from typing import Any

import click

from pixmill.cli.exit_codes import ALL_DONE, INTERRUPTED
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
@click.option("--watch", is_flag=True, help="Stay until the request has finished.")
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
    width = max(len(one.request_id) for one in requests)
    out.print(_row("REQUEST", width, "STATUS", "DONE", "IMAGES", "FAILED", "CREATED", "FILE"))
    for one in requests:
        out.print(
            _row(
                one.request_id,
                width,
                one.status,
                f"{one.completion_percentage:.0f} %",
                f"{one.total_images:,}",
                f"{one.failed_images:,}",
                one.created_at.astimezone().strftime("%Y-%m-%d %H:%M"),
                one_line(one.filename),
            ),
            markup=False,
        )


def _row(
    name: str, width: int, state: str, done: str, images: str, failed: str, made: str, file: str
) -> str:
    return f"{name:<{width}}  {state:<10} {done:>6} {images:>9} {failed:>7}  {made:<16}  {file}"

"""``pixmill submit``: hand a CSV over to a service."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, BinaryIO

import click

from pixmill.cli.exit_codes import ALL_DONE, REFUSED
from pixmill.cli.flags import option_flags, sheet_flags, taken_options
from pixmill.cli.handover import Handover
from pixmill.cli.numbers import plural
from pixmill.cli.remote import (
    command,
    connected,
    ended,
    problems_of,
    remote_flags,
    wait_for,
    writing,
)
from pixmill.cli.words import err, show_oddities, show_problems
from pixmill.client.client import Client
from pixmill.client.errors import ServiceRefused
from pixmill.core.errors import SheetRejected, StorageFailure
from pixmill.core.events import Event, parse_events
from pixmill.core.options import PUBLIC_NAMES
from pixmill.web.problems import Code
from pixmill.web.schemas import UploadAccepted


@click.command(short_help="Hand a CSV over to a service.")
@click.argument(
    "csv", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
)
@click.option("--wait", is_flag=True, help="Wait until the request has finished.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Wait, then write the output CSV to this file.",
)
@click.option(
    "--idempotency-key",
    metavar="KEY",
    help="Submitting again with the same key within 24 hours gives the same request.",
)
@click.option(
    "--webhook-url",
    metavar="URL",
    help="Who is told of the request's end, by POST. See: pixmill webhook listen",
)
@click.option(
    "--webhook-events",
    metavar="EVENTS",
    callback=lambda _context, _option, text: parse_events(text) if text is not None else (),
    help=f"What it is told of instead, comma-separated: {', '.join(Event)}.",
)
@sheet_flags
@option_flags
@remote_flags
def submit(
    csv: Path,
    *,
    wait: bool,
    output: Path | None,
    idempotency_key: str | None,
    **given: Any,
) -> int:
    """Hand CSV (- for standard input) over to a service, and print the id of the request.

    Exit code: 0 accepted, or with --wait all images done, 1 some failed, 2 refused,
    130 interrupted. A request that was accepted goes on whatever becomes of this command.
    """
    if output:
        _check_output(output, csv)
    rules = _taken_fields(given)
    name = "stdin.csv" if str(csv) == "-" else csv.name
    with connected(given) as client:
        try:
            accepted = _handed_over(client, csv, name, idempotency_key, rules)
        except ServiceRefused as refused:
            if refused.code != Code.SHEET_REJECTED:
                raise
            problems = problems_of(refused.errors)
            show_problems(name, SheetRejected(problems, refused.total_errors))
            return REFUSED
        _show_accepted(name, accepted)
        if not (wait or output):
            watch = command(given, "status", accepted.request_id, "--watch")
            err.print(f"Watch it with: {watch}")
            return ALL_DONE
        request = wait_for(client, accepted.request_id, given)
        if request and output and not request.error_message:
            with writing(output):
                client.download(accepted.request_id, output)
        return ended(client, request, given, output)


def _check_output(output: Path, csv: Path) -> None:
    """Find out now, not after hours of waiting, that the output cannot be written."""
    if not output.absolute().parent.is_dir():
        raise StorageFailure(f"There is no folder {output.absolute().parent}.")
    if output.resolve() == csv.resolve():
        raise StorageFailure(f"{csv} would be overwritten by its results; choose another file.")


def _taken_fields(given: dict[str, Any]) -> dict[str, Any]:
    """Take what an upload needs out of what was given; raises InvalidOption."""
    asked = {public: given[name] for name, public in PUBLIC_NAMES.items()}
    taken_options(given)
    options = {name: value for name, value in asked.items() if value is not None}
    names = set(given) - {"url", "api_key"}
    return {name: given.pop(name) for name in names} | {"options": options}


def _handed_over(
    client: Client, csv: Path, name: str, key: str | None, fields: dict[str, Any]
) -> UploadAccepted:
    source: Path | BinaryIO = sys.stdin.buffer if str(csv) == "-" else csv
    try:
        handover = Handover(name)
        with handover.shown():
            return client.upload(
                source, filename=name, idempotency_key=key, sent=handover.sent, **fields
            )
    except KeyboardInterrupt:
        err.print(
            "Interrupted before the service had answered: `pixmill status` tells if it took it."
        )
        raise


def _show_accepted(name: str, accepted: UploadAccepted) -> None:
    click.echo(accepted.request_id)
    products = plural(accepted.total_products, "product")
    err.print(f"{name} was accepted: {products}, {plural(accepted.total_images, 'image')}")
    show_oddities(accepted.skipped_rows, problems_of(accepted.warnings))

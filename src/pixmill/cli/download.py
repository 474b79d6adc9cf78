"""``pixmill download``: the results of a request."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, BinaryIO

import click

from pixmill.cli.exit_codes import ALL_DONE
from pixmill.cli.numbers import size
from pixmill.cli.progress import waiting
from pixmill.cli.remote import command, connected, remote_flags, request_argument, writing
from pixmill.cli.words import err
from pixmill.client.client import Client
from pixmill.client.errors import ServiceRefused
from pixmill.core.errors import WrongState
from pixmill.web.problems import Code


@click.command(short_help="Fetch the results of a request.")
@request_argument
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    help="File to write; - for standard output. Default: named after the request.",
)
@click.option(
    "--report",
    type=click.Choice(["errors"]),
    help="The list of failed images instead of the output CSV.",
)
@click.option("--images", is_flag=True, help="All images as a ZIP instead of the output CSV.")
@click.option("--partial", is_flag=True, help="What there is, before the request has finished.")
@remote_flags
def download(
    request_id: str,
    *,
    output: Path | None,
    report: str | None,
    images: bool,
    partial: bool,
    **given: Any,
) -> int:
    """Fetch the output CSV of a request, or its images, or the list of those that failed.

    The file is whole or not there at all, and takes the place of an earlier one.
    """
    if images and report:
        raise click.UsageError("Choose one of --images and --report.")
    kind = "-images.zip" if images else "-errors.csv" if report else ".csv"
    path = output or Path(f"{request_id}{kind}")
    piped = str(path) == "-"
    target: Path | BinaryIO = sys.stdout.buffer if piped else path
    with connected(given) as client:
        try:
            with writing("to standard output" if piped else path), waiting("Fetching"):
                _fetch(client, request_id, target, images=images, report=report, partial=partial)
        except ServiceRefused as refused:
            if refused.code != Code.WRONG_STATE:
                raise
            raise WrongState(_not_yet(client, request_id, refused, given)) from None
    if not piped:
        many = f", {size(path.stat().st_size)}" if path.is_file() else ""
        err.print(f"saved {path}{many}", markup=False)
        if not sys.stdout.isatty():  # for a script
            click.echo(path)
    return ALL_DONE


def _fetch(
    client: Client,
    request_id: str,
    target: Path | BinaryIO,
    *,
    images: bool,
    report: str | None,
    partial: bool,
) -> None:
    if images:
        client.download_images(request_id, target, partial=partial)
    else:
        client.download(request_id, target, report="errors" if report else None, partial=partial)


def _not_yet(
    client: Client, request_id: str, refused: ServiceRefused, given: dict[str, Any]
) -> str:
    """How far a request is that has nothing to download yet, and what can be done."""
    request = client.status(request_id, limit=1)
    if request.status.terminal:  # then it is something else
        return refused.message
    settled = request.processed_images + request.failed_images
    return (
        f"{request_id} has not finished: {settled:,} of {request.total_images:,} images"
        f" ({request.completion_percentage:g} %). Wait for it with `"
        f"{command(given, 'status', request_id, '--watch')}`, or take what there is with --partial."
    )

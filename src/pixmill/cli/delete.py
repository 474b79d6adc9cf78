"""``pixmill delete``: remove a request with all that belongs to it."""

from __future__ import annotations

import sys
from typing import Any

import click

from pixmill.cli.exit_codes import ALL_DONE
from pixmill.cli.remote import connected, remote_flags, request_argument
from pixmill.cli.words import err
from pixmill.core.errors import PixmillError


@click.command(short_help="Remove a request and its images.")
@request_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@remote_flags
def delete(request_id: str, *, yes: bool, **given: Any) -> int:
    """Remove a request, its images and its files from the service. This cannot be undone.

    Needs a key with the scope submit, where keys are in use.
    """
    if not yes:
        if not sys.stdin.isatty():
            raise PixmillError("This cannot be undone: confirm it with --yes.")
        question = f"Remove {request_id} and all its images? This cannot be undone."
        click.confirm(question, abort=True, err=True)
    with connected(given) as client:
        client.delete(request_id)
    err.print(f"{request_id} is gone.")
    return ALL_DONE

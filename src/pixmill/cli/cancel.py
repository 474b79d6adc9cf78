"""``pixmill cancel``: stop a request."""

from __future__ import annotations

from typing import Any

import click

from pixmill.cli.exit_codes import ALL_DONE
from pixmill.cli.numbers import plural
from pixmill.cli.remote import connected, remote_flags, request_argument
from pixmill.cli.words import err


@click.command(short_help="Stop a request.")
@request_argument
@remote_flags
def cancel(request_id: str, **given: Any) -> int:
    """Stop a request. Images that are done stay, and can be downloaded."""
    with connected(given) as client:
        request = client.cancel(request_id)
    done = plural(request.processed_images, "image")
    err.print(f"{request_id} is cancelled; {done} of {request.total_images:,} had been done.")
    return ALL_DONE

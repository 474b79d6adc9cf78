"""``pixmill retry``: try the failed images of a request again."""

from __future__ import annotations

from typing import Any

import click

from pixmill.cli.exit_codes import ALL_DONE
from pixmill.cli.numbers import plural
from pixmill.cli.remote import (
    command,
    connected,
    ended,
    remote_flags,
    request_argument,
    wait_for,
)
from pixmill.cli.words import err


@click.command(short_help="Try the failed images of a request again.")
@request_argument
@click.option("--wait", is_flag=True, help="Wait until the request has finished again.")
@remote_flags
def retry(request_id: str, *, wait: bool, **given: Any) -> int:
    """Try the failed images of a request again, and only those.

    Exit code: 0, or with --wait: 0 all images done, 1 some failed, 2 refused, 130 interrupted.
    """
    with connected(given) as client:
        accepted = client.retry(request_id)
        if accepted.retried_images:
            err.print(f"{plural(accepted.retried_images, 'image')} will be tried again.")
        elif accepted.status.terminal:
            err.print(f"No image of {request_id} has failed: there is nothing to try again.")
            return ALL_DONE
        else:
            err.print(f"No image of {request_id} has failed: only its end is made anew.")
        if wait:
            return ended(client, wait_for(client, request_id, given), given, again=True)
        err.print(f"Watch it with: {command(given, 'status', request_id, '--watch')}")
        return ALL_DONE

"""``pixmill health``: whether a service lives, and whether it can work."""

from __future__ import annotations

import os
from typing import Any

import click

from pixmill.cli.exit_codes import ALL_DONE
from pixmill.cli.flags import flags_of
from pixmill.client.client import Client
from pixmill.core.errors import PixmillError
from pixmill.settings import load_settings

UNHEALTHY = 1
PATIENCE_SECONDS = 8.0
"""Storing a file, which /ready tries, is given 5 seconds by the service itself."""


@click.command(short_help="See whether a service lives.")
@click.option("--ready", is_flag=True, help="See whether it can work: store, files and workers.")
@flags_of("url")
def health(*, ready: bool, **given: Any) -> int:
    """See whether the service at PIXMILL_URL lives, or with --ready whether it can work.

    It is asked once, without a key: a check for containers and scripts.

    Exit code: 0 it does, 1 it does not, 2 refused.
    """
    settings = load_settings(given, os.environ)
    with Client(settings.url, timeout=PATIENCE_SECONDS, retries=0) as client:
        try:
            found = client.health(ready=ready)
        except PixmillError as error:
            click.echo(f"pixmill: {error.message}", err=True)
            return UNHEALTHY
    wrong = {name: state for name, state in (found.checks or {}).items() if state != "ok"}
    for name, state in wrong.items():
        click.echo(f"{name}: {state}", err=True)
    click.echo(found.status)
    return ALL_DONE if found.status == "ok" else UNHEALTHY

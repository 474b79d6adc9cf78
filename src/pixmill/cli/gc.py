"""``pixmill gc``: delete what was finished long ago."""

from __future__ import annotations

import os
from contextlib import closing
from typing import Any

import click

from pixmill import wiring
from pixmill.cli.exit_codes import ALL_DONE
from pixmill.cli.flags import PLACES, flags_of
from pixmill.cli.numbers import plural
from pixmill.cli.places import ensure_store
from pixmill.cli.words import err, out
from pixmill.core.errors import InvalidSetting
from pixmill.core.model import Request
from pixmill.settings import load_settings
from pixmill.steps.retention import delete_expired, expired

MOST_SHOWN = 1000


@click.command(short_help="Delete what was finished long ago.")
@click.option("--dry-run", is_flag=True, help="Only show what would be deleted.")
@flags_of("retention_days", *PLACES)
def gc(*, dry_run: bool, **given: Any) -> int:
    """Delete requests that were finished more than --retention-days ago, with all of their files.

    A service with this setting does so itself, once an hour. Records and sheets go when a worker
    next runs.
    """
    settings = load_settings(given, os.environ)
    days = settings.retention_days
    if not days:
        raise InvalidSetting(
            "Requests are kept for ever. Say how long instead: --retention-days 30"
        )
    place = ensure_store(settings)
    blobs = wiring.open_blobs(settings)
    with closing(wiring.open_store(settings)) as store:
        if dry_run:
            found = expired(store, wiring.clock, days=days, limit=MOST_SHOWN)
            for request in found:
                _show(request)
            more = " or more" if len(found) == MOST_SHOWN else ""
            many = f"{plural(len(found), 'request')}{more}"
            err.print(f"{many} would be deleted from {place}.", markup=False)
            return ALL_DONE
        deleted = 0
        for request in delete_expired(
            store, blobs, wiring.clock, days=days, lease_seconds=settings.lease_seconds
        ):
            _show(request)
            deleted += 1
    blobs.free_room()
    err.print(f"{plural(deleted, 'request')} deleted from {place}.", markup=False)
    return ALL_DONE


def _show(request: Request) -> None:
    finished = f"{request.finished_at.astimezone():%Y-%m-%d %H:%M}" if request.finished_at else ""
    images = plural(request.total_images, "image")
    out.print(f"{request.id}  {finished}  {images}  {request.filename}", markup=False)

"""``pixmill keys``: make, list and revoke API keys, in the store itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import click
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from pixmill import wiring
from pixmill.cli.exit_codes import ALL_DONE, REFUSED
from pixmill.cli.flags import flags_of
from pixmill.cli.words import err, out
from pixmill.core.access import Scope, key_id_of
from pixmill.core.errors import NotFound
from pixmill.ports import Access
from pixmill.settings import load_settings
from pixmill.steps.keys import create_key

LONGEST_NAME = 100


@click.group(short_help="Make, list and revoke API keys.")
def keys() -> None:
    """Make, list and revoke the API keys of the service whose data is here.

    A running service knows of a change at once. As soon as a key exists, every call needs one.
    """


@keys.command(short_help="Make a key and show it, once.")
@click.option("--name", required=True, help="What it is for; shown in lists.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="What it allows; may be given several times. submit: upload, cancel, retry. read: look."
    " admin: delete, metrics, and the others. Default: submit and read.",
)
@flags_of("data_dir", "store")
def create(name: str, scopes: tuple[str, ...], **given: Any) -> int:
    """Make a key. It is written to standard output, and cannot be shown again."""
    name = name.strip()
    if not name.isprintable() or not 1 <= len(name) <= LONGEST_NAME:
        raise click.UsageError(f"The name must be 1 to {LONGEST_NAME} printable characters.")
    chosen = [Scope(scope) for scope in scopes] or [Scope.SUBMIT, Scope.READ]
    with _access(given) as (access, place):
        first = not access.any_key()
        key, text = create_key(access, name, chosen, wiring.clock)
    scopes_said = ", ".join(sorted(key.scopes))
    err.print(f"Key {key.id} ({scopes_said}) for {place}. It is not shown again:", markup=False)
    if first:
        err.print(
            "It is the first: from now on every call needs a key. Requests that were made without"
            " any belong to this one."
        )
    click.echo(text)
    return ALL_DONE


@keys.command("list", short_help="List all keys.")
@flags_of("data_dir", "store")
def list_(**given: Any) -> int:
    """List all keys, the revoked ones too."""
    with _access(given) as (access, place):
        found = access.keys()
    if not found:
        err.print(f"{place} has no key. Make one with: pixmill keys create --name NAME")
        return ALL_DONE
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for header in ("id", "name", "scopes", "created", "revoked"):
        table.add_column(header, no_wrap=header != "name", overflow="fold")
    for key in found:
        scopes = ", ".join(sorted(key.scopes))
        table.add_row(key.id, Text(key.name), scopes, _day(key.created_at), _day(key.revoked_at))
    out.print(table)
    return ALL_DONE


@keys.command(short_help="Let a key open nothing any more.")
@click.argument("key_id", metavar="ID")
@flags_of("data_dir", "store")
def revoke(key_id: str, **given: Any) -> int:
    """Revoke the key with this ID, at once and for good. Its requests stay."""
    key_id = key_id_of(key_id) or key_id  # whoever gives the whole key means the same
    with _access(given) as (access, place):
        try:
            key = access.revoke_key(key_id, now=wiring.clock())
        except NotFound:
            err.print(f"{place} has no key {key_id[:60]!r}. See: pixmill keys list", markup=False)
            return REFUSED
        left = [other for other in access.keys() if other.revoked_at is None]  # noqa: SIM118  # no dict
    err.print(f"Key {key.id} ({key.name}) is revoked.", markup=False)
    if not left:
        err.print("No key is left: nobody can call until you make one with: pixmill keys create")
    return ALL_DONE


@contextmanager
def _access(given: dict[str, Any]) -> Iterator[tuple[Access, str]]:
    """The keys, and where they are kept."""
    settings = load_settings(given, os.environ)
    store = urlsplit(settings.store_url)
    with closing(wiring.open_access(settings)) as access:
        yield access, unquote(store.path) if store.scheme == "sqlite" else "The store"


def _day(moment: datetime | None) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M}" if moment else ""

"""``pixmill keys``: make, list and revoke API keys, in the store itself."""

from __future__ import annotations

import os
from contextlib import closing
from datetime import datetime
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from pixmill import wiring
from pixmill.cli.exit_codes import ALL_DONE
from pixmill.cli.flags import flags_of
from pixmill.cli.numbers import plural
from pixmill.cli.places import ensure_store, place_of
from pixmill.cli.words import err, out
from pixmill.core.access import ApiKey, Scope, key_id_of
from pixmill.core.errors import NotFound
from pixmill.ports import Access
from pixmill.settings import Settings, load_settings
from pixmill.steps.keys import create_key

LONGEST_NAME = 100
USUAL = frozenset({Scope.SUBMIT, Scope.READ})


@click.group(short_help="Make, list and revoke API keys.")
def keys() -> None:
    """Make, list and revoke the API keys of the service whose data is here.

    A running service knows of a change at once. As soon as a key exists, every call needs one.
    """


@keys.command(short_help="Make a key and show it, once.")
@click.option("--name", help="What it is for; shown in lists.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="What it allows; may be given several times. submit: upload, cancel, retry, delete. read:"
    " look. admin: metrics, received webhooks, and the others. Default: submit and read.",
)
@click.option(
    "--replaces",
    metavar="ID",
    help="Revoke this key, and let the new one have its requests, and unless said otherwise its"
    " name and scopes.",
)
@flags_of("data_dir", "store")
def create(name: str | None, scopes: tuple[str, ...], *, replaces: str | None, **given: Any) -> int:
    """Make a key. It is written to standard output, and cannot be shown again."""
    settings = load_settings(given, os.environ)
    if name is not None:
        name = _checked(name)
    elif replaces is None:
        raise click.UsageError("Say what the key is for: --name NAME")
    if replaces is not None:
        ensure_store(settings)
    new_folder = wiring.new_place(settings)
    with closing(wiring.open_access(settings)) as access:
        old = None if replaces is None else _found(access, replaces, settings)
        first = not access.any_key()
        key, text = create_key(
            access,
            name or (old.name if old else ""),
            [Scope(scope) for scope in scopes] or (old.scopes if old else USUAL),
            wiring.clock,
            replaces=old.id if old else None,
        )
    if new_folder:
        err.print(
            f"There was no pixmill data in {new_folder}: it was made now.",
            style="bold",
            markup=False,
        )
        err.print("If your service keeps its data elsewhere, name that: --data-dir FOLDER")
    if first:
        err.print(
            "This key is the first: from now on every call needs a key. Requests that were made"
            " without any belong to it."
        )
    if old:
        err.print(
            f"Key {old.id} ({old.name}) is revoked. Its requests belong to the new one.",
            markup=False,
        )
    said = f"Key {key.id} ({', '.join(sorted(key.scopes))}) for {place_of(settings)}"
    err.print(f"{said}. It is not shown again:", markup=False)
    click.echo(text)
    return ALL_DONE


@keys.command("list", short_help="List all keys.")
@flags_of("data_dir", "store")
def list_(**given: Any) -> int:
    """List all keys, the revoked ones too."""
    settings = load_settings(given, os.environ)
    place = ensure_store(settings)
    with closing(wiring.open_access(settings)) as access:
        found = access.keys()
    if not found:
        err.print(
            f"{place} has no key. Make one with: pixmill keys create --name NAME", markup=False
        )
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
    """Revoke the key with this ID, at once and for good. Its requests stay.

    Only this key could reach them. To hand them over to another one: pixmill keys create
    --replaces ID
    """
    settings = load_settings(given, os.environ)
    ensure_store(settings)
    with closing(wiring.open_access(settings)) as access:
        key = access.revoke_key(_found(access, key_id, settings).id, now=wiring.clock())
        requests = access.count_requests(key.id)
        left = [other for other in access.keys() if other.revoked_at is None]  # noqa: SIM118  # no dict
    err.print(f"Key {key.id} ({key.name}) is revoked.", markup=False)
    if requests:
        err.print(
            f"No key can reach its {plural(requests, 'request')} any more. To hand them over to a"
            f" new key: pixmill keys create --replaces {key.id}"
        )
    if not left:
        err.print("No key is left: nobody can call until you make one with: pixmill keys create")
    return ALL_DONE


def _found(access: Access, given: str, settings: Settings) -> ApiKey:
    """The key with this id, or this text, which must not be shown; raises NotFound."""
    key_id = key_id_of(given) or given
    key = access.key(key_id)
    if key is None:
        raise NotFound(f"{place_of(settings)} has no key {key_id[:60]!r}. See: pixmill keys list")
    return key


def _checked(name: str) -> str:
    name = name.strip()
    if not name.isprintable() or not 1 <= len(name) <= LONGEST_NAME:
        raise click.UsageError(f"The name must be 1 to {LONGEST_NAME} printable characters.")
    return name


def _day(moment: datetime | None) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M}" if moment else ""

"""``pixmill serve``: the HTTP service, with workers beside it."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import tempfile
from contextlib import ExitStack, closing, suppress
from typing import Any

import click
from rich.text import Text

from pixmill import wiring
from pixmill.cli.flags import CLIENT_SETTINGS, setting_flags
from pixmill.cli.listen import EVERYWHERE, Door, only_this_machine, open_door
from pixmill.cli.logs import set_up_logging
from pixmill.cli.numbers import plural
from pixmill.cli.places import broker_of, places_of
from pixmill.cli.supervisor import Supervisor
from pixmill.cli.words import err
from pixmill.core.errors import InvalidSetting
from pixmill.core.shards import PRIVATE
from pixmill.ports import Blobs, Store
from pixmill.settings import Settings, load_settings
from pixmill.web.service import Service

log = logging.getLogger(__name__)

BROKEN_OFF = "ASGI callable returned without completing response."
"""What uvicorn says of an answer that we broke off, having said why."""


@click.command(short_help="Serve the HTTP API, with workers beside it.")
@setting_flags("samples", *CLIENT_SETTINGS)
def serve(**given: Any) -> int:
    """Serve the HTTP API and work on what is uploaded, until told to stop (SIGTERM, or Ctrl-C).

    Nothing else is needed: the state is one SQLite file. Several of these may share it. With a
    broker (--engine), it has no workers of its own: they are started by `pixmill worker`.

    Exit code: 0 stopped, 2 refused, 130 stopped at once by a second Ctrl-C.
    """
    settings = load_settings(given, os.environ)
    _set_up_logging(settings)
    with ExitStack() as opened:
        store = opened.enter_context(closing(wiring.open_store(settings)))
        access = opened.enter_context(closing(wiring.open_access(settings)))
        outbox = opened.enter_context(closing(wiring.open_outbox(settings)))
        blobs = wiring.open_blobs(settings)
        _check_writable(blobs)
        keys_exist = access.any_key()
        _check_doors(settings, keys_exist=keys_exist)
        _spool_beside_the_data(settings)
        door = open_door(settings)
        guessed = not settings.public_url and settings.host.strip("[]") in EVERYWHERE
        settings = _with_own_urls(settings, door)
        engine = wiring.engine(settings, store, outbox)
        service = Service(settings, store, access, outbox, blobs, wiring.clock, engine.wake)
        supervisor = Supervisor(service, engine, door)
        _say_where(settings, door, keys_exist=keys_exist, going_on=_going_on(store))
        if guessed:
            _hint(settings)
        return supervisor.run()


def _set_up_logging(settings: Settings) -> None:
    """Log calls, unless the settings say how much is to be logged."""
    if "log_level" not in settings.model_fields_set:
        settings = settings.model_copy(update={"log_level": "info"})
    set_up_logging(settings)
    for name in ("uvicorn", "asyncio", "httpx"):  # what they have to say at info, we say
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.root.level))
    logging.getLogger("uvicorn.error").addFilter(lambda record: record.msg != BROKEN_OFF)


def _check_writable(blobs: Blobs) -> None:
    """Write a file now, so that a folder that cannot be written is told of now."""
    blobs.put(f"{PRIVATE}/started", b"")


def _spool_beside_the_data(settings: Settings) -> None:
    """Buffer uploads where there is room for them: /tmp may be memory. TMPDIR has its say."""
    folder = settings.data_dir.absolute() / PRIVATE / "uploads"
    if "TMPDIR" not in os.environ:
        with suppress(OSError):  # the state and the files may all be elsewhere
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.tempdir = str(folder)


def _going_on(store: Store) -> int:
    """How many requests are not finished."""
    counts = store.census().requests
    return sum(count for status, count in counts.items() if not status.terminal)


def _check_doors(settings: Settings, *, keys_exist: bool) -> None:
    if not keys_exist and not only_this_machine(settings):
        proxies = " (PIXMILL_TRUSTED_PROXIES is set)" if settings.trusted_proxies else ""
        raise InvalidSetting(
            f"No API key exists, so nobody but this machine may be served: {settings.host} would"
            f" be open to others{proxies}. Create a key first: {_how_to_create(settings)}"
        )


def _how_to_create(settings: Settings) -> str:
    words = ["pixmill", "keys", "create", "--name", "NAME"]
    for name in ("data_dir", "store"):
        if name in settings.model_fields_set:
            words += [f"--{name.replace('_', '-')}", str(getattr(settings, name))]
    return shlex.join(words)


def _with_own_urls(settings: Settings, door: Door) -> Settings:
    """Settings that say where the service and its stored images are: here, unless set."""
    own = {"public_url": settings.public_url or f"{door.url}/api/files"}
    if "url" not in settings.model_fields_set:
        own["url"] = door.url
    return settings.model_copy(update=own)


def _say_where(settings: Settings, door: Door, *, keys_exist: bool, going_on: int) -> None:
    """Tell people, or their log, where the service is; a script gets the bare URL."""
    workers = "workers elsewhere" if settings.has_broker else plural(settings.workers, "worker")
    if settings.log_format == "json":
        fields = {
            "url": door.url,
            "workers": 0 if settings.has_broker else settings.workers,
            "keys": keys_exist,
            "going_on": going_on,
            "places": places_of(settings),
        }
        log.info("listening on %s with %s", door.url, workers, extra={"fields": fields})
    else:
        err.print(Text(f"pixmill listens on {door.url}", style="bold"))
        err.print(f"{places_of(settings)}; {workers}; Ctrl-C stops.")
        if settings.has_broker:
            err.print(
                f"Workers are told of work by {broker_of(settings)}. Start some, with the same"
                " settings: pixmill worker"
            )
        if going_on:
            err.print(f"Not finished yet: {plural(going_on, 'request')}; work goes on.")
        if keys_exist:
            err.print("API keys are in use: every call needs one, but for stored images.")
        else:
            err.print("No API key exists: only this machine is served. To serve others as well:")
            err.print(f"  {_how_to_create(settings)}")
    if not sys.stdout.isatty():
        click.echo(door.url)


def _hint(settings: Settings) -> None:
    """Say what results will link to, as it may not be what others can reach."""
    hint = (
        f"URLs of stored images begin with {settings.public_url}: set PIXMILL_PUBLIC_URL if others"
        " reach this machine under another name."
    )
    if settings.log_format == "json":
        log.warning("%s", hint)
    else:
        err.print(hint)

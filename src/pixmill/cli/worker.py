"""``pixmill worker``: one worker process."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
import threading
from types import FrameType
from typing import Any

import click

from pixmill import wiring
from pixmill.cli.flags import SERVICE_SETTINGS, setting_flags
from pixmill.cli.logs import set_up_logging
from pixmill.cli.places import broker_of, places_of
from pixmill.core.errors import PixmillError
from pixmill.engines.local import CANNOT_GO_ON
from pixmill.settings import Settings, load_settings

log = logging.getLogger(__name__)

OF_OTHERS = {
    *SERVICE_SETTINGS,
    *("max_rows", "max_urls_per_cell", "max_url_length"),
} - {"url", "webhook_secret"}
"""Settings of those who take calls and CSVs; webhooks have links and are signed here."""


@click.command(short_help="Run one worker process on a shared store.")
@click.option("--supervised", metavar="NAME", hidden=True)
@setting_flags(*OF_OTHERS)
def worker(supervised: str | None, **given: Any) -> int:
    """Work on what the store has to do, until told to stop (SIGTERM, or Ctrl-C).

    Any number of workers may share a store. What one has not finished when it stops, or dies, is
    done by the others. With a broker (--engine) it is a Celery worker, which the broker's messages
    tell of work; without, it looks for work by itself.
    """
    settings = load_settings(given, os.environ)
    set_up_logging(settings)
    if settings.has_broker:
        _say_where(settings)
        return wiring.run_celery_worker(settings)
    stop = threading.Event()
    if supervised:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor decides when to stop
        _set_at_signals(stop, signal.SIGTERM)
        threading.Thread(target=_outlive_nobody, args=(stop,), daemon=True).start()
    else:
        _set_at_signals(stop, signal.SIGTERM, signal.SIGINT)
    name = supervised or f"{socket.gethostname()}-{os.getpid()}"
    try:
        with wiring.worker(settings, name) as hand:
            if not supervised:
                _say_where(settings)
            gc.freeze()  # what is loaded by now stays: no need to look at it again and again
            hand.run(stop)
            failure = hand.failure
    except PixmillError as error:
        failure = error
    except Exception:  # the boundary of the process: for the log, not for the screen
        log.exception("worker %s ended by an internal error", name)
        return 1
    if failure:
        click.echo(failure.message)
        return CANNOT_GO_ON
    return 0


def _say_where(settings: Settings) -> None:
    """Tell what the worker works on, as it must share it with the service."""
    places = places_of(settings)
    told = f"told of work by {broker_of(settings)}" if settings.has_broker else "looking for work"
    if settings.log_format == "json":
        log.setLevel(logging.INFO)
        log.info("pixmill worker: %s; %s", places, told)
    else:
        click.echo(f"pixmill worker: {places}; {told}; Ctrl-C stops.", err=True)


def _set_at_signals(stop: threading.Event, *signals: signal.Signals) -> None:
    """Set the event when a signal comes; in a thread of its own, not in the signal's handler.

    A handler runs between any two steps of the main thread, which may just then hold the lock of
    the very event: to set it there could wait for ever.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in signals:
        signal.signal(number, _wake)

    def wait() -> None:
        os.read(reader, 1)
        stop.set()

    threading.Thread(target=wait, name="signals", daemon=True).start()


def _wake(_signal: int, _frame: FrameType | None) -> None:
    """Do nothing: that there is a handler makes Python write to the wakeup file."""


def _outlive_nobody(stop: threading.Event) -> None:
    """Stop when standard input closes: then the supervisor is gone, however it died."""
    sys.stdin.read()
    stop.set()

"""Engines: who brings work to workers."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from pixmill.core.errors import InvalidSetting
from pixmill.engines.kept import KeptEngine
from pixmill.engines.local import LocalEngine
from pixmill.ports import Engine, Outbox, Store
from pixmill.settings import Settings
from pixmill.wiring.places import clock, open_outbox, open_store
from pixmill.wiring.workers import delivering, worker_on

if TYPE_CHECKING:  # what a broker needs comes with the extra
    from celery import Celery

    from pixmill.engines.celery import Hands, Publisher


def engine(settings: Settings, store: Store, outbox: Outbox) -> Engine:
    """Who brings work to workers, for a service."""
    if settings.has_broker:
        made: Engine = _celery().CeleryEngine(_publisher(settings, store, outbox))
        return made
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    return KeptEngine(local_engine(settings, store, name))


def local_engine(
    settings: Settings, store: Store, name: str, log_file: Path | None = None
) -> LocalEngine:
    """The worker processes of this machine; their log goes to ``log_file`` or standard error."""
    return LocalEngine(
        lambda worker: [sys.executable, "-m", "pixmill", "worker", "--supervised", worker],
        dict(os.environ) | settings.to_environment(),
        count=settings.workers,
        name=name,
        died=store.expire_leases,
        log_file=log_file,
    )


def celery_app(settings: Settings) -> Celery:
    """The Celery app of a fleet, whose workers do pixmill's work."""
    celery = _celery()
    app = celery.make_app(settings.engine, settings.grace_seconds)
    celery.bring_hands(app, partial(_hands, settings))
    return app


def celery_worker(settings: Settings) -> Callable[[], int]:
    """A Celery worker in this process; called, it works until it is told to stop.

    Returns its exit code.
    """
    worker = _celery().new_worker(celery_app(settings))

    def run() -> int:
        worker.start()
        return worker.exitcode or 0

    return run


def _celery() -> ModuleType:
    """The Celery engine, for which one machine needs no packages."""
    try:
        from pixmill.engines import celery
    except ImportError as error:
        raise InvalidSetting(
            "PIXMILL_ENGINE names a broker, which needs more packages:"
            ' pip install "pixmill[fleet]".'
        ) from error
    return celery


def _publisher(settings: Settings, store: Store, outbox: Outbox) -> Publisher:
    celery = _celery()
    messages = celery.Messages(celery.make_app(settings.engine, settings.grace_seconds))
    made: Publisher = celery.Publisher(store, outbox, messages, clock)
    return made


@contextmanager
def _hands(settings: Settings, name: str) -> Iterator[Hands]:
    """What a Celery worker works with: a worker, its dispatcher, and who tells others of work."""
    with ExitStack() as opened:
        store = opened.enter_context(closing(open_store(settings)))
        outbox = opened.enter_context(closing(open_outbox(settings)))
        publisher = _publisher(settings, store, outbox)
        dispatcher = opened.enter_context(
            delivering(settings, name, store, on_change=publisher.wake)
        )
        made = opened.enter_context(
            worker_on(
                settings,
                name,
                store,
                beside=(dispatcher.stand_by, publisher.run),
                on_change=publisher.wake,
            )
        )
        opened.enter_context(made.standing_by())
        yield _celery().Hands(
            take_work=made.take,
            take_delivery=dispatcher.take,
            failure=lambda: made.failure.message if made.failure else None,
        )

"""Engines: who brings work to workers."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from collections.abc import Iterator
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

    from pixmill.engines.celery import Hands


def engine(settings: Settings, store: Store, outbox: Outbox) -> Engine:
    """Who brings work to workers, for a service."""
    if settings.has_broker:
        return _celery_engine(settings, store, outbox)
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
    if not settings.has_broker:
        raise InvalidSetting(
            "A Celery worker needs a broker: set PIXMILL_ENGINE to a URL such as redis://host/0."
        )
    celery = _celery()
    app = celery.make_app(settings.engine)
    celery.bring_hands(app, partial(_hands, settings))
    return app


def run_celery_worker(settings: Settings) -> int:
    """Be a Celery worker until told to stop; return the exit code."""
    code: int = _celery().run_worker(celery_app(settings))
    return code


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


def _celery_engine(settings: Settings, store: Store, outbox: Outbox) -> Engine:
    celery = _celery()
    messages = celery.Messages(celery.make_app(settings.engine, only_sends=True))
    made: Engine = celery.CeleryEngine(celery.Publisher(store, outbox, messages, clock))
    return made


@contextmanager
def _telling(settings: Settings, store: Store, outbox: Outbox) -> Iterator[Engine]:
    """What tells others of work during the block; a broker that hangs does not hold up its end."""
    engine = _celery_engine(settings, store, outbox)
    engine.start()
    try:
        yield engine
    finally:
        engine.stop(settings.grace_seconds)


@contextmanager
def _hands(settings: Settings, name: str) -> Iterator[Hands]:
    """What a Celery worker works with: a worker, its dispatcher, and who tells others of work."""
    with ExitStack() as opened:
        store = opened.enter_context(closing(open_store(settings)))
        outbox = opened.enter_context(closing(open_outbox(settings)))
        telling = opened.enter_context(_telling(settings, store, outbox))
        dispatcher = opened.enter_context(delivering(settings, name, store, on_change=telling.wake))
        made = opened.enter_context(
            worker_on(
                settings,
                name,
                store,
                beside=(dispatcher.stand_by,),
                on_change=telling.wake,
            )
        )
        opened.enter_context(made.standing_by())
        yield _celery().Hands(
            take_work=made.take,
            take_delivery=dispatcher.take,
            failure=lambda: made.failure.message if made.failure else None,
        )

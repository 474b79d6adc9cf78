"""A Celery worker: a consumer of messages around the same worker that one machine has."""

from __future__ import annotations

import logging
import os
import socket
import threading
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from celery import Celery, bootsteps
from celery.exceptions import SecurityWarning
from celery.worker import state

from pixmill.core.errors import InvalidSetting, PixmillError
from pixmill.engines.celery.tasks import Hands, add_tasks
from pixmill.engines.local import CANNOT_GO_ON

log = logging.getLogger(__name__)

WATCH_SECONDS = 0.5

AtWork = Callable[[str], AbstractContextManager[Hands]]
"""Makes the hands of the worker with a name; at the end of the block they put everything down."""


def bring_hands(app: Celery, at_work: AtWork) -> None:
    """Let the workers of an app do its work, with hands from the first message to the last task."""
    held: list[Hands] = []

    class Step(bootsteps.StartStopStep):  # type: ignore[misc]  # celery has no types
        """Begins after the pool, and so ends before it: its end lets the tasks end."""

        requires = ("celery.worker.components:Pool",)

        def start(self, parent: Any) -> None:
            self._over = threading.Event()
            try:
                if parent.pool_cls.__module__ != "celery.concurrency.thread":
                    raise InvalidSetting(
                        "Workers of pixmill use Celery's threads: leave out --pool."
                    )
                self._at_work = at_work(worker_name())
                held.append(self._at_work.__enter__())
            except PixmillError as error:
                log.error("stopping: %s", error.message)  # noqa: TRY400  # the message says it all
                raise SystemExit(CANNOT_GO_ON) from None
            threading.Thread(target=_watch, args=(held[0], self._over), daemon=True).start()

        def stop(self, _parent: Any) -> None:
            self._over.set()
            if held:
                self._at_work.__exit__(None, None, None)

        terminate = stop

    add_tasks(app, lambda: held[0])
    app.steps["worker"].add(Step)


def worker_name() -> str:
    """A name that no other worker has."""
    return f"{socket.gethostname()}-{os.getpid()}"


def new_worker(app: Celery) -> Any:
    """A worker in this process; ``start()`` runs it, and leaves its ``exitcode``."""
    # What it warns of are pickled messages from strangers; only JSON is taken.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    return app.Worker(
        hostname=f"pixmill@{worker_name()}",
        pool=app.conf.worker_pool,
        concurrency=app.conf.worker_concurrency,
        quiet=True,
        # What workers tell each other grows with their number squared, and nobody needs it.
        without_gossip=True,
        without_mingle=True,
    )


def _watch(hands: Hands, over: threading.Event) -> None:
    """End the worker when it can do nothing any more: whoever started it may try again."""
    while not over.wait(WATCH_SECONDS):
        if failure := hands.failure():
            log.error("stopping: %s", failure)
            state.should_stop = CANNOT_GO_ON
            return

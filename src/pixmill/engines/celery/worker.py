"""A Celery worker: a consumer of messages around the same worker that one machine has."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from celery import Celery, bootsteps, signals
from celery.exceptions import SecurityWarning
from celery.worker import state

from pixmill.core.errors import InvalidSetting, PixmillError
from pixmill.engines.celery.tasks import Hands, add_tasks
from pixmill.engines.local import CANNOT_GO_ON

log = logging.getLogger(__name__)

WATCH_SECONDS = 0.5

FAREWELL_SECONDS = 5.0
"""How long Celery may take to leave the broker, once all work is handed back."""

OF_BROKER = ("celery.worker.consumer.consumer", "celery.worker.request")
"""The loggers that tell of a broker that is lost, and of messages that cannot be acknowledged."""

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
            self._ending = threading.Lock()
            self._opened = ExitStack()
            try:
                if parent.pool_cls.__module__ != "celery.concurrency.thread":
                    raise InvalidSetting(
                        "Workers of pixmill use Celery's threads: leave out --pool."
                    )
                held.append(self._opened.enter_context(at_work(worker_name())))
            except PixmillError as error:
                log.error("stopping: %s", error.message)  # noqa: TRY400  # the message says it all
                raise SystemExit(CANNOT_GO_ON) from None
            signals.worker_shutting_down.connect(self._begin_to_leave, weak=False)
            threading.Thread(target=_watch, args=(held[0], self._over), daemon=True).start()

        def stop(self, _parent: Any = None) -> None:
            """Hand back what is in hand; who comes second waits for that."""
            self._over.set()
            with self._ending:
                self._opened.close()

        terminate = stop

        def _begin_to_leave(self, **_: Any) -> None:
            """Stop working at the signal: Celery first speaks to the broker, which may hang."""
            threading.Thread(target=self._leave, name="leaving", daemon=True).start()

        def _leave(self) -> None:
            self.stop()
            time.sleep(FAREWELL_SECONDS)
            log.warning("the broker does not answer: leaving it without a farewell")
            logging.shutdown()
            os._exit(0)  # all that counts is in the store

    add_tasks(app, lambda: held[0])
    app.steps["worker"].add(Step)


def worker_name() -> str:
    """A name that no other worker has."""
    return f"{socket.gethostname()}-{os.getpid()}"


def new_worker(app: Celery) -> Any:
    """A worker in this process; ``start()`` runs it, and leaves its ``exitcode``."""
    # What it warns of are pickled messages from strangers; only JSON is taken.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    for name in OF_BROKER:
        logging.getLogger(name).addFilter(_without_trace)
    return app.Worker(
        hostname=f"pixmill@{worker_name()}",
        pool=app.conf.worker_pool,
        concurrency=app.conf.worker_concurrency,
        quiet=True,
        # What workers tell each other grows with their number squared, and nobody needs it.
        without_gossip=True,
        without_mingle=True,
    )


def _without_trace(record: logging.LogRecord) -> bool:
    """Let a broker that is away be told of in a line."""
    record.exc_info = None
    return True


def _watch(hands: Hands, over: threading.Event) -> None:
    """End the worker when it can do nothing any more: whoever started it may try again."""
    while not over.wait(WATCH_SECONDS):
        if failure := hands.failure():
            log.error("stopping: %s", failure)
            state.should_stop = CANNOT_GO_ON
            return

"""A Celery worker: a consumer of messages around the same worker that one machine has."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from types import FrameType
from typing import Any

from celery import Celery, bootsteps, signals
from celery.exceptions import SecurityWarning
from celery.worker import state

from pixmill.core.errors import PixmillError
from pixmill.engines.celery.tasks import Hands, add_tasks
from pixmill.engines.local import CANNOT_GO_ON

log = logging.getLogger(__name__)

WATCH_SECONDS = 0.5

REFUSED, INTERRUPTED = 2, 130
"""Exit codes: called wrongly, and stopped at once by a second signal."""

FAREWELL_SECONDS = 5.0
"""How long Celery may take to leave the broker, once all work is handed back."""

OF_BROKER = (
    "celery.worker.consumer.consumer",
    "celery.worker.loops",
    "celery.worker.request",
)
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
            self._code = 0
            self._parent = parent
            _check_pool(parent.pool_cls)
            held.append(_enter(self._opened, at_work))
            self._told, self._teller = os.pipe()
            signals.worker_shutting_down.connect(self._on_signal, weak=False)
            threading.Thread(target=self._leave, name="leaving", daemon=True).start()
            threading.Thread(target=self._watch, name="watching", daemon=True).start()

        def stop(self, _parent: Any = None) -> None:
            """Hand back what is in hand; who comes second waits for that."""
            self._over.set()
            with self._ending:
                self._opened.close()

        terminate = stop

        def _on_signal(self, **_: Any) -> None:
            """Wake the thread that leaves: no lock may be asked for in a signal's handler.

            From now on Ctrl-C says that nothing is to be waited for.
            """
            self._parent.told_to_stop = True
            signal.signal(signal.SIGINT, _leave_at_once)
            os.write(self._teller, b".")

        def _leave(self) -> None:
            """Stop working at the signal: Celery first speaks to the broker, which may hang."""
            os.read(self._told, 1)
            self.stop()
            time.sleep(FAREWELL_SECONDS)
            log.warning("the broker does not answer: leaving it without a farewell")
            logging.shutdown()
            os._exit(self._code)  # all that counts is in the store

        def _watch(self) -> None:
            """End the worker when it can do nothing any more: who started it may try again."""
            while not self._over.wait(WATCH_SECONDS):
                if failure := held[0].failure():
                    log.error("stopping: %s", failure)
                    self._code = CANNOT_GO_ON
                    state.should_stop = CANNOT_GO_ON
                    os.write(self._teller, b".")
                    return

    add_tasks(app, lambda: held[0])
    app.steps["worker"].add(Step)


def _leave_at_once(_number: int, _frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)  # leases bring back what is in hand


def _check_pool(pool: type) -> None:
    if pool.__module__ != "celery.concurrency.thread":
        log.error("stopping: workers of pixmill use threads: leave out --pool")
        raise SystemExit(REFUSED)


def _enter(opened: ExitStack, at_work: AtWork) -> Hands:
    try:
        return opened.enter_context(at_work(worker_name()))
    except PixmillError as error:
        log.error("stopping: %s", error.message)  # noqa: TRY400  # the message says it all
        raise SystemExit(CANNOT_GO_ON) from None


def worker_name() -> str:
    """A name that no other worker has, although containers may share host name and number."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


def run_worker(app: Celery) -> int:
    """Be a worker until told to stop; return the exit code."""
    # What it warns of are pickled messages from strangers; only JSON is taken.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    for name in OF_BROKER:
        logging.getLogger(name).addFilter(_without_trace)
    worker = app.Worker(
        hostname=f"pixmill@{worker_name()}",
        pool=app.conf.worker_pool,
        concurrency=app.conf.worker_concurrency,
        quiet=True,
        # What workers tell each other grows with their number squared, and nobody needs it.
        without_gossip=True,
        without_mingle=True,
    )
    worker.start()
    # To Celery, a first Ctrl-C is a failure.
    return 0 if getattr(worker, "told_to_stop", False) else int(worker.exitcode or 0)


def _without_trace(record: logging.LogRecord) -> bool:
    """Let a broker that is away be told of in a line."""
    record.exc_info = None
    return True

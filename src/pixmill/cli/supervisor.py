"""One service process from its start to its end: calls in threads, workers beside them."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from types import FrameType

import uvicorn

from pixmill.cli.call_log import CallLog
from pixmill.cli.cut_off import CutOff
from pixmill.cli.exit_codes import ALL_DONE, INTERRUPTED, SOME_FAILED
from pixmill.cli.housekeeping import keep_house
from pixmill.cli.listen import Door
from pixmill.core.errors import PixmillError
from pixmill.ports import Engine
from pixmill.settings import listed
from pixmill.web.app import create_app
from pixmill.web.connections import GuardedConnection
from pixmill.web.service import Service

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
KEEP_ALIVE_SECONDS = 75
"""Longer than proxies keep their connections, so that it is never us who hangs up on a call."""
STOP_SECONDS = 5.0
"""What a stop may take beyond the grace that images in hand, and calls, are given."""


class Supervisor:
    """Answers calls and keeps an engine running until a signal ends both.

    ``app.state.closing`` is set when a stop begins; ``app.state.engine_failure`` says why the
    workers cannot go on, or is None.
    """

    def __init__(self, service: Service, engine: Engine, door: Door) -> None:
        settings = service.settings
        self._service = service
        self._door = door
        self._grace = settings.grace_seconds
        self._app = create_app(service)
        self._closing = self._app.state.closing = threading.Event()
        self._app.state.engine_failure = None
        self._server = uvicorn.Server(_config(CallLog(CutOff(self._app)), service, door))
        self._engine = engine
        self._signals = 0

    def run(self) -> int:
        """Serve until told to stop; return the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        calls = threading.Thread(
            target=self._server.run, args=(self._door.sockets,), name="calls", daemon=True
        )
        calls.start()
        threading.Thread(
            target=keep_house, args=(self._service, self._closing), name="house", daemon=True
        ).start()
        try:
            self._engine.start()
            while calls.is_alive() and not self._signals:
                self._app.state.engine_failure = self._engine.look()
                time.sleep(LOOK_SECONDS)
        finally:
            told = bool(self._signals)
            self._stop(calls)
        if not told:
            log.error("the part that answers calls ended by itself")
        return ALL_DONE if told else SOME_FAILED

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals > 1 and number == signal.SIGINT:
            raise KeyboardInterrupt

    def _stop(self, calls: threading.Thread) -> None:
        """End calls and workers side by side, within the grace; at once at another Ctrl-C."""
        log.info("stopping: calls and images in hand end first; Ctrl-C stops at once")
        deadline = time.monotonic() + self._grace + STOP_SECONDS
        self._closing.set()
        self._server.should_exit = True
        try:
            self._end_workers(deadline - time.monotonic())
            calls.join(max(0.0, deadline - time.monotonic()) + 1)
        except KeyboardInterrupt:
            self._end_workers(0)
            _vanish(INTERRUPTED)
        if calls.is_alive():
            log.warning("calls that did not end in time are broken off")
            _vanish(ALL_DONE)
        log.info("stopped")

    def _end_workers(self, grace: float) -> None:
        try:
            self._engine.stop(grace)
        except PixmillError as error:  # nobody could be told of their end: leases run out then
            log.warning("%s", error)


def _config(app: CallLog, service: Service, door: Door) -> uvicorn.Config:
    settings = service.settings
    proxies = listed(settings.trusted_proxies)
    tls = door.tls
    return uvicorn.Config(
        app,
        http=GuardedConnection,
        loop="uvloop",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, int(settings.grace_seconds)),
        ssl_context_factory=(lambda _config, _default: tls) if tls else None,
    )


def _vanish(code: int) -> None:
    """End this process without waiting for its threads. All that counts is in the store."""
    logging.shutdown()
    os._exit(code)

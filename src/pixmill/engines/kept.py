"""The local engine as a service has it: its workers are started again some time after giving up."""

from __future__ import annotations

import logging
import time

from pixmill.core.errors import PixmillError
from pixmill.engines.local import SETTLED_SECONDS, LocalEngine

log = logging.getLogger(__name__)

TRY_AGAIN_SECONDS = 10.0


class KeptEngine:
    """The Engine port on worker processes of this machine, which look for work by themselves.

    Where nothing can be stored, they end; a full disk may be emptied, so they are tried again.
    """

    def __init__(self, workers: LocalEngine) -> None:
        self._workers = workers
        self._failure: str | None = None
        self._tried = 0.0

    def start(self) -> None:
        """Start the workers."""
        self._workers.start()

    def wake(self) -> None:
        """Do nothing: the workers look a few times a second."""

    def look(self) -> str | None:
        """See to workers that ended; return why they cannot go on, if they cannot."""
        now = time.monotonic()
        failure = self._check()
        if failure and failure != self._failure:
            log.error("%s The workers try again every %.0f seconds.", failure, TRY_AGAIN_SECONDS)
        if failure and not self._failure:
            self._tried = now
        if failure and now >= self._tried + TRY_AGAIN_SECONDS:
            self._tried = now
            self._workers.try_again()
        if self._failure and not failure and now >= self._tried + SETTLED_SECONDS:
            log.info("the workers go on")
            self._failure = None
        self._failure = failure or self._failure
        return self._failure

    def stop(self, grace: float) -> None:
        """Ask the workers to stop; those that do not within the grace are killed."""
        self._workers.stop(grace)

    def _check(self) -> str | None:
        try:
            self._workers.check()
        except PixmillError as error:
            return error.message
        return self._workers.failure

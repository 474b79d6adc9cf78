"""The publisher: looks what workers are to be told of, and sends the messages."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from pixmill.core.errors import PixmillError
from pixmill.core.leases import MOST_REQUESTS, MOST_TOLD
from pixmill.engines.celery.messages import Messages
from pixmill.ports import Clock, Outbox, Store

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""How often it looks though nobody wakes it: for what others opened and died, and what is due."""

TOGETHER_SECONDS = 0.02
"""How long those who wake it are waited for, so that it looks once for all of them."""

LOST_SECONDS = 30.0
"""A hint that nobody followed for so long may be lost, and is sent again.

Few are on their way at once (``Store.take_hints``), so to repeat those that only wait costs little.
"""

MOST_WAITING = MOST_REQUESTS * MOST_TOLD
"""With so many messages in the queue, hints wait there rather than being lost."""

COUNT_SECONDS = 5.0
"""How often the messages that wait are counted, which tells as well that the broker is there."""

SILENT_SECONDS = 15.0
"""A broker that takes so long for an answer is there, yet does nothing."""


class Publisher:
    """Tells workers of open work by messages; any number of processes may do so on one store.

    Sending is never what makes work safe: it is in the store before, and told of until it is taken.
    """

    def __init__(self, store: Store, outbox: Outbox, messages: Messages, clock: Clock) -> None:
        self._store = store
        self._outbox = outbox
        self._messages = messages
        self._clock = clock
        self._woken = threading.Event()
        self._unsent: deque[Callable[[], None]] = deque()
        self._counted = 0.0
        self._short = True
        self._speaking_since: float | None = None
        self._failure: str | None = None

    @property
    def failure(self) -> str | None:
        """Why workers cannot be told of work at the moment, if so."""
        since = self._speaking_since
        if since and (silent := time.monotonic() - since) > SILENT_SECONDS:
            return f"The broker has not answered for {silent:.0f} seconds."
        return self._failure

    def wake(self) -> None:
        """Look now, since there may be something to tell."""
        self._woken.set()

    def run(self, stop: threading.Event) -> None:
        """Look and send until ``stop`` is set (and it is woken, or some seconds have passed)."""
        while not stop.is_set():
            self._woken.clear()  # before the look, so that no call is missed
            try:
                self._look()
                self._note(None)
            except PixmillError as error:
                self._note(error.message)
            except Exception:  # a mistake of ours; without this thread, nobody hears of any work
                log.exception("workers could not be told of work")
                self._note("An internal error keeps workers from being told of work.")
                self._unsent.clear()  # it is told of again
            self._woken.wait(LOOK_SECONDS)
            stop.wait(TOGETHER_SECONDS)
        self._messages.close()

    def _look(self) -> None:
        """Send what could not be sent before, and what is new."""
        self._send()
        self._count()
        now = self._clock()
        told_before = now - LOST_SECONDS if self._short else 0.0
        for hint in self._store.take_hints(now=now, told_before=told_before):
            self._unsent.append(partial(self._messages.tell_of, hint))
        for delivery_id in self._outbox.take_hints(now=now, told_before=told_before):
            self._unsent.append(partial(self._messages.tell_of_delivery, delivery_id))
        self._send()

    def _count(self) -> None:
        """See now and then how many messages wait: where many do, none is taken for lost.

        So nobody's hints pile up while there is no worker at all.
        """
        if self._failure or time.monotonic() - self._counted > COUNT_SECONDS:
            with self._speaking():
                self._short = self._messages.waiting() < MOST_WAITING
            self._counted = time.monotonic()

    def _send(self) -> None:
        with self._speaking():
            while self._unsent:
                self._unsent[0]()
                self._unsent.popleft()

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        """Note for how long the broker is spoken to, since it may never answer."""
        self._speaking_since = time.monotonic()
        try:
            yield
        finally:
            self._speaking_since = None

    def _note(self, failure: str | None) -> None:
        if failure and not self._failure:
            log.warning("workers cannot be told of work: %s Accepted work waits.", failure)
        elif self._failure and not failure:
            log.info("workers are told of work again")
        self._failure = failure

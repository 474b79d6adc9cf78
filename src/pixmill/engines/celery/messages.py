"""Messages on their way to a broker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from celery import Celery
from kombu.exceptions import KombuError

from pixmill.core.errors import BrokerUnavailable
from pixmill.core.leases import Hint
from pixmill.engines.celery.app import QUEUE
from pixmill.engines.celery.tasks import DELIVER, TASK_OF

FAREWELL_SECONDS = 1.0
"""How long a connection that failed may take to close."""


class Messages:
    """Sends hints as Celery tasks, from one thread, by a connection of its own.

    Raises BrokerUnavailable; then the hint may have gone or not.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._connection = app.connection_for_write()  # connects when it is first used
        self._troubles = (
            KombuError,
            OSError,
            *self._connection.connection_errors,
            *self._connection.channel_errors,
        )

    def tell_of(self, hint: Hint) -> None:
        """Tell a worker of work."""
        numbered = (hint.number,) if hint.number else ()
        self._send(TASK_OF[hint.work], hint.request_id, *numbered)

    def tell_of_delivery(self, delivery_id: str) -> None:
        """Tell a worker of a webhook that is due."""
        self._send(DELIVER, delivery_id)

    def waiting(self) -> int:
        """How many messages wait for a worker."""
        with self._translated():
            queue = self._app.amqp.queues[QUEUE].bind(self._connection.default_channel)
            return int(queue.queue_declare().message_count)

    def close(self) -> None:
        """Let go of the connection, without a farewell that the broker would have to hear."""
        self._connection.collect(FAREWELL_SECONDS)

    def _send(self, task: str, *arguments: str | int) -> None:
        with self._translated():
            self._app.send_task(
                task, arguments, queue=QUEUE, ignore_result=True, connection=self._connection
            )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except self._troubles as error:
            # What it brings from now on may be the answer to what was sent before.
            self._connection.collect(FAREWELL_SECONDS)
            place = self._connection.as_uri()  # which hides the password
            raise BrokerUnavailable(
                f"The broker {place} cannot be used: {_said(error)}."
            ) from error


def _said(error: BaseException) -> str:
    """What went wrong, in one line of the broker's or the system's words."""
    root = error.__cause__ or error
    if isinstance(root, TimeoutError):  # of amqp's without a word
        return "it does not answer"
    if isinstance(root, OSError) and root.strerror:
        return root.strerror
    return str(root).partition("\n")[0].rstrip(".") or "it closed the connection"

"""The part of a Celery worker that takes messages, without what only tasks with an ETA need."""

from __future__ import annotations

import warnings
from contextlib import suppress
from typing import Any

from celery.exceptions import CPendingDeprecationWarning
from celery.worker import consumer

DELAYED_DELIVERY = "celery.worker.consumer.delayed_delivery:DelayedDelivery"
"""Makes some thirty queues and exchanges on RabbitMQ, to hold tasks until they are due.

Here the store knows what is due, and nothing is sent before.
"""


class Consumer(consumer.Consumer):  # type: ignore[misc]  # celery has no types
    """Celery's consumer, but for a step; named by the setting ``worker_consumer``."""

    class Blueprint(consumer.Consumer.Blueprint):  # type: ignore[misc]  # as above
        """The steps in which it starts."""

        default_steps = tuple(
            step for step in consumer.Consumer.Blueprint.default_steps if step != DELAYED_DELIVERY
        )

    connection_errors: tuple[type[Exception], ...]

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        # What kombu 5.7 raises for a message of a connection to Redis that it has let go. A task
        # that ends just when the next connection begins would end the worker by its farewell.
        self.connection_errors = (*self.connection_errors, AttributeError)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Let go of a connection that broke, so that another is made.

        kombu 5.7 stumbles when it closes one to Redis with messages unacknowledged: it would put
        them back by the very connection that is gone. Celery would end the worker for that.
        """
        with suppress(AttributeError), warnings.catch_warnings():
            # It advises to cancel tasks when the broker is lost; here they go on without it.
            warnings.simplefilter("ignore", CPendingDeprecationWarning)
            super().on_connection_error_after_connected(exc)

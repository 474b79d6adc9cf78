"""The Celery app: one queue of hints, and settings under which nothing hangs."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from celery import Celery
from kombu.entity import Queue

QUEUE = "pixmill"

AT_ONCE = 16
"""Tasks of a worker at once. Each is a thread that waits for its shard, so they cost little.

As many messages are taken from the queue, and no more: what a worker has no room for, others get.
"""

VISIBILITY_SECONDS = 3600
"""After this Redis sends a message again that nobody acknowledged: above what a shard takes.

It is not what brings back the work of the dead, which its lease does in half a minute.
"""

SOCKET_SECONDS = 10.0
"""How long a broker may be silent while it is talked to."""

ONE_TRY = {"max_retries": 1, "interval_start": 0.1, "interval_step": 0.1, "interval_max": 0.1}
"""How often a connection is tried for who sends, before it is told that there is none."""


def make_app(url: str, *, only_sends: bool = False) -> Celery:
    """The app for a broker's URL. Nothing is connected yet.

    One that ``only_sends`` waits for no answer of a broker for longer than ``SOCKET_SECONDS``.
    """
    app = Celery("pixmill", broker=url, set_as_current=False)
    app.conf.update(
        task_default_queue=QUEUE,
        task_queues=[_queue(url)],
        task_serializer="json",
        accept_content=["json"],
        # No results: what comes of work is in the store.
        result_backend=None,
        task_ignore_result=True,
        # A message is held until its work is over, so that the queue shows what is in hand.
        task_acks_late=True,
        task_reject_on_worker_lost=False,  # leases bring lost work back, and count how often
        worker_prefetch_multiplier=1,
        worker_pool="threads",  # pixels have processes of their own
        worker_concurrency=AT_ONCE,
        worker_consumer="pixmill.engines.celery.consumer:Consumer",
        worker_hijack_root_logger=False,
        worker_send_task_events=True,
        worker_soft_shutdown_timeout=0,  # what is in hand gets its grace at the first signal
        # What runs goes on without the broker; its message comes again, and finds it taken.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_prefetch_count_reduction=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=SOCKET_SECONDS,
        broker_transport_options=_transport_options(url, only_sends=only_sends),
        task_publish_retry=False,  # the publisher tries again, and tells of it meanwhile
    )
    return app


def _queue(url: str) -> Queue:
    """A durable classic queue on RabbitMQ.

    A quorum queue whose server is killed within seconds of its making may never find a leader
    again, which leaves the broker there and dumb; and it drops what was delivered too often.
    """
    classic = {"x-queue-type": "classic"} if _is_amqp(url) else None
    return Queue(QUEUE, queue_arguments=classic)  # type: ignore[no-untyped-call]  # kombu is typed in parts


def _transport_options(url: str, *, only_sends: bool) -> dict[str, Any]:
    if _is_amqp(url):
        # By itself it waits for ever for a broker that hangs; who consumes has heartbeats instead.
        limits = {"read_timeout": SOCKET_SECONDS, "write_timeout": SOCKET_SECONDS}
        return {"confirm_publish": True, **ONE_TRY, **(limits if only_sends else {})}
    return {
        **ONE_TRY,
        "visibility_timeout": VISIBILITY_SECONDS,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        "socket_timeout": SOCKET_SECONDS,
        "socket_connect_timeout": SOCKET_SECONDS,
        "socket_keepalive": True,
        "health_check_interval": 15,
    }


def _is_amqp(url: str) -> bool:
    """Whether a broker's URL names RabbitMQ."""
    return urlsplit(url).scheme in {"amqp", "amqps"}

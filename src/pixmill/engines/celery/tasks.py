"""The tasks: what a worker does when a message comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from celery import Celery

from pixmill.core.leases import Hint, Work

TASK_OF = {
    Work.INGEST: "ingest_csv",
    Work.SHARD: "process_shard",
    Work.FINISH: "finish_request",
    Work.PURGE: "purge_request",
}
"""The name of the task for each kind of work, as ``celery inspect`` and Flower show it."""

DELIVER = "deliver_webhook"


@dataclass(frozen=True, slots=True)
class Hands:
    """Who does what messages tell of: claims it, if it is still to be had, and does it.

    ``failure`` tells why nothing more can be done, if so.
    """

    take_work: Callable[[Hint], None]
    take_delivery: Callable[[str], None]
    failure: Callable[[], str | None]


def add_tasks(app: Celery, hands: Callable[[], Hands]) -> None:
    """Let the app's workers do what messages tell of."""
    for work, name in TASK_OF.items():
        app.task(_doing(work, hands), name=name)

    def deliver_webhook(delivery_id: str) -> None:
        hands().take_delivery(delivery_id)

    app.task(deliver_webhook, name=DELIVER)


def _doing(work: Work, hands: Callable[[], Hands]) -> Callable[..., None]:
    def do(request_id: str, number: int = 0) -> None:
        hands().take_work(Hint(work, request_id, number))

    return do

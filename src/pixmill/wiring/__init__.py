"""Floor 3: the only place that names concrete backends and puts the parts together."""

from pixmill.wiring.engines import celery_app, engine, local_engine, run_celery_worker
from pixmill.wiring.places import (
    clock,
    new_place,
    open_access,
    open_blobs,
    open_outbox,
    open_store,
    url_of,
    webhook_secrets,
)
from pixmill.wiring.workers import comparer, sheet_limits, worker

__all__ = [
    "celery_app",
    "clock",
    "comparer",
    "engine",
    "local_engine",
    "new_place",
    "open_access",
    "open_blobs",
    "open_outbox",
    "open_store",
    "run_celery_worker",
    "sheet_limits",
    "url_of",
    "webhook_secrets",
    "worker",
]

"""What a running service clears away now and then."""

from __future__ import annotations

import logging
import threading

from pixmill.core.errors import PixmillError
from pixmill.steps.retention import delete_expired
from pixmill.web.service import Service

log = logging.getLogger(__name__)

FIRST_SECONDS = 10.0
"""A start is busy enough without it."""
EVERY_SECONDS = 3600.0
IDLE_SECONDS = 3600.0
"""Files are written in seconds; what nobody has touched for this long was left by the dead."""


def keep_house(service: Service, closing: threading.Event) -> None:
    """Delete expired requests and the leftovers of killed processes, until the service closes."""
    wait = FIRST_SECONDS
    while not closing.wait(wait):
        wait = EVERY_SECONDS
        try:
            service.blobs.clean(idle_seconds=IDLE_SECONDS)
            delete_what_expired(service, closing)
        except PixmillError as error:  # the next hour may be better
            log.warning("cannot clear away what is old: %s", error)
        except Exception:  # a mistake of ours: it must not end the service
            log.exception("cannot clear away what is old")


def delete_what_expired(service: Service, closing: threading.Event) -> None:
    """Delete expired requests, one after the other, as long as the service is open."""
    settings = service.settings
    if not settings.retention_days:
        return
    for request in delete_expired(
        service.store,
        service.blobs,
        service.clock,
        days=settings.retention_days,
        lease_seconds=settings.lease_seconds,
    ):
        log.info("deleted %s: it was finished on %s", request.id, f"{request.finished_at:%Y-%m-%d}")
        if closing.is_set():
            return

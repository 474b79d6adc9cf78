"""``GET /health`` and ``/ready``: whether the service lives, and whether it can do its work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from fastapi import APIRouter
from starlette.requests import Request as Call
from starlette.responses import Response

from pixmill.core.errors import PixmillError
from pixmill.core.shards import PRIVATE
from pixmill.web.schemas import Health
from pixmill.web.service import Service, Services

log = logging.getLogger(__name__)

router = APIRouter(tags=["service"])

WRITE_SECONDS = 30.0
"""How long a file that could be written stands for the next ones: writing waits for the disk."""

PATIENCE_SECONDS = 5.0
"""How long storing a file may take before others than the one who waits for it are told."""

TRIED = f"{PRIVATE}/ready"
"""The file that is stored for it, always the same."""

OK = "ok"
UNUSABLE = "It cannot be used; the service's log tells more."


@router.head("/health", include_in_schema=False)  # load balancers ask like this
@router.get(
    "/health",
    operation_id="getHealth",
    summary="See whether the service lives",
    response_model_exclude_none=True,
)
async def get_health() -> Health:  # needs no thread, so it answers even if all of them are busy
    """The service lives and answers. Whether it can work is told by `/ready`."""
    return Health(status="ok", checks=None)


@router.head("/ready", include_in_schema=False)
@router.get(
    "/ready",
    operation_id="getReadiness",
    summary="See whether the service can work",
    response_model=Health,
    responses={
        200: {"description": "Everything works."},
        503: {"description": "Something does not work; `checks` tells what.", "model": Health},
    },
)
def get_readiness(call: Call, service: Services) -> Response:
    """Store, keys and files can be used, and open work finds a worker in good time."""
    state = call.app.state
    if not hasattr(state, "written"):
        state.written = _Written()
    store = _checked("store", lambda: _check_store(service))
    checks = {
        "store": store,
        # The keys are in it: a MongoDB that is away is waited for once.
        "access": store
        if store == UNUSABLE
        else _checked("access", lambda: _check_access(service)),
        "blobs": _checked("blobs", lambda: state.written.check(service)),
        "engine": _check_engine(getattr(state, "engine_failure", None)),
    }
    fine = all(found == OK for found in checks.values())
    health = Health(status="ok" if fine else "unavailable", checks=checks)
    return Response(
        health.model_dump_json(by_alias=True),
        status_code=200 if fine else 503,
        media_type="application/json",
    )


def _checked(name: str, check: Callable[[], str]) -> str:
    """What a check found. Paths and the like go to the log only."""
    try:
        return check()
    except PixmillError as error:
        log.warning("not ready: %s: %s", name, error.message)
        return UNUSABLE


def _check_store(service: Service) -> str:
    wait = service.store.longest_wait(now=service.clock())
    most = service.settings.ready_max_wait
    if wait > most:
        return f"Open work has waited for {wait:.0f} seconds; at most {most:.0f} are fine."
    return OK


def _check_access(service: Service) -> str:
    service.access.any_key()
    return OK


def _check_engine(failure: str | None) -> str:
    if failure:
        log.warning("not ready: engine: %s", failure)
        return "The workers cannot go on, or cannot be reached; the service's log tells more."
    return OK


class _Written:
    """Whether files can be stored, tried out now and then. All threads of the service share it.

    Only one of them tries at a time: on a disk that hangs, the others would hang with it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until = 0.0
        self._began: float | None = None
        self._failed = False

    def check(self, service: Service) -> str:
        """Store an empty file, unless that went well a moment ago. Raises StorageFailure."""
        if not self._lock.acquire(blocking=False):
            return self._meanwhile(service.clock())
        try:
            now = service.clock()
            if not 0 <= self._until - now <= WRITE_SECONDS:
                self._try(service, now)
                self._until = now + WRITE_SECONDS
        finally:
            self._lock.release()
        return OK

    def _try(self, service: Service, now: float) -> None:
        self._began = now
        try:
            service.blobs.put(TRIED, b"")
            self._failed = False
        except PixmillError:
            self._failed = True
            raise
        finally:
            self._began = None

    def _meanwhile(self, now: float) -> str:
        """What is known while another thread tries."""
        taken = now - (self._began or now)
        if taken > PATIENCE_SECONDS:
            return f"Storing a file has taken {taken:.0f} seconds so far."
        return "It could not be used a moment ago." if self._failed else OK

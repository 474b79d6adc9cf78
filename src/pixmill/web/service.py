"""What every call of the service works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from pixmill.ports import Access, Blobs, Clock, Outbox, Store
from pixmill.settings import Settings


@dataclass(frozen=True, slots=True)
class Service:
    """The ports of one service process, and its settings.

    ``wake`` is called when a call may have brought new work, once that is in the store.
    """

    settings: Settings
    store: Store
    access: Access
    outbox: Outbox
    blobs: Blobs
    clock: Clock
    wake: Callable[[], None] = lambda: None


async def service_of(request: Request) -> Service:
    """The service that answers a call. It only looks, so it needs no thread."""
    service: Service = request.app.state.service
    return service


Services = Annotated[Service, Depends(service_of)]
"""The parameter of an endpoint that works with the service."""

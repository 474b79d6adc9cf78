"""What every call of the service works with."""

from __future__ import annotations

from dataclasses import dataclass

from pixmill.ports import Access, Blobs, Clock, Store
from pixmill.settings import Settings


@dataclass(frozen=True, slots=True)
class Service:
    """The ports of one service process, and its settings."""

    settings: Settings
    store: Store
    access: Access
    blobs: Blobs
    clock: Clock

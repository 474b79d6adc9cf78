"""Floor 1: what the steps need of a store, of blobs, and of the floors where bytes move."""

from __future__ import annotations

from collections.abc import Callable

from pixmill.ports.access import Access
from pixmill.ports.blobs import BlobInfo, Blobs
from pixmill.ports.engine import Engine
from pixmill.ports.outbox import Outbox
from pixmill.ports.store import Census, Store, Totals
from pixmill.ports.workshop import Workshop

__all__ = [
    "Access",
    "BlobInfo",
    "Blobs",
    "Census",
    "Clock",
    "Engine",
    "Outbox",
    "Store",
    "Totals",
    "Workshop",
]

Clock = Callable[[], float]
"""Seconds since the epoch. Handed in, so that tests can move time."""

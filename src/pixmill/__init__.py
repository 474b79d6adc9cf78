"""pixmill: a CSV of product image URLs in; compressed, stored and served images out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pixmill.client.client import Client
    from pixmill.client.errors import ServiceRefused, ServiceUnreachable, StillRunning
    from pixmill.core.errors import PixmillError

__all__ = ["Client", "PixmillError", "ServiceRefused", "ServiceUnreachable", "StillRunning"]

_HOMES = {
    "Client": "pixmill.client.client",
    "PixmillError": "pixmill.core.errors",
    "ServiceRefused": "pixmill.client.errors",
    "ServiceUnreachable": "pixmill.client.errors",
    "StillRunning": "pixmill.client.errors",
}


def __getattr__(name: str) -> object:
    """Load what is asked for only then: a worker needs no HTTP client."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'pixmill' has no attribute {name!r}")

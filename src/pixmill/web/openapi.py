"""The contract as OpenAPI 3.1, complete: every status of every call with its body and headers."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi


def contract(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of the app."""
    return get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )

"""The HTTP service as an ASGI application: its calls, and what surrounds all of them."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import APIRouter, FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request as Call
from starlette.responses import JSONResponse

from pixmill.web import (
    deliveries,
    download,
    events,
    files,
    health,
    metrics,
    requests,
    results,
    status,
    upload,
    webhook,
)
from pixmill.web.body_cap import BodyCapMiddleware
from pixmill.web.handlers import IncidentsMiddleware, add_handlers
from pixmill.web.headers import ALLOWED, EXPOSED, HeadersMiddleware
from pixmill.web.openapi import contract
from pixmill.web.origins import cors_origins
from pixmill.web.service import Service

API = (files, upload, status, requests, events, results, download, webhook, deliveries)
"""The modules with the calls below ``/api``; what is called most is looked for first."""
OUTSIDE_API = (health, metrics)
"""The modules with the other calls."""

ROUTER = APIRouter()

SWITCH_INTERVAL = 0.0005
"""Seconds that a busy thread keeps the interpreter while others wait for it.

Validating an upload keeps one thread busy for seconds. A call gives the interpreter up, and waits
to have it back, at each step of SQLite: with Python's 5 ms a call took as long as the upload
(measured: 1.8 s); with this, 15 ms at the 95th percentile. The upload takes a fifth longer.
"""


def create_app(service: Service) -> FastAPI:
    """The service, ready to be served."""
    app = FastAPI(
        title="pixmill",
        version=version("pixmill"),
        openapi_url=None,  # served below, as we complete it
        docs_url=None,
        redoc_url=None,
        lifespan=_shared_fairly,
        redirect_slashes=False,  # a redirect would be made from a Host header that may lie
    )
    app.state.service = service
    app.state.keys_exist = False
    app.state.meters = metrics.Meters(service)
    app.include_router(ROUTER, prefix="/api")
    for module in API:
        app.include_router(module.router, prefix="/api")
    for module in OUTSIDE_API:
        app.include_router(module.router)
    add_handlers(app)
    _surround(app, service)
    return app


@asynccontextmanager
async def _shared_fairly(_app: FastAPI) -> AsyncIterator[None]:
    """Let no thread keep the interpreter for long while the service is up."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


def _surround(app: FastAPI, service: Service) -> None:
    """Put the middlewares around the calls, the innermost first."""
    settings = service.settings
    app.add_middleware(IncidentsMiddleware)
    app.add_middleware(BodyCapMiddleware, max_upload_size=settings.max_upload_size)
    if origins := cors_origins(settings):
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=ALLOWED,
            expose_headers=EXPOSED,
        )
    app.add_middleware(HeadersMiddleware)
    app.add_middleware(metrics.HttpMetrics, meters=app.state.meters)


@ROUTER.get("/openapi.json", include_in_schema=False)
def openapi(call: Call) -> JSONResponse:
    """The contract of these calls. It holds no secrets, so generators and viewers need no key."""
    state = call.app.state
    if not hasattr(state, "contract"):
        state.contract = contract(call.app)
    return JSONResponse(state.contract)

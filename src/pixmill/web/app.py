"""The HTTP service as an ASGI application: its calls, and what surrounds all of them."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import APIRouter, FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request as Call
from starlette.responses import JSONResponse

from pixmill.web import upload
from pixmill.web.access import Identified
from pixmill.web.body_cap import BodyCapMiddleware
from pixmill.web.handlers import IncidentsMiddleware, add_handlers
from pixmill.web.headers import EXPOSED, HeadersMiddleware
from pixmill.web.openapi import contract
from pixmill.web.origins import cors_origins
from pixmill.web.service import Service

API = (upload,)
"""The modules with the calls below ``/api``."""
OUTSIDE_API = ()
"""The modules with the other calls."""

ROUTER = APIRouter()


def create_app(service: Service) -> FastAPI:
    """The service, ready to be served."""
    app = FastAPI(
        title="pixmill",
        version=version("pixmill"),
        openapi_url=None,  # served below, to those who may call
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would be made from a Host header that may lie
    )
    app.state.service = service
    app.state.keys_exist = False
    app.include_router(ROUTER, prefix="/api")
    for module in API:
        app.include_router(module.router, prefix="/api")
    for module in OUTSIDE_API:
        app.include_router(module.router)
    add_handlers(app)
    _surround(app, service)
    return app


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
            allow_headers=["Authorization", "X-API-Key", "Idempotency-Key", "If-None-Match"],
            expose_headers=EXPOSED,
        )
    app.add_middleware(HeadersMiddleware, tls=settings.tls_cert is not None)


@ROUTER.get("/openapi.json", include_in_schema=False)
def openapi(call: Call, _caller: Identified) -> JSONResponse:
    """The contract of these calls."""
    state = call.app.state
    if not hasattr(state, "contract"):
        state.contract = contract(call.app)
    return JSONResponse(state.contract)

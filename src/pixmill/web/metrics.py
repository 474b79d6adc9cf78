"""``GET /metrics``: what there is to count, for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterator

from fastapi import APIRouter
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.requests import Request as Call
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pixmill.core.model import RequestStatus
from pixmill.web.access import Admin
from pixmill.web.problems import Code, documented
from pixmill.web.service import Service

router = APIRouter(tags=["service"])

_EXAMPLE = """\
# HELP pixmill_requests Requests by status.
# TYPE pixmill_requests gauge
pixmill_requests{status="COMPLETED"} 12.0
"""

METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "OPTIONS"})
"""Methods that are counted by name; a client can think of any number of others."""


@router.get(
    "/metrics",
    operation_id="getMetrics",
    summary="Get the metrics",
    response_class=PlainTextResponse,
    responses={
        200: {
            "description": "The metrics in Prometheus' text format.",
            "content": {"text/plain": {"schema": {"type": "string"}, "example": _EXAMPLE}},
        },
        **documented(Code.STORAGE_FAILURE),
    },
)
def get_metrics(call: Call, _caller: Admin) -> Response:
    """What the store holds and how the calls went, for Prometheus."""
    meters: Meters = call.app.state.meters
    return Response(generate_latest(meters.registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)


class Meters:
    """The metrics of one app. What the store knows is asked when they are collected."""

    def __init__(self, service: Service) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Census(service))
        self.calls = Counter(
            "pixmill_http_requests",
            "HTTP calls answered.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "pixmill_http_request_duration_seconds",
            "Seconds from a call to the end of its answer.",
            ["route"],
            registry=self.registry,
        )


class HttpMetrics:
    """Counts all calls and times them, by the template of their route: ids are no labels."""

    def __init__(self, app: ASGIApp, *, meters: Meters) -> None:
        self._app = app
        self._meters = meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a call on, and note its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500  # what the server answers if nothing else did
        started = time.perf_counter()

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        finally:
            method = scope["method"] if scope["method"] in METHODS else "other"
            route = _route(scope)
            self._meters.calls.labels(method, route, status).inc()
            self._meters.seconds.labels(route).observe(time.perf_counter() - started)


def _route(scope: Scope) -> str:
    """The template of the route that a call took."""
    template = getattr(scope.get("route"), "path", None)
    if template is None:
        return "none"
    return f"/api{template}" if scope["path"].startswith("/api/") else str(template)


class _Census:
    """Counts what the store holds, at the moment of collecting."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        """The metrics. Raises like Store."""
        census = self._service.store.census()
        now = self._service.clock()
        wait = self._service.store.longest_wait(now=now)
        age = self._service.store.oldest_work(now=now)
        requests = GaugeMetricFamily("pixmill_requests", "Requests by status.", labels=["status"])
        for status in RequestStatus:
            requests.add_metric([status], census.requests.get(status, 0))
        images = CounterMetricFamily(
            "pixmill_images",
            "Image references with an outcome, of all requests.",
            labels=["result"],
        )
        images.add_metric(["done"], census.processed_images)
        images.add_metric(["failed"], census.failed_images)
        yield requests
        yield images
        yield GaugeMetricFamily(
            "pixmill_images_in_progress",
            "Image references without an outcome, of requests that are not finished.",
            census.pending_images,
        )
        yield GaugeMetricFamily(
            "pixmill_oldest_wait_seconds",
            "Seconds for which the request served longest ago has waited for a worker.",
            wait,
        )
        yield GaugeMetricFamily(
            "pixmill_oldest_work_seconds",
            "Seconds for which the work that was offered first has been open.",
            age,
        )

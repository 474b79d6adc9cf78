"""Every call of the service with every kind of key: who is let in, and what others can learn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from pixmill.core.events import Webhook
from pixmill.core.model import Request
from pixmill.settings import Settings
from pixmill.web.app import create_app
from tests.web import life
from tests.web.messages import SECRET, message, signed
from tests.web.server import CSV, new_key, open_service, serving
from tests.web.test_upload import refused


@dataclass(frozen=True)
class Case:
    """How a call is made and what it needs.

    ``scope`` is None for calls that need no key. ``of`` is the state of the request that a call is
    about, if it is about one.
    """

    scope: str | None
    status: int
    of: str | None = None


CASES = {
    ("POST", "/api/upload"): Case("submit", 202),
    ("GET", "/api/status/{request_id}"): Case("read", 200, "finished"),
    ("GET", "/api/requests"): Case("read", 200),
    ("GET", "/api/requests/{request_id}/events"): Case("read", 200, "finished"),
    ("POST", "/api/requests/{request_id}/cancel"): Case("submit", 200, "pending"),
    ("POST", "/api/requests/{request_id}/retry"): Case("submit", 202, "to retry"),
    ("DELETE", "/api/requests/{request_id}"): Case("submit", 204, "to delete"),
    ("GET", "/api/results/{request_id}"): Case("read", 200, "finished"),
    ("GET", "/api/download/{request_id}"): Case("read", 200, "finished"),
    ("GET", "/api/download/{request_id}/images.zip"): Case("read", 200, "finished"),
    ("GET", "/api/files/{key:path}"): Case(None, 200, "finished"),
    ("HEAD", "/api/files/{key:path}"): Case(None, 200, "finished"),
    ("GET", "/api/requests/{request_id}/deliveries"): Case("read", 200, "finished"),
    ("POST", "/api/deliveries/{delivery_id}/replay"): Case("submit", 202, "finished"),
    ("POST", "/api/webhook"): Case(None, 204),
    ("GET", "/api/webhook/receipts"): Case("admin", 200),
    ("GET", "/api/openapi.json"): Case(None, 200),
    ("GET", "/health"): Case(None, 200),
    ("HEAD", "/health"): Case(None, 200),
    ("GET", "/ready"): Case(None, 200),
    ("HEAD", "/ready"): Case(None, 200),
    ("GET", "/metrics"): Case("admin", 200),
}
HOOK = Webhook("https://shop.example/hook")
LACKING = {"read": ("submit",), "submit": ("read",), "admin": ("read", "submit")}
"""All that a key may have that still is not enough."""


@dataclass(frozen=True)
class World:
    """A server with a client, keys and one request in each state, which belong to the first key."""

    client: httpx.Client
    own: dict[str, str]
    other: dict[str, str]
    revoked: dict[str, str]
    lacking: dict[str, dict[str, str]]
    requests: dict[str, Request]
    deliveries: dict[str, str]
    routes: set[tuple[str, str]]

    def call(
        self, call: tuple[str, str], headers: dict[str, str], request_id: str | None = None
    ) -> httpx.Response:
        """Make a call with these headers about this request, or else about the case's own."""
        method, path = call
        if state := CASES[call].of:
            name = request_id or self.requests[state].id
            path = path.replace("{request_id}", name)
            path = path.replace("{delivery_id}", self.delivery_of(name))
            path = path.replace("{key:path}", f"images/{name}/0000001.jpg")
        more: dict[str, Any] = {}
        if path == "/api/upload":
            more["files"] = {"csv": ("a.csv", CSV)}
        if path == "/api/webhook":
            more["content"] = message()
            headers = headers | signed(more["content"])
        return self.client.request(method, path, headers=headers, **more)

    def delivery_of(self, request_id: str) -> str:
        """The webhook of a request; for one that is not there, an id that is not there either."""
        return self.deliveries.get(request_id, f"msg_{request_id[4:]}")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("world"), public_url="/api/files", webhook_secret=SECRET
    )
    with open_service(settings) as service:
        own, other, revoked = (new_key(service, "admin") for _ in range(3))
        owner, _, dead = service.access.keys()
        service.access.revoke_key(dead.id, now=service.clock())
        requests = {
            state: life.finished(service, 3, failing={3}, owner=owner.id, webhook=HOOK)
            for state in ("finished", "to retry", "to delete")
        } | {"pending": life.submitted(service, owner=owner.id)}
        deliveries = {
            request.id: delivery.id
            for request in requests.values()
            for delivery in service.outbox.deliveries(request.id)
        }
        lacking = {scope: new_key(service, *scopes) for scope, scopes in LACKING.items()}
        app = create_app(service)
        routes = {
            (method, route.path or "")
            for route in iter_route_contexts(app.routes)
            for method in route.methods or ()
        }
        with serving(app) as url, httpx.Client(base_url=url, timeout=30) as client:
            yield World(client, own, other, revoked, lacking, requests, deliveries, routes)


def test_every_call_of_the_service_is_in_the_matrix(world: World) -> None:
    assert world.routes == set(CASES)


@pytest.mark.parametrize("call", CASES, ids="{0[0]} {0[1]}".format)
def test_each_call_lets_in_whom_it_should(world: World, call: tuple[str, str]) -> None:
    case = CASES[call]
    if case.scope is None:
        for headers in ({}, world.revoked, {"X-API-Key": "wrong"}, world.other):
            assert world.call(call, headers).status_code == case.status
        return
    bad = dict(world.own)
    bad["Authorization"] = bad["Authorization"][:-2] + "aa"
    for headers in ({}, bad, world.revoked):
        refused(world.call(call, headers), 401, "unauthenticated")
    refused(world.call(call, world.lacking[case.scope]), 403, "forbidden")
    if case.of:
        refused(world.call(call, world.other), 404, "not_found")
    else:
        answer = world.call(call, world.other)
        assert answer.status_code == case.status
        assert not any(request.id in answer.text for request in world.requests.values())
    answer = world.call(call, world.own)
    assert answer.status_code == case.status, answer.text


@pytest.mark.parametrize(
    "call",
    [call for call, case in CASES.items() if case.of and case.scope],
    ids="{0[0]} {0[1]}".format,
)
def test_anothers_request_looks_exactly_like_none(world: World, call: tuple[str, str]) -> None:
    theirs = world.requests["finished"].id
    unknown = theirs[:-1] + ("a" if theirs[-1] != "a" else "e")

    def looks(request_id: str) -> tuple[int, str, dict[str, str]]:
        answer = world.call(call, world.other, request_id)
        passing = {"date", "ratelimit-remaining", "ratelimit-reset"}
        headers = {name: text for name, text in answer.headers.items() if name not in passing}
        text = answer.text.replace(request_id, "ID").replace(world.delivery_of(request_id), "ID")
        return answer.status_code, text, headers

    assert looks(theirs) == looks(unknown)
    assert looks(theirs)[0] == 404

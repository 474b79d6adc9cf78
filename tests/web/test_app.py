"""The application as a whole: headers of every answer, what is not served, and incidents."""

from __future__ import annotations

import logging
import shutil
import sys

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from pixmill.core.errors import LeaseLost, StorageFailure, StoreUnavailable
from pixmill.web.service import Service
from tests.web import life
from tests.web.server import new_key, serving
from tests.web.test_upload import refused


def test_every_answer_carries_the_security_headers(client: httpx.Client, service: Service) -> None:
    picture = life.finished(service, 1)
    file = f"/api/files/images/{picture.id}/0000001.jpg"
    for path in ("/health", "/nothing", "/api/requests", "/api/status/x", file, "/metrics"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert headers["referrer-policy"] == "no-referrer"
        assert "strict-transport-security" not in headers
        shared = headers["cross-origin-resource-policy"] == "cross-origin"
        assert shared == (path == file)
        assert ("no-store" in headers["cache-control"]) == (path != file)


def test_browsers_are_told_to_stay_with_https(client: httpx.Client) -> None:
    """Behind TLS of our own or of a proxy that is trusted, as this machine is here."""
    headers = client.get("/health", headers={"X-Forwarded-Proto": "https"}).headers
    assert headers["strict-transport-security"].startswith("max-age=")


def test_nothing_is_served_that_was_not_meant_to_be(client: httpx.Client) -> None:
    for path in ("/docs", "/redoc", "/openapi.json", "/api", "/", "/api/requests/", "/api/upload/"):
        answer = client.get(path)
        refused(answer, 404, "not_found")


def test_a_method_that_is_not_allowed_is_told_which_are(client: httpx.Client) -> None:
    for method, path, allowed in (
        ("GET", "/api/upload", "POST"),
        ("PUT", "/api/requests", "GET"),
        ("GET", "/api/requests/x", "DELETE"),
        ("TRACE", "/health", "GET"),
    ):
        answer = client.request(method, path)
        refused(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == allowed


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("limit=0", "query parameter 'limit' is not valid: Input should be greater than or equal"),
        ("limit=x", "query parameter 'limit' is not valid: Input should be a valid integer"),
        ("status=DONE", "Input should be 'PENDING', 'PROCESSING', 'COMPLETED', 'FAILED' or"),
    ],
)
def test_a_wrong_parameter_is_named_with_what_it_may_be(
    client: httpx.Client, query: str, says: str
) -> None:
    assert says in refused(client.get(f"/api/requests?{query}"), 422, "invalid_call")


def breaking(app: FastAPI, error: Exception) -> None:
    """Let a call of the app raise this."""

    @app.get("/api/break")
    def broken() -> None:
        raise error


@pytest.mark.parametrize("error", [ZeroDivisionError("/secret/path"), LeaseLost("/secret/path")])
def test_what_nobody_expected_is_an_incident_in_the_log(
    app: FastAPI, client: httpx.Client, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    breaking(app, error)
    answer = client.get("/api/break")

    detail = refused(answer, 500, "internal_error")
    assert "secret" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    incident = detail.split()[-1].rstrip(".")
    assert f"incident {incident}" in caplog.text
    assert "/secret/path" in caplog.text
    assert client.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StoreUnavailable("/secret/path is locked."), "store_unavailable"),
        (StorageFailure("Cannot write /secret/path."), "storage_failure"),
    ],
)
def test_trouble_with_the_storage_does_not_tell_paths(
    app: FastAPI,
    client: httpx.Client,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    code: str,
) -> None:
    breaking(app, error)
    answer = client.get("/api/break")
    refused(answer, 503, code)
    assert "secret" not in answer.text
    assert ("retry-after" in answer.headers) == (code == "store_unavailable")
    assert "/secret/path" in caplog.text


def test_a_disk_that_takes_nothing_is_a_503(client: httpx.Client, service: Service) -> None:
    """The blobs' folder is a file, so that no sheet can be kept."""
    folder = service.settings.data_dir / ".pixmill"
    shutil.rmtree(folder, ignore_errors=True)
    folder.write_text("")
    answer = client.post("/api/upload", files={"csv": ("a.csv", life.sheet(1))})
    refused(answer, 503, "storage_failure")
    assert str(folder.parent) not in answer.text
    assert not sum(service.store.census().requests.values())


def test_a_path_cannot_forge_a_line_of_the_log(
    app: FastAPI, client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    @app.get("/api/break/{name}")
    def broken(name: str) -> None:
        raise ZeroDivisionError(name[:0])

    client.get("/api/break/x%0AERROR forged")
    assert "\nERROR forged" not in caplog.text.replace("\r", "\n")


def test_the_log_of_calls_learns_the_id_of_a_key(app: FastAPI, service: Service) -> None:
    seen = []

    class Watch:
        def __init__(self, inner: ASGIApp) -> None:
            self.inner = inner

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await self.inner(scope, receive, send)
            seen.append(scope.get("state", {}).get("key_id"))

    app.add_middleware(Watch)
    with serving(app) as url:
        httpx.get(f"{url}/api/requests", headers=new_key(service, "read"))
    assert service.access.keys()[0].id in seen


def test_a_busy_thread_does_not_keep_the_interpreter_while_the_service_is_up(
    client: httpx.Client,
) -> None:
    assert client.get("/health").status_code == 200
    assert sys.getswitchinterval() < 0.001


def test_the_log_of_refused_calls_is_quiet(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pixmill")
    client.get("/api/status/unknown")
    client.post("/api/upload", content=b"")
    assert not caplog.records

"""Access: who is let in with which key, who is not, and what strangers' pages can do."""

from __future__ import annotations

import logging
from pathlib import Path

import httpx
import pytest

from pixmill.core.access import NOBODY
from pixmill.settings import Settings
from pixmill.web.app import create_app
from pixmill.web.origins import FORWARDING
from pixmill.web.service import Service
from tests.web import life
from tests.web.server import CSV, new_key, open_service, serving
from tests.web.test_upload import refused

FREE = "/api/requests"


def own_origin(client: httpx.Client) -> str:
    return str(client.base_url).rstrip("/")


def test_without_any_key_calls_are_free(client: httpx.Client, service: Service) -> None:
    answer = client.post("/api/upload", files={"csv": ("a.csv", CSV)})
    assert answer.status_code == 202
    assert service.store.request(answer.json()["requestId"]).owner == NOBODY
    assert client.get(answer.headers["location"]).status_code == 200


def test_the_first_key_closes_the_door_at_once_and_takes_over(
    client: httpx.Client, service: Service
) -> None:
    request = life.submitted(service)
    assert client.get(f"/api/status/{request.id}").status_code == 200
    key = new_key(service, "read")

    refused(client.get(f"/api/status/{request.id}"), 401, "unauthenticated")
    assert client.get(f"/api/status/{request.id}", headers=key).status_code == 200


def test_the_door_stays_closed_when_all_keys_are_revoked(
    client: httpx.Client, service: Service
) -> None:
    new_key(service, "admin")
    service.access.revoke_key(service.access.keys()[0].id, now=service.clock())
    refused(client.get(FREE), 401, "unauthenticated")


def test_a_key_is_shown_as_bearer_or_in_a_header_of_its_own(
    client: httpx.Client, service: Service
) -> None:
    text = new_key(service, "read")["Authorization"].removeprefix("Bearer ")
    for headers in (
        {"Authorization": f"Bearer {text}"},
        {"authorization": f"bearer {text}"},
        {"X-API-Key": text},
        {"Authorization": "Basic cHJveHk6cHJveHk=", "X-API-Key": text},
    ):
        assert client.get(FREE, headers=headers).status_code == 200


def test_what_is_no_key_opens_nothing(client: httpx.Client, service: Service) -> None:
    text = new_key(service, "read")["Authorization"].removeprefix("Bearer ")
    _, key_id, secret = text.split("_")
    other = new_key(service, "read")["Authorization"].removeprefix("Bearer ").split("_")
    wrong = [
        "",
        "x",
        text[:-1],
        text + "a",
        text.upper(),
        f"pixmill_{key_id}_{other[2]}",
        f"pixmill_{other[1]}_{secret}",
        f"pixmill_{'a' * 13}_{secret}",
        key_id,
        secret,
        "a" * 10_000,
    ]
    for shown in wrong:
        answer = client.get(FREE, headers={"X-API-Key": shown})
        refused(answer, 401, "unauthenticated")
        assert answer.headers["www-authenticate"].startswith("Bearer")
        answer = client.get(FREE, headers={"Authorization": f"Bearer {shown}".strip()})
        refused(answer, 401, "unauthenticated")
    answer = client.get(FREE, headers={b"X-API-Key": b"\xff\xfe"})  # type: ignore[dict-item]  # bytes
    refused(answer, 401, "unauthenticated")


def test_a_refusal_says_which_scope_is_missing(client: httpx.Client, service: Service) -> None:
    key = new_key(service, "read")
    answer = client.post("/api/upload", files={"csv": ("a.csv", CSV)}, headers=key)
    assert "'submit'" in refused(answer, 403, "forbidden")


def test_another_keys_request_looks_like_none(client: httpx.Client, service: Service) -> None:
    owner, other = new_key(service, "admin"), new_key(service, "admin")
    answer = client.post("/api/upload", files={"csv": ("a.csv", CSV)}, headers=owner)
    theirs = answer.json()["requestId"]
    unknown = theirs[:-1] + ("a" if theirs[-1] != "a" else "e")

    foreign = client.get(f"/api/status/{theirs}", headers=other)
    none = client.get(f"/api/status/{unknown}", headers=other)
    assert foreign.status_code == none.status_code == 404
    assert foreign.text.replace(theirs, "x") == none.text.replace(unknown, "x")
    assert client.get(f"/api/status/{theirs}", headers=owner).status_code == 200


def test_idempotency_keys_of_different_owners_do_not_meet(
    client: httpx.Client, service: Service
) -> None:
    ids = set()
    for _ in range(2):
        headers = new_key(service, "submit") | {"Idempotency-Key": "same"}
        answer = client.post("/api/upload", files={"csv": ("a.csv", CSV)}, headers=headers)
        ids.add(answer.json()["requestId"])
    assert len(ids) == 2


def test_keys_are_never_logged(
    client: httpx.Client, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even when the call ends in an incident."""
    caplog.set_level(logging.DEBUG, "pixmill")
    text = new_key(service, "admin")["Authorization"].removeprefix("Bearer ")
    (service.settings.data_dir / ".pixmill").write_text("in the way")
    for shown in (text, text[:-1]):
        for headers in ({"X-API-Key": shown}, {"Authorization": f"Bearer {shown}"}):
            client.get(FREE, headers=headers)
            client.post("/api/upload", files={"csv": ("a.csv", CSV)}, headers=headers)
    assert caplog.records
    assert text.rpartition("_")[2][:-1] not in caplog.text


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost:1", "pixmill.localhost", "127.1.2.3", "[::1]:80", "mill.lan"]
)
def test_without_keys_this_machine_is_called_by_its_own_names(tmp_path: Path, host: str) -> None:
    settings = Settings(data_dir=tmp_path, host="mill.lan")
    with (
        open_service(settings) as service,
        serving(create_app(service)) as url,
        httpx.Client(base_url=url) as client,
    ):
        assert client.get(FREE, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil",
        "10.0.0.1",
        "",
        "[::2]",
        "a@[",
        "0",
    ],
)
def test_without_keys_a_rebound_name_reaches_nothing(client: httpx.Client, host: str) -> None:
    refused(client.get(FREE, headers={"Host": host}), 403, "foreign_origin")


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1", ""]
)
def test_without_keys_a_strangers_page_can_do_nothing(
    client: httpx.Client, service: Service, origin: str
) -> None:
    answer = client.post("/api/upload", files={"csv": ("a.csv", CSV)}, headers={"Origin": origin})
    refused(answer, 403, "foreign_origin")
    assert not sum(service.store.census().requests.values())


def test_without_keys_the_services_own_pages_may_call(client: httpx.Client) -> None:
    assert client.get(FREE, headers={"Origin": own_origin(client)}).status_code == 200


@pytest.mark.parametrize("origins", ["https://a.example, https://shop.example", "*"])
def test_pages_that_the_settings_name_may_call(tmp_path: Path, origins: str) -> None:
    settings = Settings(data_dir=tmp_path, cors_origins=origins)
    with (
        open_service(settings) as service,
        serving(create_app(service)) as url,
        httpx.Client(base_url=url) as client,
    ):
        headers = {"Origin": "https://shop.example"}
        answer = client.get(FREE, headers=headers)
        assert answer.status_code == 200
        allowed = answer.headers["access-control-allow-origin"]
        assert allowed == ("*" if origins == "*" else "https://shop.example")
        assert "Retry-After" in answer.headers["access-control-expose-headers"]
        assert "access-control-allow-credentials" not in answer.headers
        asks = {
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization, idempotency-key",
        }
        assert client.options("/api/upload", headers=headers | asks).status_code == 200
        if origins != "*":
            stranger = {"Origin": "https://evil.example"}
            assert client.options("/api/upload", headers=stranger | asks).status_code == 400
            refused(client.get(FREE, headers=stranger), 403, "foreign_origin")


def test_with_a_key_the_name_and_the_page_do_not_matter(
    client: httpx.Client, service: Service
) -> None:
    headers = new_key(service, "read") | {"Host": "mill.example", "Origin": "https://x.example"}
    answer = client.get(FREE, headers=headers)
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("name", FORWARDING)
def test_without_a_key_calls_that_were_passed_on_are_refused(
    client: httpx.Client, service: Service, name: str
) -> None:
    """A tunnel may rewrite the host, but says for whom it calls."""
    answer = client.get(FREE, headers={name: "203.0.113.9"})
    assert "proxy" in refused(answer, 403, "foreign_origin")
    key = new_key(service, "read")
    assert client.get(FREE, headers={name: "203.0.113.9"} | key).status_code == 200

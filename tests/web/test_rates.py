"""Rates: calls are counted per key and address, told of, and refused if there are too many."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from starlette.requests import Request as Call

from pixmill.settings import Settings
from pixmill.web.app import create_app
from pixmill.web.rates import address_of
from pixmill.web.service import Service
from tests.web import life
from tests.web.server import CSV, new_key, open_service, serving
from tests.web.test_upload import refused

FREE = "/api/requests"


class Hand:
    """A clock that is moved by hand."""

    now = 1_000_000 * 60.0 + 10

    def __call__(self) -> float:
        return self.now


@contextmanager
def limited(
    tmp_path: Path, *, key: int = 0, address: int = 0
) -> Iterator[tuple[Service, httpx.Client, Hand]]:
    """A service with these limits and a clock that is moved by hand."""
    settings = Settings(data_dir=tmp_path, rate_limit=key, rate_limit_per_address=address)
    hand = Hand()
    with open_service(settings) as opened:
        service = replace(opened, clock=hand)
        with serving(create_app(service)) as url, httpx.Client(base_url=url) as client:
            yield service, client, hand


def told(answer: httpx.Response) -> tuple[str, str, str]:
    """What an answer says about the rate."""
    return (
        answer.headers["ratelimit-limit"],
        answer.headers["ratelimit-remaining"],
        answer.headers["ratelimit-reset"],
    )


def test_an_address_may_call_so_often_in_a_minute(tmp_path: Path) -> None:
    with limited(tmp_path, address=3) as (_, client, hand):
        for left in ("2", "1", "0"):
            answer = client.get(FREE)
            assert answer.status_code == 200
            assert told(answer) == ("3", left, "50")
        answer = client.get(FREE)
        assert "50 seconds" in refused(answer, 429, "rate_limited")
        assert answer.headers["retry-after"] == "50"
        assert told(answer) == ("3", "0", "50")
        hand.now += 50
        assert told(client.get(FREE)) == ("3", "2", "60")


def test_a_key_may_call_so_often_and_others_do_not_suffer(tmp_path: Path) -> None:
    with limited(tmp_path, key=2, address=100) as (service, client, _):
        busy, calm = new_key(service, "read"), new_key(service, "read")
        for left in ("1", "0"):
            assert told(client.get(FREE, headers=busy)) == ("2", left, "50")
        assert client.get(FREE, headers=busy).status_code == 429
        assert client.get(FREE, headers=calm).status_code == 200


def test_the_tighter_limit_is_told_of(tmp_path: Path) -> None:
    with limited(tmp_path, key=100, address=5) as (service, client, _):
        assert told(client.get(FREE, headers=new_key(service, "read")))[:2] == ("5", "4")


def test_calls_with_a_wrong_key_count_for_their_address(tmp_path: Path) -> None:
    with limited(tmp_path, key=100, address=2) as (service, client, _):
        new_key(service, "read")
        for left in ("1", "0"):
            answer = client.get(FREE, headers={"X-API-Key": "wrong"})
            refused(answer, 401, "unauthenticated")
            assert told(answer)[1] == left
        refused(client.get(FREE, headers={"X-API-Key": "wrong"}), 429, "rate_limited")


def test_errors_of_counted_calls_tell_of_the_rate(tmp_path: Path) -> None:
    with limited(tmp_path, address=100) as (_, client, _hand):
        for answer in (
            client.get("/api/status/unknown"),
            client.get(f"{FREE}?limit=0"),
            client.post("/api/upload", content=b""),
            client.get(FREE, headers={"Host": "evil.example"}),
        ):
            assert answer.status_code in {403, 404, 415, 422}
            assert told(answer)[0] == "100"


def test_pictures_and_health_are_not_counted(tmp_path: Path) -> None:
    with limited(tmp_path, address=1) as (service, client, _):
        picture = life.finished(service, 1)
        for path in (f"/api/files/images/{picture.id}/0000001.jpg", "/health", "/ready"):
            for _ in range(3):
                answer = client.get(path)
                assert answer.status_code == 200, answer.text
                assert "ratelimit-limit" not in answer.headers


def test_without_limits_nothing_is_counted(tmp_path: Path) -> None:
    with limited(tmp_path) as (_, client, _hand):
        answer = client.post("/api/upload", files={"csv": ("a.csv", CSV)})
        assert answer.status_code == 202
        assert "ratelimit-limit" not in answer.headers


def test_several_servers_of_one_store_count_together(tmp_path: Path) -> None:
    with (
        limited(tmp_path, address=2) as (_, one, _hand),
        limited(tmp_path, address=2) as (_, two, _hand2),
    ):
        statuses = [client.get(FREE).status_code for client in (one, two, one, two)]
    assert statuses == [200, 200, 429, 429]


@pytest.mark.parametrize(
    ("client", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("", ""),
    ],
)
def test_an_ipv6_caller_counts_with_its_network(client: str, counted: str) -> None:
    assert address_of(Call({"type": "http", "client": (client, 1), "headers": []})) == counted

"""Progress as it happens: what a stream tells, when it ends, and what it costs others."""

from __future__ import annotations

import contextlib
import json
import re
import resource
import socket
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI

from pixmill.core.leases import Work
from pixmill.core.model import Request
from pixmill.web import events
from pixmill.web.service import Service
from tests.web.life import claimed, finish, finished, ingested, settle, submitted
from tests.web.server import new_key, serving
from tests.web.waiting import wait_until

Event = dict[str, str]


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look more often than usual, so that nobody has to wait."""
    monkeypatch.setattr(events, "POLL_SECONDS", 0.02)


class Stream:
    """An open stream: its answer, and its events one by one."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self.comments = 0
        self.retries: list[str] = []
        self._lines = answer.iter_lines()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        event: Event = {}
        for line in self._lines:
            if not line and "data" in event:
                return event
            if line.startswith(":"):
                self.comments += 1
            elif line.startswith("retry: "):
                self.retries.append(line)
            elif line:
                name, _, value = line.partition(": ")
                assert name not in event
                event[name] = value
        raise StopIteration


@contextlib.contextmanager
def watching(client: httpx.Client, request_id: str, last: str | None = None) -> Iterator[Stream]:
    """A stream that is open until the end of the block."""
    headers = {} if last is None else {"Last-Event-ID": last}
    with client.stream("GET", f"/api/requests/{request_id}/events", headers=headers) as answer:
        yield Stream(answer)


def through(service: Service) -> Request:
    """Complete the one shard that is at work elsewhere, and finish."""
    lease = claimed(service, Work.FINISH)
    finish(service, lease)
    return service.store.request(lease.request_id)


def test_a_stream_tells_every_change_and_ends_with_the_request(
    service: Service, client: httpx.Client
) -> None:
    request = ingested(service, 3)
    lease = claimed(service, Work.SHARD)
    with watching(client, request.id) as stream:
        headers = stream.answer.headers
        assert headers["content-type"].startswith("text/event-stream")
        assert headers["cache-control"] == "no-cache"
        assert headers["x-accel-buffering"] == "no"
        first = next(stream)
        assert first["event"] == "progress"
        assert json.loads(first["data"])["processedImages"] == 0
        settle(service, lease, count=1)
        second = next(stream)
        assert json.loads(second["data"])["processedImages"] == 1
        assert second["id"] != first["id"]
        settle(service, lease, failing=[3])
        service.store.complete_shard(lease, now=service.clock())
        through(service)
        *rest, last = stream
        assert all(event["event"] == "progress" for event in rest)
        assert last["event"] == "done"
        assert stream.retries == ["retry: 3000"]
    status = client.get(f"/api/status/{request.id}").json()
    told = json.loads(last["data"])
    assert told == {name: status[name] for name in told}
    assert set(told) == {
        *("requestId", "status", "processedImages", "failedImages", "totalImages"),
        *("completionPercentage", "updatedAt"),
    }
    assert (told["status"], told["failedImages"]) == ("COMPLETED", 1)


def test_nothing_is_told_twice(service: Service, client: httpx.Client) -> None:
    request = ingested(service, 3)
    lease = claimed(service, Work.SHARD)
    with watching(client, request.id) as stream:
        seen = next(stream)["id"]
    with watching(client, request.id, last=seen) as stream:
        settle(service, lease, count=1)
        assert json.loads(next(stream)["data"])["processedImages"] == 1


def test_who_comes_back_late_is_told_where_things_are(
    service: Service, client: httpx.Client
) -> None:
    request = ingested(service, 3)
    with watching(client, request.id) as stream:
        seen = next(stream)["id"]
    settle(service, claimed(service, Work.SHARD), count=2)
    for last in (seen, "something else", ""):
        with watching(client, request.id, last=last) as stream:
            assert json.loads(next(stream)["data"])["processedImages"] == 2


def test_a_finished_request_is_told_once_and_then_no_more(
    service: Service, client: httpx.Client
) -> None:
    """EventSource connects again whenever a stream ends, until it is answered 204."""
    request = finished(service)
    with watching(client, request.id) as stream:
        [told] = stream
        assert told["event"] == "done"
    answer = client.get(f"/api/requests/{request.id}/events", headers={"Last-Event-ID": told["id"]})
    assert (answer.status_code, answer.content) == (204, b"")


def test_a_retry_is_told_to_those_who_saw_the_first_end(
    service: Service, client: httpx.Client
) -> None:
    request = finished(service, 3, failing=[1])
    with watching(client, request.id) as stream:
        seen = next(stream)["id"]
    service.store.retry_failed(request.id, now=service.clock())
    with watching(client, request.id, last=seen) as stream:
        assert next(stream)["event"] == "progress"


@pytest.mark.parametrize("how", ["cancel", "delete"])
def test_a_stream_ends_when_its_request_does(
    service: Service, client: httpx.Client, how: str
) -> None:
    request = ingested(service)
    with watching(client, request.id) as stream:
        next(stream)
        if how == "cancel":
            service.store.cancel_request(request.id, now=service.clock())
            assert [event["event"] for event in stream] == ["done"]
        else:
            now = service.clock()
            service.store.delete_request(request.id, now=now, purge_at=now)
            assert list(stream) == []


def test_silence_is_filled_with_comments(
    service: Service, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.1)
    request = ingested(service)
    lease = claimed(service, Work.SHARD)
    with watching(client, request.id) as stream:
        next(stream)
        threading.Timer(0.5, settle, [service, lease], {"count": 1}).start()
        next(stream)
        assert stream.comments > 0


def test_a_stop_of_the_server_ends_all_streams(app: FastAPI, service: Service) -> None:
    """Otherwise each open page would hold the stop up until its grace is over."""
    request = ingested(service)
    app.state.closing = threading.Event()
    with (
        serving(app) as base_url,
        httpx.Client(base_url=base_url, timeout=30) as client,
        watching(client, request.id) as stream,
    ):
        next(stream)
        app.state.closing.set()
        assert list(stream) == []


def test_a_client_that_goes_away_ends_its_stream(service: Service, client: httpx.Client) -> None:
    request = ingested(service)
    with watching(client, request.id) as stream:
        next(stream)
        assert ended_streams(client) == 0
    wait_until(lambda: ended_streams(client) == 1)


def ended_streams(client: httpx.Client) -> int:
    """How many streams the server is through with, as its metrics count them."""
    route = re.escape('route="/api/requests/{request_id}/events"')
    counted = re.search(rf"_requests_total{{.*{route}.*}} (\d+)", client.get("/metrics").text)
    return int(counted[1]) if counted else 0


@pytest.fixture
def _many_sockets() -> Iterator[None]:
    """Room for both ends of a thousand connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("_many_sockets")
def test_a_thousand_streams_take_few_threads_and_let_others_through(
    service: Service, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections, not threads, are what an open page costs."""
    monkeypatch.setattr(events, "POLL_SECONDS", 0.5)
    request = ingested(service)
    address = ("127.0.0.1", urlsplit(str(client.base_url)).port or 0)
    question = f"GET /api/requests/{request.id}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    before = threading.active_count()
    with contextlib.ExitStack() as opened:
        streams = [opened.enter_context(socket.create_connection(address, 60)) for _ in range(1000)]
        for stream in streams:
            stream.sendall(question)
        for stream in streams:
            assert b"event: progress" in until(stream, b"event: progress")
        assert threading.active_count() - before <= 40 + events.READERS, "and 40 for all others"
        started = time.monotonic()
        assert client.get(f"/api/status/{request.id}").status_code == 200
        assert time.monotonic() - started < 20, "others still have their turn"
        service.store.cancel_request(request.id, now=service.clock())
        for stream in streams:
            assert b"event: done" in until(stream, b"event: done")


def until(stream: socket.socket, wanted: bytes) -> bytes:
    """Read on until something came."""
    got = b""
    while wanted not in got and (piece := stream.recv(65536)):
        got += piece
    return got


def test_an_unknown_request_has_no_stream(client: httpx.Client) -> None:
    answer = client.get("/api/requests/req_unknown/events")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_a_request_can_be_watched_from_its_very_beginning(
    service: Service, client: httpx.Client
) -> None:
    request = submitted(service)
    with watching(client, request.id) as stream:
        assert json.loads(next(stream)["data"])["status"] == "PENDING"


def test_a_stream_ends_soon_after_its_key_is_revoked(
    service: Service, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "CHECK_SECONDS", 0.1)
    key = new_key(service, "read")
    owner = service.access.keys()[0].id
    request = ingested(service, 1, owner=owner)
    with client.stream("GET", f"/api/requests/{request.id}/events", headers=key) as answer:
        stream = Stream(answer)
        assert next(stream)["event"] == "progress"
        service.access.revoke_key(owner, now=service.clock())
        assert list(stream) == []


def test_a_stream_without_a_key_ends_soon_after_the_first_key_is_made(
    service: Service, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "CHECK_SECONDS", 0.1)
    with watching(client, ingested(service, 1).id) as stream:
        assert next(stream)["event"] == "progress"
        new_key(service, "read")
        assert list(stream) == []

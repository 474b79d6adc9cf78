"""The servers of the tests themselves: killed and started again, and nothing left of them."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import pytest
import redis
from kombu import Connection
from kombu.simple import SimpleQueue

from tests.servers.rabbitmq import RabbitServer, rabbit_server
from tests.servers.redis import RedisServer, redis_server


def test_a_redis_that_was_killed_comes_back_empty_at_the_same_place() -> None:
    with redis_server() as server:
        server.start()
        with redis.Redis.from_url(server.url()) as client:
            client.set("key", "value")
        server.kill()
        server.start()
        with redis.Redis.from_url(server.url()) as client:
            assert client.keys() == []


def test_each_redis_database_is_empty(redis: RedisServer) -> None:
    urls = {_filled(redis.empty_database()) for _ in range(40)}
    assert len(urls) == 16


@pytest.mark.slow
def test_a_rabbitmq_that_was_killed_or_stopped_still_has_its_durable_messages() -> None:
    with rabbit_server() as server:
        server.start()
        with server.vhost() as url:
            for end in (server.kill, server.stop):
                _send(url, "durable")
                end()
                server.start()
                assert _receive(url) == "durable"


def test_each_rabbitmq_vhost_is_empty(rabbitmq: RabbitServer) -> None:
    with rabbitmq.vhost() as one, rabbitmq.vhost() as other:
        _send(one, "of one")
        with pytest.raises(SimpleQueue.Empty):
            _receive(other)
        assert _receive(one) == "of one"


def test_no_process_and_no_folder_is_left_of_a_server() -> None:
    for make in (redis_server, rabbit_server):
        with make() as server:
            server.start()
            assert _processes_of(server.folder)  # or this test sees nothing at all
        assert not server.folder.exists()
        _wait_until_none_is_left(server.folder)


def test_a_rabbitmq_starts_no_name_server_for_the_whole_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Erlang would, if it found none: when the tests are killed while the node starts."""
    monkeypatch.setattr(RabbitServer, "_start_name_server", lambda _server: None)
    with rabbit_server() as server, pytest.raises(AssertionError, match="ended by itself"):
        server.start()
    _wait_until_none_is_left(server.folder)


def _filled(url: str) -> str:
    with redis.Redis.from_url(url) as client:
        assert client.keys() == []
        client.set("key", "value")
    return url


def _send(url: str, text: str) -> None:
    confirmed = {"confirm_publish": True}
    with Connection(url, transport_options=confirmed) as broker, broker.SimpleQueue("q") as queue:
        queue.put(text, delivery_mode=2)


def _receive(url: str) -> object:
    with Connection(url) as broker, broker.SimpleQueue("q") as queue:
        message = queue.get(timeout=1)
        message.ack()
        return message.payload


def _wait_until_none_is_left(folder: Path) -> None:
    """Erlang's little helpers learn by a closed pipe that their node is gone."""
    give_up = time.monotonic() + 10
    while left := _processes_of(folder):
        assert time.monotonic() < give_up, left
        time.sleep(0.02)


def _processes_of(folder: Path) -> list[str]:
    """The processes that work in a folder, be it there or gone, or were told of it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile, or is somebody else's
            place = str((process / "cwd").readlink()).encode()
            if str(folder).encode() in place + (process / "environ").read_bytes():
                found.append((process / "comm").read_text().strip())
    return found

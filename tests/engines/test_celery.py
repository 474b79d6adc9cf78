"""The Celery engine: its messages, its workers, and what it does without its broker."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from redis import Redis

from pixmill.core.errors import BrokerUnavailable
from pixmill.core.leases import Hint, Work
from pixmill.engines.celery import CeleryEngine, Messages, Publisher, make_app, publisher
from pixmill.engines.celery.consumer import Consumer
from pixmill.stores.sqlite import SqliteOutbox, SqliteStore
from tests.contracts.letters import cancelled
from tests.contracts.records import NOW, a_request, ingested
from tests.fleet import fleet, wait_until
from tests.servers.rabbitmq import RabbitServer, rabbit_server
from tests.servers.redis import RedisServer, redis_server
from tests.service import environment
from tests.shop import open_shop, write_csv

QUEUE = "pixmill"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    """An empty store."""
    with closing(SqliteStore(tmp_path / "pixmill.db")) as made:
        yield made


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[SqliteOutbox]:
    """Its outbox."""
    with closing(SqliteOutbox(tmp_path / "pixmill.db")) as made:
        yield made


def test_a_message_carries_ids_and_nothing_else(redis_url: str) -> None:
    messages = Messages(make_app(redis_url, only_sends=True))
    for work in Work:
        messages.tell_of(Hint(work, "req_a", 7 if work is Work.SHARD else 0))
    messages.tell_of_delivery("msg_b")
    with closing(Redis.from_url(redis_url)) as client:
        for each in client.lrange(QUEUE, 0, -1):
            assert len(each) < 1000, "a hint is small"
        bodies = [json.loads(each)["headers"] for each in client.lrange(QUEUE, 0, -1)]
    assert {(head["task"], head["argsrepr"]) for head in bodies} == {
        ("finish_request", "('req_a',)"),
        ("ingest_csv", "('req_a',)"),
        ("purge_request", "('req_a',)"),
        ("process_shard", "('req_a', 7)"),
        ("deliver_webhook", "('msg_b',)"),
    }


@pytest.mark.parametrize("url", ["redis://:secret@127.0.0.1:1/0", "amqp://u:secret@127.0.0.1:1//"])
def test_a_broker_that_cannot_be_reached_is_told_of_at_once_and_without_its_password(
    url: str,
) -> None:
    messages = Messages(make_app(url, only_sends=True))
    for attempt in (messages.waiting, lambda: messages.tell_of_delivery("msg_a")):
        with pytest.raises(BrokerUnavailable, match="cannot be used") as refused:
            attempt()
        assert "secret" not in refused.value.message


@contextmanager
def publishing(store: SqliteStore, outbox: SqliteOutbox, url: str) -> Iterator[CeleryEngine]:
    """An engine that tells of what is in the store, until the end of the block."""
    made = Publisher(store, outbox, Messages(make_app(url, only_sends=True)), lambda: NOW)
    engine = CeleryEngine(made)
    engine.start()
    try:
        yield engine
    finally:
        engine.stop(10)
        assert "publisher" not in {thread.name for thread in threading.enumerate()}


def test_open_work_and_due_webhooks_are_told_of_once(
    store: SqliteStore, outbox: SqliteOutbox, redis_url: str
) -> None:
    ingested(store, urls=20)
    store.add_request(a_request("req_b"))
    cancelled(store, "req_c", url="http://hook.example/")
    with (
        publishing(store, outbox, redis_url) as engine,
        closing(Redis.from_url(redis_url)) as redis,
    ):
        wait_until(lambda: redis.llen(QUEUE) == 5, why="all is told of")
        for _ in range(5):
            engine.wake()
            time.sleep(0.05)
        assert redis.llen(QUEUE) == 5
        assert engine.look() is None


def test_what_is_told_while_the_broker_is_away_is_sent_when_it_is_back(
    store: SqliteStore, outbox: SqliteOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "LOOK_SECONDS", 0.1)
    with redis_server() as server, publishing(store, outbox, server.url()) as engine:
        wait_until(lambda: engine.look() is not None, why="the broker is missed")
        assert "cannot be used" in (engine.look() or "")
        store.add_request(a_request("req_a"))
        engine.wake()
        time.sleep(0.3)
        server.start()
        wait_until(lambda: engine.look() is None, why="the broker is found")
        with closing(Redis.from_url(server.url())) as redis:
            wait_until(lambda: redis.llen(QUEUE) == 1, why="it is told of")


def test_a_service_with_a_broker_has_no_workers_and_says_when_nobody_can_be_told(
    tmp_path: Path,
) -> None:
    with redis_server() as server:
        server.start()
        with fleet(tmp_path / "data", 0, engine=server.url()) as (service, _):
            assert service.get("/ready").status_code == 200
            assert "workers elsewhere" in service.said()
            server.kill()
            wait_until(lambda: service.get("/ready").status_code == 503, why="the broker is missed")
            checks = service.get("/ready").json()["checks"]
            assert checks["engine"] != "ok"
            assert checks["store"] == "ok"
            csv = write_csv(tmp_path / "products.csv", ["https://shop.example/1.jpg"])
            assert service.upload(csv).status_code == 202, "what is kept in the store is accepted"
            server.start()
            wait_until(lambda: service.get("/ready").status_code == 200, why="the broker is back")
        assert "Traceback" not in service.said()


def test_celerys_own_command_runs_a_worker_and_shows_what_it_does(
    tmp_path: Path, redis_url: str
) -> None:
    celery = ("-m", "celery", "-A", "pixmill.fleet")
    with (
        open_shop(delay=0.5) as shop,
        fleet(tmp_path / "data", 0, engine=redis_url, threads=4) as (service, made),
    ):
        made.command = (*celery, "worker")
        (worker,) = made.add()
        urls = [shop.url(f"{number}.jpg?{number}") for number in range(60)]
        request_id = service.accepted(write_csv(tmp_path / "products.csv", urls))
        wait_until(lambda: shop.served.total() > 4, why="work begins")
        active = inspected(made.env, "active")
        assert f"'process_shard', 'args': ['{request_id}', " in active
        registered = inspected(made.env, "registered")
        for name in ("ingest_csv", "process_shard", "finish_request", "deliver_webhook"):
            assert f"* {name}" in registered
        assert service.finished(request_id)["processedImages"] == 60
        worker.terminate()
        assert worker.wait(30) == 0
        assert "Traceback" not in made.said()


def inspected(env: Any, what: str) -> str:
    """What Celery's own command tells of the workers."""
    command = [sys.executable, "-m", "celery", "-A", "pixmill.fleet", "inspect", what]
    done = subprocess.run(
        command, env=dict(env), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_pool_in_which_pixels_cannot_be_handled_is_refused(
    tmp_path: Path, redis: RedisServer
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "pixmill.fleet", "worker", "--pool", "solo"],
        env=environment(tmp_path / "data", engine=redis.url()),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "leave out --pool" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_broker_that_hangs_keeps_no_work_from_being_done_and_no_worker_from_leaving(
    tmp_path: Path, rabbitmq: RabbitServer
) -> None:
    with (
        open_shop(delay=0.1) as shop,
        rabbitmq.vhost() as url,
        fleet(tmp_path / "data", 1, engine=url, grace_seconds=2) as (service, made),
    ):
        csv = write_csv(tmp_path / "first.csv", [shop.url("1.jpg")])
        service.finished(service.accepted(csv))  # all are connected
        rabbitmq.freeze()
        try:
            urls = [shop.url(f"{number}.jpg?frozen") for number in range(30)]
            request_id = service.accepted(write_csv(tmp_path / "second.csv", urls))
            assert service.finished(request_id)["processedImages"] == 30
            wait_until(lambda: service.get("/ready").status_code == 503, why="it is noticed")
            (worker,) = made.workers
            worker.terminate()
            assert worker.wait(30) == 0
            assert service.stop(timeout=30) == 0
        finally:
            rabbitmq.thaw()
        assert "without a farewell" in made.said()
        assert "Traceback" not in made.said() + service.said()


@pytest.mark.slow
@pytest.mark.parametrize("make", [redis_server, rabbit_server])
def test_workers_with_work_in_hand_outlive_a_broker_that_is_killed(
    tmp_path: Path, make: Callable[[], AbstractContextManager[RedisServer | RabbitServer]]
) -> None:
    images = 200
    with make() as server:
        server.start()
        with (
            open_shop(delay=0.3) as shop,
            fleet(tmp_path / "data", 2, engine=server.url(), threads=8) as (service, made),
        ):
            urls = [shop.url(f"{number}.jpg?{number}") for number in range(images)]
            request_id = service.accepted(write_csv(tmp_path / "products.csv", urls))
            wait_until(lambda: shop.served.total() > 20, why="work begins")
            server.kill()
            assert service.finished(request_id)["processedImages"] == images
            server.start()
            wait_until(lambda: service.get("/ready").status_code == 200, why="it is found again")
            assert [worker.poll() for worker in made.workers] == [None, None]
            assert "Traceback" not in made.said()
            assert set(shop.asked.values()) == {1}


def test_a_message_of_a_connection_that_is_gone_cannot_end_a_worker(redis_url: str) -> None:
    """Its task may end when the next connection has begun; then the message comes again."""
    app = make_app(redis_url)
    app.send_task("process_shard", ("req_a", 1), queue=QUEUE)
    consumer = Consumer(None, app=app, controller=SimpleNamespace(use_eventloop=False))
    connection = app.connection_for_read()
    message = app.amqp.queues[QUEUE].bind(connection.default_channel).get()
    # How kombu leaves a connection that broke, when the break comes at a bad moment.
    message.channel.qos._on_collect.cancel()  # or it would be put back when the tests end
    message.channel._disconnect_pools()
    connection._do_close_transport()
    message.ack_log_error(logging.getLogger(__name__), consumer.connection_errors)
    with closing(Redis.from_url(redis_url)) as redis:
        assert redis.hlen("unacked") == 1, "it comes again"


def test_one_ctrl_c_lets_a_worker_end_in_good_order_and_two_at_once(
    tmp_path: Path, redis_url: str
) -> None:
    with (
        open_shop(delay=20) as shop,
        fleet(tmp_path / "data", 2, engine=redis_url, grace_seconds=15) as (service, made),
    ):
        time.sleep(3)
        idle = made.workers[0]
        idle.send_signal(signal.SIGINT)
        assert idle.wait(30) == 0
        csv = write_csv(tmp_path / "products.csv", [shop.url("1.jpg")])
        service.accepted(csv)
        wait_until(lambda: bool(shop.asked), why="work begins")
        busy = made.workers[1]
        busy.send_signal(signal.SIGINT)
        time.sleep(1)
        assert busy.poll() is None, "what is in hand has its grace"
        busy.send_signal(signal.SIGINT)
        assert busy.wait(5) == 130


def test_celerys_own_command_says_what_is_missing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "pixmill.fleet", "inspect", "active"],
        env=environment(tmp_path / "data"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "set PIXMILL_ENGINE" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr

"""What stands beside a fleet has a bad day: each thing is done all the same, and once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from redis import Redis

from tests.faults.test_fleet_brokers import Broker
from tests.faults.yard import BROKERS, yard
from tests.fleet import wait_until
from tests.servers.breaking import breaking_proxy
from tests.servers.mongo import MongoServer
from tests.servers.s3 import S3Server, s3_environment
from tests.servers.troubles import HttpCall, Trouble, trouble_proxy

pytestmark = pytest.mark.slow

REPEATING = ("-m", "tests.faults.repeating")
ROOT = Path(__file__).parent.parent.parent


def handled(url: str) -> int:
    """How many messages Redis was given so far."""
    with Redis.from_url(url) as client:
        return int(client.info("commandstats").get("cmdstat_lpush", {"calls": 0})["calls"])


def test_every_message_comes_three_times_and_all_is_done_once(
    mongo_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = 400
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # where the program is
    before = handled(redis_url)
    with yard(
        tmp_path / "data", mongo_url, redis_url, workers=0, delay=0.02, program=REPEATING
    ) as made:
        made.fleet.command = (*REPEATING, "worker")
        made.fleet.add(2)
        requests = {made.submit(images, name): images for name in "abc"}
        made.check(requests)
        made.idle()
    assert set(made.shop.asked.values()) == {1}, "an image was fetched twice"
    shards = 3 * images // 16  # of 13 images each: at least so many messages, three times
    assert handled(redis_url) - before >= 3 * shards


@pytest.mark.parametrize("how", ["killed", "stepped down"])
def test_mongodb_goes_away_in_the_middle_and_nothing_is_lost(
    mongo: MongoServer, mongo_url: str, redis_url: str, tmp_path: Path, how: str
) -> None:
    images = 500
    with yard(tmp_path / "data", mongo_url, redis_url, delay=0.05) as made:
        request_id = made.submit(images)
        for time_ in range(3):
            made.wait_for(request_id, (time_ + 1) * images // 5)
            if how == "killed":
                mongo.kill()
                try:
                    time.sleep(1)
                finally:
                    mongo.start()
            else:
                mongo.step_down(2)
                mongo.wait_until_primary()
        made.check({request_id: images})


def test_s3_that_fails_a_third_of_its_calls_and_is_slow_costs_no_image(
    mongo_url: str, redis_url: str, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = 200
    with trouble_proxy(s3.port) as proxy:
        for name, value in s3_environment(proxy.endpoint).items():
            monkeypatch.setenv(name, value)
        blobs = f"s3://{s3.bucket()}/fleet"
        with yard(tmp_path / "data", mongo_url, redis_url, blobs=blobs) as made:
            proxy.delay = 0.02
            proxy.plan = _every_third_fails
            request_id = made.submit(images)
            made.check({request_id: images})
            assert sum(call.number % 3 == 0 for call in proxy.calls) > images / 4
            proxy.plan = lambda _call: Trouble.NONE
            stored = made.service.get(f"/api/download/{request_id}/images.zip")
            assert stored.status_code == 200


def _every_third_fails(call: HttpCall) -> Trouble:
    return Trouble.REFUSED if call.number % 3 == 0 else Trouble.NONE


@BROKERS
def test_the_connection_to_the_broker_breaks_at_each_call_in_turn(
    request: pytest.FixtureRequest, mongo_url: str, tmp_path: Path, broker: str
) -> None:
    """Whoever's call it is: that of the service, of a publisher, or of a consumer."""
    url: str = request.getfixturevalue(broker)
    server: Broker = request.getfixturevalue(broker.removesuffix("_url"))
    calls = 24
    with breaking_proxy(server.port) as proxy:
        engine = url.replace(f":{server.port}/", f":{proxy.port}/")
        with yard(tmp_path / "data", mongo_url, engine, workers=1) as made:
            requests = {}
            for call in range(calls):
                proxy.break_after = call
                request_id = made.submit(9, f"{call}")
                requests[request_id] = 9
                made.service.finished(request_id)
                wait_until(lambda: proxy.break_after is None, why="a connection was broken")
            made.check(requests)
            wait_until(lambda: made.service.get("/ready").status_code == 200)
    assert proxy.broken == calls

"""MongoDB is killed, steps down or hangs while outcomes are recorded: each counts once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import TypeVar

import pytest

from pixmill.core.errors import LeaseLost, StoreUnavailable
from pixmill.core.leases import Lease, Work
from pixmill.core.model import ImageStatus, RequestStatus
from pixmill.ports import Store
from pixmill.steps.recover import recover
from pixmill.stores.mongo import MongoStore
from tests.contracts.records import done, failed, ingested
from tests.servers.mongo import MongoServer, mongo_server

IMAGES = 2048  # in 32 shards
BATCH = 4
LEASE_SECONDS = 5.0
DEADLINE = 120.0

Result = TypeVar("Result")


@pytest.fixture
def server() -> Iterator[MongoServer]:
    """A server that may be ill-treated."""
    with mongo_server() as made:
        made.start()
        yield made


def kill(server: MongoServer) -> None:
    server.kill()
    server.start()


def step_down(server: MongoServer) -> None:
    server.step_down(1)
    server.wait_until_primary()


def hang(server: MongoServer) -> None:
    server.freeze()
    time.sleep(1.5)  # longer than the store waits for an answer
    server.thaw()


class Workers:
    """Threads that take images and record outcomes, as workers do, until a request is closed."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.recorded = 0
        self.closed = threading.Event()
        self._give_up = time.monotonic() + DEADLINE

    def work(self, name: str) -> None:
        """Do what there is to do."""
        while not self.closed.is_set():
            lease = self.insist(
                lambda: self.store.claim(name, now=time.time(), lease_seconds=LEASE_SECONDS)
            )
            if lease is None:
                self.insist(lambda: recover(self.store, time.time))
                time.sleep(0.05)
            else:
                with suppress(LeaseLost):  # somebody else goes on, or did what we do not know of
                    self._do(lease)

    def insist(self, call: Callable[[], Result]) -> Result:
        """Do something, again and again while the store is away."""
        while True:
            try:
                return call()
            except StoreUnavailable:
                assert time.monotonic() < self._give_up
                time.sleep(0.05)

    def _do(self, lease: Lease) -> None:
        if lease.work is Work.FINISH:
            self.insist(lambda: self.store.close_request(lease, now=time.time()))
            return
        images = self.insist(lambda: self.store.pending_images(lease))
        for first in range(0, len(images), BATCH):
            sequences = [image.sequence for image in images[first : first + BATCH]]
            made = [failed(each) if each % 10 == 0 else done(each) for each in sequences]
            lost = self.insist(
                lambda made=made: self.store.record_outcomes({lease: made}, now=time.time())
            )
            if lost:
                raise LeaseLost("it was taken back")
            self.recorded += len(made)
        self.insist(lambda: self.store.complete_shard(lease, now=time.time()))


@pytest.mark.parametrize("trouble", [kill, step_down, hang])
def test_every_outcome_counts_once_whatever_happens_to_the_server(
    server: MongoServer, trouble: Callable[[MongoServer], None]
) -> None:
    url = server.url() + "&socketTimeoutMS=1000&serverSelectionTimeoutMS=2000"
    with closing(MongoStore(url)) as store:
        ingested(store, urls=IMAGES)
        workers = Workers(store)
        with ThreadPoolExecutor(6) as pool:
            working = [pool.submit(workers.work, f"w{number}") for number in range(6)]
            try:
                for time_number in range(1, 4):
                    _wait_until(lambda n=time_number: workers.recorded > n * IMAGES / 5)
                    trouble(server)
                _wait_until(lambda: _is_closed(workers))
            finally:
                workers.closed.set()
            for each in working:
                each.result()
        request = store.request("req_a")
        failures = IMAGES // 10
        assert request.status is RequestStatus.COMPLETED
        assert (request.processed_images, request.failed_images) == (IMAGES - failures, failures)
        assert len(store.images("req_a", status=ImageStatus.FAILED)) == failures
        assert store.images("req_a", status=ImageStatus.PENDING) == []
        assert store.claim("w", now=time.time(), lease_seconds=1) is None


def test_counters_are_those_of_the_outcomes_also_before_the_close(server: MongoServer) -> None:
    """The close counts anew; so this looks at what was counted on the way."""
    with closing(MongoStore(server.url() + "&socketTimeoutMS=1000")) as store:
        ingested(store, urls=IMAGES)
        workers = Workers(store)
        leases = iter(lambda: store.claim("w", now=time.time(), lease_seconds=600), None)
        shards = list(leases)

        def record(shard: Lease) -> None:
            for sequence in range(shard.first, shard.last + 1, 2):
                pair = [done(sequence), done(sequence + 1)]
                workers.insist(lambda pair=pair: store.record_outcomes({shard: pair}, now=1.0))
                workers.recorded += 2

        with ThreadPoolExecutor(6) as pool:
            recording = [pool.submit(record, shard) for shard in shards]
            for time_number in range(1, 4):
                _wait_until(lambda n=time_number: workers.recorded > n * IMAGES / 5)
                kill(server)
            for each in recording:
                each.result()
        assert store.request("req_a").processed_images == IMAGES
        assert store.totals("req_a").images == IMAGES


LOST = {"writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}}
"""It is done, but the answer says that nobody knows."""

CUT = {"closeConnection": True}
"""It is not done, and there is no answer."""


@pytest.mark.parametrize("how", [LOST, CUT], ids=["lost", "cut"])
def test_a_commit_without_a_good_answer_is_repeated_and_counts_once(
    mongo: MongoServer, mongo_url: str, how: dict[str, object]
) -> None:
    with closing(MongoStore(mongo_url)) as store:
        ingested(store, urls=3)
        shard = store.claim("w", now=1.0, lease_seconds=60)
        assert shard
        with mongo.failing("commitTransaction", 5, how):
            assert store.record_outcomes({shard: [done(1), done(2), failed(3)]}, now=1.0) == set()
        with mongo.failing("commitTransaction", 5, how):
            store.complete_shard(shard, now=1.0)
        request = store.request("req_a")
        assert (request.processed_images, request.failed_images) == (2, 1)
        finish = store.claim("w", now=1.0, lease_seconds=60)
        assert finish
        assert finish.work is Work.FINISH


def _is_closed(workers: Workers) -> bool:
    return workers.insist(lambda: workers.store.request("req_a")).status.terminal


def _wait_until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)

"""However many claim, finish and record at once in MongoDB, each thing is done once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from pixmill.core.leases import Work
from pixmill.core.model import RequestStatus
from pixmill.stores.mongo import MongoStore
from tests.contracts.records import NOW, claimed, done, finishing, ingested

PROCESSES = 5
THREADS = 10

MANY = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from pixmill.core.errors import LeaseLost
from pixmill.core.leases import Hint, Lease, Work
from pixmill.stores.mongo import MongoStore

store = MongoStore(sys.argv[1])
store.census()

def claim_all(thread):
    claimed = []
    while lease := store.claim(f"{sys.argv[2]}.{thread}", now=1_800_000_001.0, lease_seconds=600):
        claimed.append([lease.request_id, lease.number])
    return claimed

def claim_told(hints):
    claimed = []
    for name, number in hints:
        hint = Hint(Work.SHARD, name, number)
        if lease := store.claim_hinted(hint, "w", now=1_800_000_001.0, lease_seconds=600):
            claimed.append([lease.request_id, lease.number])
    return claimed

def close(held):
    lease = Lease(**{**held, "work": Work(held["work"])})
    try:
        return [store.close_request(lease, now=1_800_000_002.0).status]
    except LeaseLost:
        return []

with ThreadPoolExecutor(int(sys.argv[3])) as pool:
    for line in sys.stdin:
        held = json.loads(line)
        threads = range(int(sys.argv[3]))
        do = claim_all if held is None else claim_told if isinstance(held, list) else close
        results = pool.map(lambda thread: do(thread if held is None else held), threads)
        print(json.dumps([each for found in results for each in found]), flush=True)
"""


class Crowd:
    """Processes with many threads each, which all do the same at once."""

    def __init__(self, url: str) -> None:
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-c", MANY, url, f"worker {number}", str(THREADS)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(PROCESSES)
        ]

    def all_at_once(self, what: dict[str, Any] | list[Any] | None) -> list[Any]:
        """Let all claim what is left, or what hints tell of, or close the request of a lease.

        Returns what they got.
        """
        for process in self._processes:
            assert process.stdin
            process.stdin.write(json.dumps(what) + "\n")
            process.stdin.flush()
        return [each for process in self._processes for each in json.loads(_answer(process))]

    def end(self) -> None:
        """Let them go."""
        for process in self._processes:
            process.kill()
            process.communicate()


def _answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline()


@contextmanager
def crowd(url: str) -> Iterator[Crowd]:
    """50 threads in 5 processes."""
    made = Crowd(url)
    try:
        yield made
    finally:
        made.end()


def test_50_claimers_at_once_never_share_one_of_1000_shards(mongo_url: str) -> None:
    names = [f"req_{number:02}" for number in range(32)]
    with closing(MongoStore(mongo_url)) as store, crowd(mongo_url) as claimers:
        for name in names:
            ingested(store, name, urls=1000)  # in 32 shards
        for round_number in range(10):
            found = sorted((name, number) for name, number in claimers.all_at_once(None))
            assert found == [(name, number) for name in names for number in range(1, 33)]
            for name in names:
                now = NOW + round_number
                store.cancel_request(name, now=now)
                assert store.retry_failed(name, now=now) == 1000


def test_50_who_are_told_of_the_same_shards_never_share_one(mongo_url: str) -> None:
    """As when a broker delivers each message fifty times."""
    names = [f"req_{number:02}" for number in range(5)]
    shards = [(name, number) for name in names for number in range(1, 33)]
    with closing(MongoStore(mongo_url)) as store, crowd(mongo_url) as claimers:
        for name in names:
            ingested(store, name, urls=1000)
        for round_number in range(2):
            assert sorted(map(tuple, claimers.all_at_once(shards))) == shards
            for name in names:
                store.cancel_request(name, now=NOW + round_number)
                store.retry_failed(name, now=NOW + round_number)


def test_of_50_finishers_at_once_one_finishes(mongo_url: str) -> None:
    with closing(MongoStore(mongo_url)) as store, crowd(mongo_url) as finishers:
        for number in range(100):
            name = f"req_{number:02}"
            ingested(store, name, urls=1)
            shard = claimed(store, Work.SHARD)
            store.record_outcomes({shard: [done(1)]}, now=NOW)
            lease = finishing(store, [shard])
            held = {each: getattr(lease, each) for each in lease.__slots__}
            assert finishers.all_at_once(held) == [RequestStatus.COMPLETED]
            assert store.request(name).processed_images == 1

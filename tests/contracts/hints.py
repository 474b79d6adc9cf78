"""Hints of work, and leases on what they name, for tests."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pixmill.core.leases import Hint, Lease, Work
from pixmill.ports import Store
from tests.contracts.records import NOW


def told(store: Store, *, now: float = NOW, told_before: float = NOW - 60) -> list[Hint]:
    """What workers are told of; what they were told of at NOW counts unless asked otherwise."""
    return store.take_hints(now=now, told_before=told_before)


def shards(request_id: str, first: int, last: int) -> list[Hint]:
    """Hints of shards, numbered from the first to the last."""
    return [Hint(Work.SHARD, request_id, number) for number in range(first, last + 1)]


def take(store: Store, hint: Hint, *, worker: str = "w1", now: float = NOW) -> Lease | None:
    """Claim what a hint names."""
    return store.claim_hinted(hint, worker, now=now, lease_seconds=30)


def taken(store: Store, hint: Hint, *, now: float = NOW) -> Lease:
    """The lease on what a hint names, which must be there to be had."""
    lease = take(store, hint, now=now)
    assert lease is not None
    return lease


def assert_each_once(ask: Callable[[int], list[list[str]]], expected: list[str]) -> None:
    """Let 8 do the same; in each round each thing must be given to exactly one of them."""
    with ThreadPoolExecutor(8) as pool:
        rounds = zip(*pool.map(ask, range(8)), strict=True)
        given = [sorted(each for found in answers for each in found) for answers in rounds]
    assert given == [expected] * len(given)

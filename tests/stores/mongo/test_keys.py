"""Keys on MongoDB: whoever makes requests while their owner is replaced loses none."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from pixmill.core.access import NOBODY, ApiKey, Scope
from pixmill.stores.mongo import MongoAccess, MongoStore
from tests.contracts.records import NOW, a_request


def a_key(name: str) -> ApiKey:
    """A key."""
    made = datetime.fromtimestamp(NOW, UTC)
    return ApiKey(name, name, frozenset({Scope.SUBMIT}), "ab" * 32, made)


@pytest.mark.parametrize("owner", [NOBODY, "anna"])
def test_requests_made_while_their_owner_is_replaced_belong_to_the_last_key(
    mongo_url: str, owner: str
) -> None:
    keys = ["anna", "bert", "cleo", "dora"]
    with closing(MongoStore(mongo_url)) as store, closing(MongoAccess(mongo_url)) as access:
        if owner:
            access.add_key(a_key("anna"))

        def submit(number: int) -> None:
            store.add_request(replace(a_request(f"req_{number}"), owner=owner))

        with ThreadPoolExecutor(4) as pool:
            submitted = [pool.submit(submit, number) for number in range(40)]
            if not owner:
                access.add_key(a_key("anna"))
            for old, new in pairwise(keys):
                access.add_key(a_key(new), old)
            for each in submitted:
                each.result()
        assert len(store.requests("dora")) == 40


def test_of_two_first_keys_at_once_one_takes_over_what_was_nobodys(mongo_url: str) -> None:
    with closing(MongoStore(mongo_url)) as store, closing(MongoAccess(mongo_url)) as access:
        store.add_request(a_request())
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(access.add_key, [a_key("anna"), a_key("bert")]))
        owned = [len(store.requests(name)) for name in ("anna", "bert", NOBODY)]
    assert sorted(owned) == [0, 0, 1]
    assert owned[2] == 0

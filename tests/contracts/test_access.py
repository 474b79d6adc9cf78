"""What every access must hold: API keys, and counts of calls."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pixmill.core.access import NOBODY, ApiKey, Scope, key_id_of
from pixmill.core.errors import AlreadyAccepted, NotFound
from pixmill.core.model import Accepted, Once
from pixmill.ports import Access, Store
from pixmill.steps.keys import create_key
from tests.contracts.records import NOW, a_request


def a_key(key_id: str = "anna", at: float = NOW) -> ApiKey:
    """A key as it is when it was just made."""
    return ApiKey(
        id=key_id,
        name="The shop's nightly job",
        scopes=frozenset({Scope.SUBMIT, Scope.READ}),
        digest="ab" * 32,
        created_at=datetime.fromtimestamp(at, UTC),
    )


class TestKeys:
    def test_a_key_comes_back_as_it_was_added(self, access: Access) -> None:
        access.add_key(a_key())
        assert access.key("anna") == a_key()
        assert access.key("bert") is None

    def test_keys_are_listed_oldest_first(self, access: Access) -> None:
        for key_id, at in [("anna", NOW + 2), ("bert", NOW), ("carl", NOW + 1)]:
            access.add_key(a_key(key_id, at))
        found = access.keys()
        assert [key.id for key in found] == ["bert", "carl", "anna"]

    def test_a_key_is_known_to_every_process_at_once(
        self, open_access: Callable[[], Access]
    ) -> None:
        one, other = open_access(), open_access()
        assert not other.any_key()
        one.add_key(a_key())
        assert other.any_key()
        assert other.key("anna") == a_key()

    def test_a_revoked_key_stays_revoked_since_the_first_time(self, access: Access) -> None:
        access.add_key(a_key())
        first = access.revoke_key("anna", now=NOW + 1)
        assert first.revoked_at == datetime.fromtimestamp(NOW + 1, UTC)
        assert access.revoke_key("anna", now=NOW + 2) == first
        assert access.key("anna") == first
        assert access.keys() == [first]

    def test_revoking_the_last_key_opens_nothing(self, access: Access) -> None:
        access.add_key(a_key())
        access.revoke_key("anna", now=NOW)
        assert access.any_key()

    def test_an_unknown_key_cannot_be_revoked(self, access: Access) -> None:
        with pytest.raises(NotFound, match="bert"):
            access.revoke_key("bert", now=NOW)

    def test_a_created_key_is_opened_by_its_text_until_it_is_revoked(self, access: Access) -> None:
        made, text = create_key(access, "job", [Scope.READ], lambda: NOW)
        assert key_id_of(text) == made.id
        stored = access.key(made.id)
        assert stored == made
        assert stored.opened_by(text)
        assert not stored.opened_by(text[:-1] + ("a" if text[-1] != "a" else "b"))
        assert not access.revoke_key(made.id, now=NOW).opened_by(text)


class TestAdoption:
    def test_the_first_key_takes_over_what_was_made_without_any(
        self, store: Store, access: Access
    ) -> None:
        once = Once("monday", "fingerprint", Accepted("req_a", 3, 3))
        store.add_request(a_request("req_a"), once)
        store.add_request(replace(a_request("req_b"), owner="somebody"))
        access.add_key(a_key())
        assert [request.id for request in store.requests("anna")] == ["req_a"]
        assert store.requests(NOBODY) == []
        assert store.accepted("anna", "monday", now=NOW) == once
        assert store.accepted("somebody", "monday", now=NOW) is None
        assert store.request("req_b").owner == "somebody"

    def test_later_keys_take_over_nothing(self, store: Store, access: Access) -> None:
        access.add_key(a_key())
        access.revoke_key("anna", now=NOW)
        store.add_request(a_request("req_a"))
        access.add_key(a_key("bert"))
        assert store.requests("bert") == []

    def test_what_is_accepted_while_the_first_key_is_made_belongs_to_it(
        self, store: Store, access: Access
    ) -> None:
        access.add_key(a_key("first", NOW))
        access.add_key(a_key("second", NOW + 1))
        once = Once("monday", "fingerprint", Accepted("req_a", 3, 3))
        store.add_request(a_request("req_a"), once)  # it began when there was none
        assert store.request("req_a").owner == "first"
        assert store.accepted("first", "monday", now=NOW) == once
        again = Once("monday", "fingerprint", Accepted("req_b", 3, 3))
        with pytest.raises(AlreadyAccepted):
            store.add_request(a_request("req_b"), again)
        assert store.accepted(NOBODY, "monday", now=NOW) == once


class TestReplacing:
    def test_the_new_key_has_all_that_was_the_old_ones_and_the_old_one_opens_nothing(
        self, store: Store, access: Access
    ) -> None:
        for key_id in ("anna", "bert"):
            access.add_key(a_key(key_id))
            once = Once("monday", "fingerprint", Accepted(f"req_{key_id}", 3, 3))
            store.add_request(replace(a_request(f"req_{key_id}"), owner=key_id), once)
        access.add_key(a_key("cleo", NOW + 5), "anna")
        assert [request.id for request in store.requests("cleo")] == ["req_anna"]
        assert [access.count_requests(owner) for owner in ("anna", "bert", "cleo")] == [0, 1, 1]
        assert store.accepted("cleo", "monday", now=NOW) is not None
        found = access.keys()
        revoked = [(key.id, key.revoked_at) for key in found]
        assert revoked == [
            ("anna", datetime.fromtimestamp(NOW + 5, UTC)),
            ("bert", None),
            ("cleo", None),
        ]

    def test_an_unknown_key_cannot_be_replaced_and_nothing_is_kept(self, access: Access) -> None:
        with pytest.raises(NotFound, match="anna"):
            access.add_key(a_key("bert"), "anna")
        assert access.keys() == []

    def test_a_revoked_key_hands_its_requests_over_and_stays_revoked_since_then(
        self, store: Store, access: Access
    ) -> None:
        access.add_key(a_key())
        store.add_request(replace(a_request("req_a"), owner="anna"))
        before = access.revoke_key("anna", now=NOW)
        assert access.count_requests("anna") == 1
        access.add_key(a_key("bert", NOW + 5), "anna")
        assert access.key("anna") == before
        assert store.request("req_a").owner == "bert"

    def test_what_is_accepted_while_a_key_is_replaced_belongs_to_the_last_one(
        self, store: Store, access: Access
    ) -> None:
        access.add_key(a_key())
        access.add_key(a_key("bert", NOW + 1), "anna")
        access.add_key(a_key("cleo", NOW + 2), "bert")
        for number, owner in enumerate((NOBODY, "anna", "bert", "cleo")):
            store.add_request(replace(a_request(f"req_{number}"), owner=owner))
            assert store.request(f"req_{number}").owner == "cleo"

    def test_deleted_requests_do_not_count(self, store: Store, access: Access) -> None:
        access.add_key(a_key())
        store.add_request(replace(a_request("req_a"), owner="anna"))
        store.delete_request("req_a", now=NOW, purge_at=NOW)
        assert access.count_requests("anna") == 0


class TestCalls:
    def test_each_caller_is_counted_for_itself(self, access: Access) -> None:
        assert access.count_calls(["anna", "10.0.0.1"], window=5) == [1, 1]
        assert access.count_calls(["bert", "10.0.0.1"], window=5) == [1, 2]
        assert access.count_calls([], window=5) == []

    def test_a_new_window_starts_at_one(self, access: Access) -> None:
        access.count_calls(["anna"], window=5)
        assert access.count_calls(["anna"], window=6) == [1]
        assert access.count_calls(["anna"], window=6) == [2]

    def test_counts_hold_over_all_processes(self, open_access: Callable[[], Access]) -> None:
        one, other = open_access(), open_access()
        counts = [opened.count_calls(["anna"], window=5) for opened in (one, other, one, other)]
        assert counts == [[1], [2], [3], [4]]

    def test_no_call_is_left_out_when_many_come_at_once(
        self, open_access: Callable[[], Access]
    ) -> None:
        opened = [open_access(), open_access()]
        assert [each.count_calls(["anna"], window=4) for each in opened] == [[1], [2]]

        def call(number: int) -> int:
            return opened[number % 2].count_calls(["anna"], window=5)[0]

        with ThreadPoolExecutor(8) as pool:
            counts = list(pool.map(call, range(200)))
        assert sorted(counts) == list(range(1, 201))

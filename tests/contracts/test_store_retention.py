"""Requests that were finished long ago are found, whoever owns them, until they are deleted."""

from __future__ import annotations

from dataclasses import replace

from pixmill.core.leases import Work
from pixmill.ports import Store
from tests.contracts.records import NOW, a_request, claimed


def finish(store: Store, request_id: str, moment: float, owner: str = "") -> None:
    store.add_request(replace(a_request(request_id), owner=owner))
    store.fail_request(claimed(store, Work.INGEST), "no", now=moment)


def test_the_oldest_come_first_and_what_is_not_finished_never(store: Store) -> None:
    finish(store, "req_b", NOW + 2, owner="somebody")
    finish(store, "req_a", NOW + 1)
    finish(store, "req_c", NOW + 3)
    store.add_request(a_request("req_d"))
    found = [request.id for request in store.finished_before(NOW + 3)]
    assert found == ["req_a", "req_b"]
    assert [request.id for request in store.finished_before(NOW + 9, limit=1)] == ["req_a"]
    assert store.finished_before(NOW + 1) == []


def test_what_is_deleted_or_reopened_is_not_found_again(store: Store) -> None:
    finish(store, "req_a", NOW)
    store.add_request(a_request("req_b"))
    store.cancel_request("req_b", now=NOW)
    assert len(store.finished_before(NOW + 9)) == 2
    store.delete_request("req_a", now=NOW, purge_at=NOW + 30)
    store.retry_failed("req_b", now=NOW + 1)
    assert store.finished_before(NOW + 9) == []

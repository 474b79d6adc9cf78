"""Cursors: they come back as they went, and anything else is told apart."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pixmill.web import cursors
from pixmill.web.problems import CallRefused, Code
from tests.contracts.records import a_request

MOMENT = datetime(2026, 11, 22, 6, 30, 41, 123457, tzinfo=UTC)


@pytest.mark.parametrize("sequence", [1, 100, 3_000_000])
def test_a_sequence_comes_back_as_it_was(sequence: int) -> None:
    assert cursors.sequence_of(cursors.after_sequence(sequence)) == sequence


@pytest.mark.parametrize("microseconds", [0, 1, 3, 999_999])
def test_the_time_of_a_request_comes_back_to_the_microsecond(microseconds: int) -> None:
    request = replace(a_request(), created_at=MOMENT + timedelta(microseconds=microseconds))
    found = cursors.request_of(cursors.before_request(request))
    assert found is not None
    assert (found.id, found.created_at) == (request.id, request.created_at)


def test_without_a_cursor_a_list_begins_at_its_beginning() -> None:
    assert cursors.sequence_of(None) == 0
    assert cursors.request_of(None) is None


BAD = [
    "",
    "x",
    "=",
    "n5",
    "bm8",
    "bjU=",
    "a" * 5000,
    "é",
    "bjU\n",
    "\0",
    "bi01",
    "bjExMTExMTExMTExMTExMTExMTExMTEx",
]


@pytest.mark.parametrize("cursor", BAD)
def test_what_is_no_cursor_is_refused_with_a_clear_word(cursor: str) -> None:
    for parse in (cursors.sequence_of, cursors.request_of):
        with pytest.raises(CallRefused, match="cursor") as refused:
            parse(cursor)
        assert refused.value.code is Code.INVALID_CALL


def test_the_cursor_of_another_list_is_refused() -> None:
    with pytest.raises(CallRefused):
        cursors.request_of(cursors.after_sequence(7))
    with pytest.raises(CallRefused):
        cursors.sequence_of(cursors.before_request(a_request()))


def test_a_forged_time_beyond_all_calendars_is_no_crash() -> None:
    forged = urlsafe_b64encode(b"t999999999999999999 req_a").decode().rstrip("=")
    found = cursors.request_of(forged)
    assert found is not None
    assert found.created_at.year == 9999

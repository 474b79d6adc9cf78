"""When another attempt is made, and after how long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixmill.core.errors import ImageError, ImageErrorCode
from pixmill.core.retry import MAX_ATTEMPTS, retry_delay, worth_retry

WAIT = 120.0


def trouble(*, retryable: bool = True, retry_after: float | None = None) -> ImageError:
    return ImageError(ImageErrorCode.TIMEOUT, "slow", retryable=retryable, retry_after=retry_after)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_passing_troubles_of_a_server_are_worth_a_retry(status: int) -> None:
    assert worth_retry(status)


@pytest.mark.parametrize("status", [200, 301, 304, 400, 401, 403, 404, 410, 418, 451, 600, 999])
def test_lasting_answers_are_not(status: int) -> None:
    assert not worth_retry(status)


def test_the_delay_begins_at_two_seconds_and_doubles() -> None:
    delays = [retry_delay(trouble(), attempt, 0.0, longest_wait=WAIT) for attempt in (1, 2)]
    assert delays == [2.0, 4.0]


def test_a_final_error_is_never_tried_again() -> None:
    assert retry_delay(trouble(retryable=False), 1, 0.5, longest_wait=WAIT) is None


def test_the_last_attempt_is_the_last() -> None:
    assert retry_delay(trouble(), MAX_ATTEMPTS, 0.5, longest_wait=WAIT) is None
    assert retry_delay(trouble(), MAX_ATTEMPTS - 1, 0.5, longest_wait=WAIT) is not None


def test_a_server_that_asks_for_too_long_a_wait_is_given_up() -> None:
    assert retry_delay(trouble(retry_after=WAIT), 1, 0.0, longest_wait=WAIT) == WAIT
    assert retry_delay(trouble(retry_after=WAIT + 1), 1, 0.0, longest_wait=WAIT) is None


@given(st.floats(0, 1, exclude_max=True), st.floats(0, WAIT), st.integers(1, MAX_ATTEMPTS - 1))
def test_jitter_only_lengthens_what_was_asked_for(
    jitter: float, retry_after: float, attempt: int
) -> None:
    delay = retry_delay(trouble(retry_after=retry_after), attempt, jitter, longest_wait=WAIT)
    assert delay is not None
    assert max(retry_after, 2.0 * 2 ** (attempt - 1)) <= delay <= max(retry_after, 8.0) + 2


@given(st.floats(0, 1, exclude_max=True), st.floats(0, 5))
def test_a_delay_of_our_own_stays_within_the_longest_wait(jitter: float, longest: float) -> None:
    delay = retry_delay(trouble(), 1, jitter, longest_wait=longest)
    assert delay is not None
    assert delay <= longest

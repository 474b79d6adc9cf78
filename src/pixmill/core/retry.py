"""When a failed image is worth another attempt, and how long to wait for it."""

from __future__ import annotations

from pixmill.core.errors import ImageError

MAX_ATTEMPTS = 3
"""How often an image is asked for at most, the first time included."""

FIRST_DELAY = 2.0
"""Seconds before the second attempt; every further one waits twice as long."""

# RFC 9110 section 15.5.9, RFC 8470 section 5.2, RFC 6585 section 4: refusals that pass with time.
_PASSING = frozenset({408, 425, 429})


def worth_retry(http_status: int) -> bool:
    """Whether a server that answered so may answer better later."""
    return http_status in _PASSING or 500 <= http_status <= 599


def retry_delay(
    error: ImageError, attempt: int, jitter: float, *, longest_wait: float
) -> float | None:
    """Seconds to wait after attempt number ``attempt`` (from 1) failed; None to give up.

    ``jitter`` is a random number in [0, 1) that keeps many images from coming back at once. What
    the server asked for with ``Retry-After`` is the least that is waited; more than
    ``longest_wait`` seconds of it means giving up.
    """
    if not error.retryable or attempt >= MAX_ATTEMPTS:
        return None
    delay = FIRST_DELAY * 2.0 ** (attempt - 1) * (1 + jitter)
    if error.retry_after is None:
        return min(delay, longest_wait)
    if error.retry_after > longest_wait:
        return None
    return max(delay, error.retry_after + FIRST_DELAY * jitter)

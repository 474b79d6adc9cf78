"""The loop waits for what happens, and never longer than it was told."""

from __future__ import annotations

import threading

import pytest

from pixmill.io.loop import Loop


@pytest.mark.parametrize("seconds", [0.0, -0.001, -5.0])
def test_a_time_that_has_passed_is_not_waited_for(seconds: float) -> None:
    loop = Loop()
    waiting = threading.Thread(target=loop.wait, args=(seconds,), daemon=True)
    waiting.start()
    waiting.join(5)
    ended = not waiting.is_alive()
    loop.wake()
    waiting.join()
    loop.close()
    assert ended

"""The gate: many together, or one alone."""

from __future__ import annotations

import threading

from pixmill.steps.gate import Gate


def test_one_that_is_alone_waits_for_all_others_and_keeps_newcomers_out() -> None:
    gate = Gate()
    log: list[str] = []
    alone_inside, leave = threading.Event(), threading.Event()

    def go_alone() -> None:
        with gate.entered(alone=True):
            log.append("alone in")
            alone_inside.set()
            assert leave.wait(10)
            log.append("alone out")

    def go_along() -> None:
        with gate.entered(alone=False):
            log.append("newcomer in")

    with gate.entered(alone=False):
        alone = threading.Thread(target=go_alone)
        alone.start()
        while not gate.reserved:
            pass
        newcomer = threading.Thread(target=go_along)
        newcomer.start()
        assert not alone_inside.wait(0.1)
        log.append("first out")
    assert alone_inside.wait(10)
    leave.set()
    alone.join(10)
    newcomer.join(10)
    assert log == ["first out", "alone in", "alone out", "newcomer in"]
    assert not gate.reserved


def test_many_may_be_inside_together() -> None:
    gate = Gate()
    with gate.entered(alone=False) as first, gate.entered(alone=False) as second:
        assert first
        assert second


def test_a_closed_gate_lets_go_of_who_waits() -> None:
    gate = Gate()
    admitted: list[bool] = []

    def wait() -> None:
        with gate.entered(alone=True) as inside:
            admitted.append(inside)

    with gate.entered(alone=False):
        thread = threading.Thread(target=wait)
        thread.start()
        gate.close()
        thread.join(10)
    assert admitted == [False]

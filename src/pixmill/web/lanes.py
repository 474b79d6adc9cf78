"""Threads for work that would take too many of those in which calls are answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import anyio
from anyio import CancelScope, CapacityLimiter, to_thread
from anyio.lowlevel import RunVar
from starlette.requests import Request as Call

from pixmill.web.handlers import RETRY_AFTER
from pixmill.web.problems import CallRefused, Code

T = TypeVar("T")


@dataclass
class _Queue:
    """Who is in a lane, of one event loop."""

    limiter: CapacityLimiter
    inside: int = 0


class Lane:
    """So many threads for one kind of work; who waits for one of them holds none."""

    def __init__(self, name: str, threads: int, *, most_waiting: int | None = None) -> None:
        self._queue: RunVar[_Queue] = RunVar(f"pixmill_{name}")
        self._threads = threads
        self._most = None if most_waiting is None else threads + most_waiting

    async def run(self, work: Callable[[], T]) -> T:
        """Do some work in a thread. Raises CallRefused if too many wait already."""
        queue = self._of_this_loop()
        if self._most is not None and queue.inside >= self._most:
            raise CallRefused(
                Code.BUSY,
                f"{queue.inside} calls wait for such work already. Try again in"
                f" {RETRY_AFTER} seconds.",
                headers={"Retry-After": str(RETRY_AFTER)},
            )
        queue.inside += 1
        try:
            return await to_thread.run_sync(work, limiter=queue.limiter)
        finally:
            queue.inside -= 1

    async def run_for(self, call: Call, work: Callable[[], T]) -> T:
        """Do some work in a thread, unless the caller leaves before it begins."""
        results: list[T] = []
        failures: list[Exception] = []
        async with anyio.create_task_group() as group:
            group.start_soon(_cancel_when_left, call, group.cancel_scope)
            try:
                results.append(await self.run(work))
            except Exception as error:  # raised below, not in a group
                failures.append(error)
            group.cancel_scope.cancel()
        if failures:
            raise failures[0]
        if not results:
            raise CallRefused(Code.BUSY, "The caller left before it was their turn.")
        return results[0]

    def _of_this_loop(self) -> _Queue:
        try:
            return self._queue.get()
        except LookupError:
            queue = _Queue(CapacityLimiter(self._threads))
            self._queue.set(queue)
            return queue


async def _cancel_when_left(call: Call, scope: CancelScope) -> None:
    while (await call.receive())["type"] != "http.disconnect":
        pass
    scope.cancel()

"""Which image may be fetched now: fair among hosts, gentle with those that are overloaded.

Time is passed in as seconds of any steady clock. The caller serialises the calls.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Host(Generic[T]):
    """What is known of one host.

    ``later`` counts the items that wait for their time. ``deaf_for`` counts the requests that were
    already in flight when the limit last shrank: their answers are about the old limit.
    ``patience`` is how many more seconds ``Retry-After`` may hold this host's items up.
    """

    limit: int
    patience: float
    ready: deque[T] = field(default_factory=deque)
    later: int = 0
    running: int = 0
    successes: int = 0
    deaf_for: int = 0
    paused_until: float = 0.0
    in_rotation: bool = False

    @property
    def open(self) -> bool:
        """Whether an item could be taken, its host not being paused."""
        return bool(self.ready) and self.running < self.limit

    @property
    def idle(self) -> bool:
        return not (self.ready or self.later or self.running)


class Schedule(Generic[T]):
    """The items a worker has open, and which of them may be fetched when.

    At most ``host_limit`` items of one host run at once, fewer while the host says that it is
    overloaded. Hosts take turns. ``longest_pause`` bounds the seconds for which ``Retry-After`` may
    hold a host's items up without a success in between, so that a host that is down for good does
    not keep a request open for days.
    """

    def __init__(self, host_limit: int, *, longest_pause: float = 120.0) -> None:
        self._host_limit = host_limit
        self._longest_pause = longest_pause
        self._hosts: dict[str, _Host[T]] = {}
        # Hosts with an item to take. One that has closed since it was put here is skipped.
        self._rotation: deque[str] = deque()
        self._later: list[tuple[float, int, str, T]] = []  # heap: when, tie-break, host, item
        self._pauses: list[tuple[float, str]] = []  # heap: when, host
        self._order = count()
        self._waiting = 0

    def __len__(self) -> int:
        """How many items wait to be taken."""
        return self._waiting

    def add(self, item: T, host: str, ready_at: float = 0.0) -> None:
        """Put an item in line at ``host``; it is not taken before ``ready_at``."""
        state = self._hosts.get(host)
        if state is None:
            state = self._hosts[host] = _Host(self._host_limit, self._longest_pause)
        self._waiting += 1
        if ready_at > 0:
            state.later += 1
            heappush(self._later, (ready_at, next(self._order), host, item))
        else:
            state.ready.append(item)
            self._rotate(host, state)

    def take(self, now: float) -> T | None:
        """The next item whose host has room and whose time has come; None if there is none.

        Whoever takes an item calls ``finish`` for its host exactly once.
        """
        self._catch_up(now)
        while self._rotation:
            host = self._rotation.popleft()
            state = self._hosts[host]
            state.in_rotation = False
            if not state.open or state.paused_until > now:
                continue
            item = state.ready.popleft()
            state.running += 1
            self._waiting -= 1
            self._rotate(host, state)
            return item
        return None

    def next_ready(self, now: float) -> float | None:
        """Seconds until time alone may make an item takeable; 0 if one is takeable already.

        None if only ``add`` or ``finish`` can change anything.
        """
        self._catch_up(now)
        if any(self._takeable(host, now) for host in self._rotation):
            return 0.0
        if not self._waiting:
            return None
        wake_times = [heap[0][0] for heap in (self._later, self._pauses) if heap]
        return min(wake_times) - now if wake_times else None

    def finish(
        self, host: str, *, overloaded: bool, now: float, retry_after: float | None = None
    ) -> None:
        """Give back the room of one taken item.

        ``overloaded`` (429 or 503) halves the host's limit, at most once for the requests that are
        in flight together, as TCP does with a window; as many successes as the limit widen it by
        one again. ``retry_after`` pauses the host.
        """
        state = self._hosts[host]
        state.running -= 1
        of_an_older_round = state.deaf_for > 0
        if of_an_older_round:
            state.deaf_for -= 1
        if overloaded:
            self._pause(host, state, now, retry_after or 0.0)
        else:
            state.patience = self._longest_pause
        if not of_an_older_round:
            self._resize(state, overloaded=overloaded)
        self._settle(host, state, now)

    def drain(self) -> list[T]:
        """Take back every item that has not been taken."""
        items = [item for state in self._hosts.values() for item in state.ready]
        items += [item for _, _, _, item in sorted(self._later)]
        self._later.clear()
        self._pauses.clear()
        self._rotation.clear()
        self._waiting = 0
        self._hosts = {host: state for host, state in self._hosts.items() if state.running}
        for state in self._hosts.values():
            state.ready.clear()
            state.later = 0
            state.in_rotation = False
            state.paused_until = 0.0
        return items

    def _catch_up(self, now: float) -> None:
        """Act on everything whose time has come."""
        while self._later and self._later[0][0] <= now:
            _, _, host, item = heappop(self._later)
            state = self._hosts[host]
            state.later -= 1
            state.ready.append(item)
            self._rotate(host, state)
        for host in self._ended_pauses(now):
            if (paused := self._hosts.get(host)) is not None:
                self._settle(host, paused, now)

    def _ended_pauses(self, now: float) -> Iterator[str]:
        while self._pauses and self._pauses[0][0] <= now:
            yield heappop(self._pauses)[1]

    def _pause(self, host: str, state: _Host[T], now: float, seconds: float) -> None:
        """Lengthen the host's pause as far as its patience goes."""
        longer = min(now + seconds - max(state.paused_until, now), state.patience)
        if longer > 0:
            state.patience -= longer
            state.paused_until = max(state.paused_until, now) + longer
            heappush(self._pauses, (state.paused_until, host))

    def _resize(self, state: _Host[T], *, overloaded: bool) -> None:
        if overloaded:
            state.limit = max(1, state.limit // 2)
            state.deaf_for = state.running
            state.successes = 0
            return
        state.successes += 1
        if state.successes >= state.limit:
            state.limit = min(self._host_limit, state.limit + 1)
            state.successes = 0

    def _settle(self, host: str, state: _Host[T], now: float) -> None:
        """Put the host in line if it has room, forget it if nothing is left to know."""
        if state.idle and state.paused_until <= now:
            del self._hosts[host]
        else:
            self._rotate(host, state)

    def _rotate(self, host: str, state: _Host[T]) -> None:
        if state.open and not state.in_rotation:
            state.in_rotation = True
            self._rotation.append(host)

    def _takeable(self, host: str, now: float) -> bool:
        state = self._hosts[host]
        return state.open and state.paused_until <= now

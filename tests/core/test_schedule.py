"""The schedule: limits per host, fairness, shrinking and recovering, nothing lost or doubled."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pixmill.core.schedule import Schedule


def filled(host_limit: int, **hosts: int) -> Schedule[str]:
    """A schedule with so many items per host, named ``a0 a1 …`` after their host."""
    schedule: Schedule[str] = Schedule(host_limit)
    for host, items in hosts.items():
        for number in range(items):
            schedule.add(f"{host}{number}", host)
    return schedule


def take_all(schedule: Schedule[str], now: float = 0.0) -> list[str]:
    taken = []
    while (item := schedule.take(now)) is not None:
        taken.append(item)
    return taken


def room_of(schedule: Schedule[str], host: str, now: float) -> int:
    """How many items of an otherwise idle host run at once; all are finished again."""
    for number in range(100):
        schedule.add(f"probe{number}", host)
    room = len(take_all(schedule, now))
    schedule.drain()
    for _ in range(room):
        schedule.finish(host, overloaded=False, now=now)
    return room


def test_hosts_take_turns() -> None:
    schedule = filled(10, a=4, b=2, c=1)
    assert take_all(schedule) == ["a0", "b0", "c0", "a1", "b1", "a2", "a3"]


def test_a_host_gets_no_more_than_its_limit_and_holds_up_no_other() -> None:
    schedule = filled(2, a=100, b=3)
    assert sorted(take_all(schedule)) == ["a0", "a1", "b0", "b1"]
    schedule.finish("b", overloaded=False, now=0)
    assert take_all(schedule) == ["b2"]


def test_an_item_is_not_taken_before_its_time() -> None:
    schedule: Schedule[str] = Schedule(5)
    schedule.add("late", "a", ready_at=9.0)
    schedule.add("soon", "a", ready_at=5.0)
    schedule.add("now", "a")
    assert schedule.next_ready(1.0) == 0.0
    assert take_all(schedule, 1.0) == ["now"]
    assert schedule.next_ready(1.0) == 4.0
    assert take_all(schedule, 4.9) == []
    assert take_all(schedule, 5.0) == ["soon"]
    assert take_all(schedule, 20.0) == ["late"]


def test_time_is_not_waited_for_when_only_a_finish_can_help() -> None:
    schedule = filled(1, a=2)
    assert schedule.take(0) == "a0"
    assert schedule.next_ready(0) is None
    schedule.finish("a", overloaded=False, now=0)
    assert schedule.next_ready(0) == 0.0
    assert schedule.take(0) == "a1"
    assert schedule.next_ready(0) is None


def test_overload_halves_the_limit_once_per_round() -> None:
    schedule = filled(32, a=300)
    assert len(take_all(schedule)) == 32
    for _ in range(32):  # one round of refusals, all about the same 32 requests
        schedule.finish("a", overloaded=True, now=0)
    assert len(take_all(schedule)) == 16
    for _ in range(16):
        schedule.finish("a", overloaded=True, now=0)
    assert len(take_all(schedule)) == 8


def test_the_limit_never_falls_below_one() -> None:
    schedule = filled(4, a=300)
    for _ in range(10):
        for _ in take_all(schedule):
            schedule.finish("a", overloaded=True, now=0)
    assert len(take_all(schedule)) == 1


def test_success_widens_the_limit_by_one_per_round_up_to_the_full_limit() -> None:
    schedule = filled(4, a=300)
    for _ in range(10):
        for _ in take_all(schedule):
            schedule.finish("a", overloaded=True, now=0)
    seen = []
    for _ in range(6):
        taken = take_all(schedule)
        seen.append(len(taken))
        for _ in taken:
            schedule.finish("a", overloaded=False, now=0)
    assert seen == [1, 2, 3, 4, 4, 4]


def test_retry_after_pauses_that_host_only() -> None:
    schedule = filled(2, a=5, b=2)
    assert sorted(take_all(schedule)) == ["a0", "a1", "b0", "b1"]
    schedule.finish("a", overloaded=True, now=10.0, retry_after=30)
    schedule.finish("b", overloaded=False, now=10.0)
    schedule.add("b2", "b")
    assert take_all(schedule, 10.0) == ["b2"]
    schedule.finish("a", overloaded=False, now=11.0)
    assert take_all(schedule, 39.9) == []
    assert schedule.next_ready(39.0) == 1.0
    assert len(take_all(schedule, 40.0)) == 1  # the limit was halved as well


def test_a_host_that_never_recovers_is_not_waited_for_without_end() -> None:
    schedule: Schedule[str] = Schedule(1, longest_pause=100)
    now = 0.0
    for number in range(50):
        schedule.add(f"a{number}", "a")
    for _ in range(50):
        now += schedule.next_ready(now) or 0.0
        assert schedule.take(now) is not None
        schedule.finish("a", overloaded=True, now=now, retry_after=60)
    assert now == 100


def test_draining_takes_back_what_was_not_taken_and_leaves_the_rest_to_finish() -> None:
    schedule = filled(1, a=3, b=1)
    schedule.add("later", "c", ready_at=50.0)
    assert schedule.take(0) == "a0"
    assert sorted(schedule.drain()) == ["a1", "a2", "b0", "later"]
    assert len(schedule) == 0
    assert schedule.take(100) is None
    assert schedule.next_ready(0) is None
    schedule.finish("a", overloaded=True, now=0, retry_after=5)
    schedule.add("again", "a")
    assert take_all(schedule, 6) == ["again"]


def test_idle_hosts_are_forgotten() -> None:
    schedule: Schedule[int] = Schedule(3)
    for number in range(1000):
        host = f"host{number}"
        schedule.add(number, host)
        assert schedule.take(number) == number
        schedule.finish(host, overloaded=number % 2 == 0, now=number, retry_after=5)
    schedule.next_ready(2000)
    assert len(schedule._hosts) == 0


def test_a_host_whose_items_all_wait_for_another_attempt_keeps_its_lowered_limit() -> None:
    schedule = filled(8, a=8)
    for item in take_all(schedule):
        schedule.add(item, "a", ready_at=5.0)
        schedule.finish("a", overloaded=True, now=0)
    assert len(take_all(schedule, 5.0)) == 4


HOSTS = ["a", "b", "c"]
LIMIT = 3


class Machine(RuleBasedStateMachine):
    """Any order of calls, checked against what a caller can know."""

    def __init__(self) -> None:
        super().__init__()
        self.schedule: Schedule[int] = Schedule(LIMIT, longest_pause=20)
        self.now = 0.0
        self.next_item = 0
        self.waiting: dict[int, tuple[str, float]] = {}
        self.running: list[str] = []
        self.paused: dict[str, float] = {}
        self.starved: Counter[str] = Counter()

    @rule(host=st.sampled_from(HOSTS), delay=st.sampled_from([0, 0, 0, 1, 4]))
    def add(self, host: str, delay: int) -> None:
        ready_at = self.now + delay if delay else 0.0
        self.schedule.add(self.next_item, host, ready_at)
        self.waiting[self.next_item] = (host, ready_at)
        self.next_item += 1

    @rule()
    def take(self) -> None:
        item = self.schedule.take(self.now)
        if item is None:
            return
        host, ready_at = self.waiting.pop(item)  # known and not taken before
        assert ready_at <= self.now
        self.running.append(host)
        for other in HOSTS:
            idle = other not in self.running and not self.paused.get(other)
            ready = any(h == other and at <= self.now for h, at in self.waiting.values())
            self.starved[other] = self.starved[other] + 1 if idle and ready else 0
        assert max(self.starved.values()) <= len(HOSTS), "a host with room waits for its turn"

    @precondition(lambda self: self.running)
    @rule(data=st.data(), overloaded=st.booleans(), pause=st.sampled_from([None, None, 3, 1e9]))
    def finish(self, data: st.DataObject, overloaded: bool, pause: float | None) -> None:
        host = data.draw(st.sampled_from(self.running))
        self.running.remove(host)
        self.schedule.finish(host, overloaded=overloaded, now=self.now, retry_after=pause)
        if overloaded and pause:
            self.paused[host] = 1

    @rule(seconds=st.sampled_from([0.5, 1, 5, 50]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        if seconds > 20:
            self.paused.clear()

    @rule()
    def drain(self) -> None:
        assert sorted(self.schedule.drain()) == sorted(self.waiting)
        self.waiting.clear()

    @invariant()
    def never_above_the_limit(self) -> None:
        assert all(count <= LIMIT for count in Counter(self.running).values())

    @invariant()
    def counts_what_waits(self) -> None:
        assert len(self.schedule) == len(self.waiting)

    @invariant()
    def tells_when_to_look_again(self) -> None:
        wait = self.schedule.next_ready(self.now)
        assert wait is None or wait >= 0
        if wait is None:  # nothing is kept waiting by time alone
            for host, ready_at in self.waiting.values():
                assert ready_at <= self.now
                assert host in self.running

    def teardown(self) -> None:
        """Everything that waits is taken in the end, if what runs succeeds."""
        for _ in range(10 * (len(self.waiting) + len(self.running)) + 10):
            for host in self.running:
                self.schedule.finish(host, overloaded=False, now=self.now)
            self.running.clear()
            while (item := self.schedule.take(self.now)) is not None:
                self.running.append(self.waiting.pop(item)[0])
            self.now += self.schedule.next_ready(self.now) or 0.0
        assert not self.waiting


TestAnyOrderOfCalls = Machine.TestCase
TestAnyOrderOfCalls.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)

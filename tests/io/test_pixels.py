"""Pixel children: many images, few processes, and a death that touches only its own image."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pixmill.core.errors import ImageError, ImageErrorCode, PixelsUnavailable
from pixmill.core.model import Fetched, Notice, Picture
from pixmill.core.options import Effort, Format, Options
from pixmill.io import pixel_line
from pixmill.io.loop import Loop
from pixmill.io.pixel_children import Ended, PixelChildren
from pixmill.io.pixels import ChildLimits, Comparer, PixelLimits
from tests.io import pictures
from tests.io.turning import WaitingChildren

SMALL = pictures.jpeg(pictures.photo())
TINY = pictures.photo(96, 64)
MANY_FORMATS = [
    pictures.jpeg(TINY),
    pictures.jpeg(TINY, interlace=True),
    pictures.png(TINY, palette=True),
    pictures.webp(TINY),
    bytes(TINY.gifsave_buffer()),
    bytes(TINY.tiffsave_buffer(compression="deflate")),
    bytes(TINY.heifsave_buffer(compression="av1", effort=0)),
]
SLOW = Options(format=Format.AVIF, effort=Effort.MAX, quality=80)


def fetched(data: bytes) -> Fetched:
    return Fetched(data, len(data))


def slow_picture(width: int = 1000) -> bytes:
    """Takes some seconds of CPU under SLOW, more than ten at a width of 2,000."""
    return pictures.jpeg(pictures.photo(width, width * 7 // 10), 92)


def children(of: int | None = None) -> list[int]:
    """The pixel children of this process (or another), zombies included."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == (of or os.getpid()):
            found.append(int(stat.parent.name))
    return found


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def wait_for(condition, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def ready_children(
    count: int, pixels: PixelLimits | None = None, child_limits: ChildLimits | None = None
) -> WaitingChildren:
    made = WaitingChildren(count, pixels, child_limits)
    made.wait_until_ready()
    return made


@pytest.fixture(scope="module")
def pool() -> Iterator[WaitingChildren]:
    pool = ready_children(2, PixelLimits(), ChildLimits(cpu_seconds=20))
    yield pool
    pool.close()


@pytest.fixture
def lone() -> Iterator[WaitingChildren]:
    """A pool of one child, with nothing left behind afterwards."""
    files, processes = open_files(), set(children())
    pool = ready_children(1)
    yield pool
    pool.close()
    assert set(children()) <= processes
    assert open_files() <= files


def test_a_picture_comes_back_with_all_that_was_seen(pool):
    picture = pool.compress(fetched(pictures.gif_of_frames(3)), Options(format=Format.PNG))
    assert isinstance(picture, Picture)
    assert picture.notices == (Notice.FIRST_FRAME_ONLY,)
    assert (picture.format, picture.source_format, picture.width) == ("png", "gif", 10)


def test_an_image_may_lie_in_a_file(pool, tmp_path):
    path = tmp_path / "übel 1.jpg"
    path.write_bytes(SMALL)
    picture = pool.compress(Fetched(path, len(SMALL)), Options())
    assert picture.data == pool.compress(fetched(SMALL), Options()).data


def test_errors_cross_with_code_and_message(pool):
    with pytest.raises(ImageError, match="web page") as caught:
        pool.compress(fetched(b"<html>"), Options())
    assert caught.value.code is ImageErrorCode.NOT_AN_IMAGE
    assert not caught.value.retryable


def test_limits_reach_the_children():
    pool = ready_children(1, PixelLimits(max_pixels=100))
    with pytest.raises(ImageError) as caught:
        pool.compress(fetched(SMALL), Options())
    assert caught.value.code is ImageErrorCode.TOO_MANY_PIXELS
    pool.close()


def test_comparing_gives_two_pictures(pool):
    after = pool.compress(fetched(SMALL), Options(max_width=160))
    left, right = pool.compare(SMALL, after.data)
    assert pictures.pixels(left).shape == pictures.pixels(right).shape == (100, 160, 3)


def test_a_caller_that_waits_can_compare_too() -> None:
    files, processes = open_files(), set(children())
    comparer = Comparer(PixelLimits(), ChildLimits())
    for _ in range(2):
        before, after = comparer.compare(SMALL, SMALL)
        assert pictures.pixels(before).shape == pictures.pixels(after).shape == (200, 320, 3)
    with pytest.raises(ImageError, match="web page"):
        comparer.compare(b"<html>", SMALL)
    comparer.close()
    assert set(children()) <= processes
    assert open_files() <= files


def test_sixty_four_threads_each_get_their_own_picture(pool):
    files = [pictures.jpeg(pictures.photo(100 + i, 60, seed=i)) for i in range(64)]
    big = pictures.png(pictures.photo(900, 700))  # does not fit into a socket's buffer

    def work(i: int) -> None:
        for _ in range(3):
            assert pool.compress(fetched(files[i]), Options()).width == 100 + i
        if i % 16 == 0:
            assert pool.compress(fetched(big), Options(format=Format.PNG)).width == 900

    with ThreadPoolExecutor(64) as threads:
        list(threads.map(work, range(64)))


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_flipped_bits_end_in_a_picture_or_an_error(pool, data):
    file = bytearray(data.draw(st.sampled_from(MANY_FORMATS)))
    for at in data.draw(st.lists(st.integers(0, len(file) * 8 - 1), min_size=1, max_size=8)):
        file[at // 8] ^= 1 << at % 8
    options = Options(format=Format.AUTO, max_width=data.draw(st.sampled_from([None, 40])))
    try:
        ending = pool.compress(fetched(bytes(file)), options).format
    except ImageError as error:
        ending = error.code
    assert ending in {
        *("jpeg", "webp", "corrupt_image", "too_many_pixels"),
        *("unsupported_format", "not_an_image"),
    }


def test_a_child_that_is_killed_is_replaced_and_its_image_tried_again(lone):
    (pid,) = lone.pids()
    os.kill(pid, signal.SIGSTOP)  # whatever it is given now stays in its hands
    with ThreadPoolExecutor(8) as threads:
        work = [threads.submit(lone.compress, fetched(SMALL), Options()) for _ in range(8)]
        time.sleep(0.3)
        os.kill(pid, signal.SIGKILL)
        assert {future.result(20).width for future in work} == {320}
    assert lone.pids() != [pid]


def test_an_image_whose_children_die_twice_fails_alone(lone):
    with ThreadPoolExecutor(4) as threads:
        slow = threads.submit(lone.compress, fetched(slow_picture(2_000)), SLOW)
        time.sleep(0.5)
        behind = threads.submit(lone.compress, fetched(SMALL), Options())
        for _ in range(2):
            (pid,) = lone.pids()
            # The one behind may be served first after the death; then the slow one is in work.
            wait_for(lambda: any(line.questions for line in lone.children._lines))
            time.sleep(0.7)
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda pid=pid: lone.pids() not in ([], [pid]))
        with pytest.raises(ImageError, match="SIGKILL, twice") as caught:
            slow.result()
        assert caught.value.code is ImageErrorCode.WORKER_CRASH
        assert behind.result().width == 320
    assert lone.compress(fetched(SMALL), Options()).width == 320


def test_deaths_of_idle_children_blame_no_image(lone):
    for _ in range(3):
        (pid,) = lone.pids()
        os.kill(pid, signal.SIGKILL)
        assert lone.compress(fetched(SMALL), Options()).width == 320
        assert lone.pids() != [pid]


def test_work_goes_on_while_children_are_killed_under_it(pool):
    stop = time.monotonic() + 2.5

    def work(_: int) -> int:
        done = 0
        while time.monotonic() < stop:
            assert pool.compress(fetched(SMALL), Options()).width == 320
            done += 1
        return done

    def kill() -> None:
        for seat in (0, 1, 0):
            time.sleep(0.6)
            alive = pool.pids()
            os.kill(alive[seat % len(alive)], signal.SIGKILL)

    with ThreadPoolExecutor(33) as threads:
        killer = threads.submit(kill)
        assert sum(threads.map(work, range(32))) > 32
        killer.result()


def test_too_much_cpu_ends_in_a_processing_timeout():
    pool = ready_children(1, child_limits=ChildLimits(cpu_seconds=0.3))
    assert pool.compress(fetched(SMALL), Options()).width == 320
    with pytest.raises(ImageError, match=r"0\.3 seconds of CPU") as caught:
        pool.compress(fetched(slow_picture()), SLOW)
    assert caught.value.code is ImageErrorCode.PROCESSING_TIMEOUT
    photo = fetched(pictures.png(pictures.photo(800, 600)))
    for _ in range(40):  # each image has the whole allowance
        assert pool.compress(photo, Options(effort=Effort.MAX)).width == 800
    pool.close()


def test_too_much_time_ends_in_a_processing_timeout_for_the_image_in_work_only():
    pool = ready_children(1, child_limits=ChildLimits(wall_seconds=1))
    (pid,) = pool.pids()
    os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(2) as threads:
        stuck = threads.submit(pool.compress, fetched(SMALL), Options())
        time.sleep(0.2)
        behind = threads.submit(pool.compress, fetched(SMALL), Options())
        with pytest.raises(ImageError, match="longer than 1 seconds") as caught:
            stuck.result(5)
        assert behind.result(10).width == 320
    assert caught.value.code is ImageErrorCode.PROCESSING_TIMEOUT
    pool.close()


def test_too_much_memory_ends_in_a_worker_crash_of_that_image():
    pool = ready_children(1, child_limits=ChildLimits(memory_bytes=140 * 2**20))
    with pytest.raises(ImageError, match="memory, twice") as caught:
        pool.compress(fetched(pictures.jpeg(pictures.patch((9, 99, 9), 8_000, 6_000))), Options())
    assert caught.value.code is ImageErrorCode.WORKER_CRASH
    assert pool.compress(fetched(SMALL), Options()).width == 320
    pool.close()


def start_and_compress() -> None:
    pool = WaitingChildren(2)
    try:
        pool.compress(fetched(SMALL), Options())
    finally:
        pool.close()


@pytest.mark.parametrize("program", ["/bin/false", "/nowhere/python"])
def test_children_that_cannot_start_blame_no_image(program, monkeypatch):
    files, processes = open_files(), set(children())
    monkeypatch.setattr(sys, "executable", program)
    with pytest.raises(PixelsUnavailable, match="cannot start"):
        start_and_compress()
    assert open_files() <= files
    assert set(children()) <= processes


def test_children_that_die_as_soon_as_they_are_ready_are_not_started_for_ever(
    tmp_path, monkeypatch
):
    script = tmp_path / "python"
    script.write_text(
        f"#!{sys.executable}\n"
        "import socket, sys\n"
        "from pixmill.io.pixel_frames import send_frame\n"
        "number = next(a for a in sys.argv if a.startswith('--socket=')).partition('=')[2]\n"
        "send_frame(socket.socket(fileno=int(number)), b'{}', b'', 0)\n"
        "sys.exit(0)\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    pool = WaitingChildren(1)
    with pytest.raises(PixelsUnavailable, match="keep dying"):
        pool.compress(fetched(SMALL), Options())
    pool.close()


def test_a_child_that_has_grown_hands_over_without_a_loss():
    files, processes = open_files(), set(children())
    pool = ready_children(1, child_limits=ChildLimits(check_after=5, most_growth=-(2**40)))
    seen = set()

    def work(_: int) -> int:
        seen.update(pool.pids())
        return pool.compress(fetched(SMALL), Options()).width

    with ThreadPoolExecutor(6) as threads:
        assert set(threads.map(work, range(40))) == {320}
    assert len(seen) > 2
    pool.close()
    assert set(children()) <= processes
    assert open_files() <= files


def test_closing_ends_children_at_once_and_tells_who_waits():
    files, processes = open_files(), set(children())
    pool = ready_children(2)
    with ThreadPoolExecutor(8) as threads:
        slow = slow_picture()
        work = [threads.submit(pool.compress, fetched(slow), SLOW) for _ in range(8)]
        time.sleep(0.5)
        start = time.monotonic()
        pool.close()
        assert time.monotonic() - start < 2
        for future in work:
            with pytest.raises(PixelsUnavailable):
                future.result(5)
    with pytest.raises(PixelsUnavailable):
        pool.compress(fetched(SMALL), Options())
    pool.close()
    assert set(children()) <= processes
    assert open_files() <= files


def test_children_ignore_what_a_terminal_sends(lone):
    (pid,) = lone.pids()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid, number)
    assert lone.compress(fetched(SMALL), Options()).width == 320
    assert lone.pids() == [pid]
    assert os.getpgid(pid) != os.getpgid(0)


def test_children_know_no_secrets_and_dump_no_core(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    pool = ready_children(1)
    (pid,) = pool.pids()
    environment = Path(f"/proc/{pid}/environ").read_bytes()
    assert b"hush" not in environment
    assert b"VIPS_CONCURRENCY=1" in environment
    limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
    assert any(line.split()[:5] == ["Max", "core", "file", "size", "0"] for line in limits)
    pool.close()


def test_children_end_with_their_parent():
    script = (
        "from tests.io.turning import WaitingChildren; import time; pool = WaitingChildren(2);"
        "pool.wait_until_ready(); print(*pool.pids(), flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        orphans = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(orphans) == 2
        parent.kill()
    wait_for(lambda: not any(running(pid) for pid in orphans))


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_an_idle_child_is_preferred_to_a_busy_one():
    pool = ready_children(2)
    busy, _ = pool.pids()
    os.kill(busy, signal.SIGSTOP)
    with ThreadPoolExecutor(2) as threads:
        stuck = threads.submit(pool.compress, fetched(SMALL), Options())
        time.sleep(0.2)
        for _ in range(5):
            quick = threads.submit(pool.compress, fetched(SMALL), Options())
            assert quick.result(20).width == 320
        assert not stuck.done()
        os.kill(busy, signal.SIGCONT)
        assert stuck.result(20).width == 320
    pool.close()


def test_a_sheet_full_of_killers_fails_each_of_them_and_no_other():
    pool = ready_children(1, child_limits=ChildLimits(memory_bytes=140 * 2**20))
    killer = fetched(pictures.jpeg(pictures.patch((9, 99, 9), 8_000, 6_000)))

    def result_of(image):
        try:
            return pool.compress(image, Options()).width
        except ImageError as error:
            return error.code

    with ThreadPoolExecutor(40) as threads:
        results = list(threads.map(result_of, [*[killer] * 30, fetched(SMALL)]))
    pool.close()
    assert results == [ImageErrorCode.WORKER_CRASH] * 30 + [320]


def test_a_child_that_is_killed_while_it_starts_ends_nothing() -> None:
    pool = WaitingChildren(2)
    for pid in pool.pids():
        os.kill(pid, signal.SIGKILL)
    with ThreadPoolExecutor(2) as threads:
        work = threads.submit(pool.compress, fetched(SMALL), Options())
        wait_for(lambda: any(line.ready for line in list(pool.children._lines)), 30)
        assert work.result(20).width == 320
    pool.close()


def test_a_dead_childs_replacement_may_die_too(lone: WaitingChildren) -> None:
    (pid,) = lone.pids()
    os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as threads:
        work = threads.submit(lone.compress, fetched(SMALL), Options())
        for _ in range(2):
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda dead=pid: lone.pids() not in ([], [dead]))
            (pid,) = lone.pids()
        assert work.result(30).width == 320


def test_children_that_are_killed_at_every_start_are_not_started_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nkill -9 $$\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    pool = WaitingChildren(1)
    with pytest.raises(PixelsUnavailable, match=r"cannot start.*SIGKILL"):
        pool.compress(fetched(SMALL), Options())
    pool.close()


def test_a_child_that_hangs_at_its_start_is_replaced_and_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pixel_line, "_START_ALONE_SECONDS", 1.0)
    pool = WaitingChildren(2)
    hung, other = pool.pids()
    os.kill(hung, signal.SIGSTOP)
    os.kill(other, signal.SIGKILL)
    assert pool.compress(fetched(SMALL), Options()).width == 320
    assert hung in pool.pids()
    monkeypatch.setattr(pixel_line, "_START_SECONDS", 0.0)
    wait_for(lambda: hung not in pool.pids())
    monkeypatch.undo()
    assert pool.compress(fetched(SMALL), Options()).width == 320
    pool.close()


class OwnLoop:
    """Pixel children whose loop the test turns itself, at times of its choosing."""

    def __init__(self, wall_seconds: float) -> None:
        self.loop = Loop()
        limits = ChildLimits(wall_seconds=wall_seconds)
        self.children: PixelChildren[str] = PixelChildren(1, PixelLimits(), limits, self.loop)
        self.children.start()
        self.turn_until(lambda: self.children._lines[0].ready)

    def turn_until(self, condition: Callable[[], bool]) -> list[Ended[str]]:
        """Turn until it is so; what has ended by then."""
        ended: list[Ended[str]] = []
        deadline = time.monotonic() + 20
        while not condition() and not ended:
            assert time.monotonic() < deadline
            self.loop.wait(0.05)
            ended += self.children.ended(time.monotonic())
        return ended

    def close(self) -> None:
        self.children.close()
        self.loop.close()


def test_time_in_which_the_worker_was_frozen_condemns_no_image() -> None:
    own = OwnLoop(wall_seconds=30)
    (pid,) = own.children.pids()
    os.kill(pid, signal.SIGSTOP)  # frozen with its parent, as by `docker pause`
    own.children.compress("a", fetched(SMALL), Options())
    frozen = time.monotonic()
    assert own.children.ended(frozen) == []
    for hours in (1, 2):
        assert own.children.ended(frozen + hours * 3600) == []
    os.kill(pid, signal.SIGCONT)
    ((_, picture),) = own.turn_until(lambda: False)
    assert isinstance(picture, Picture)
    assert own.children.pids() == [pid]
    own.close()


def test_an_answer_that_lies_there_already_is_never_too_late() -> None:
    own = OwnLoop(wall_seconds=1.5)
    own.children.compress("a", fetched(SMALL), Options())
    asked = time.monotonic()
    assert own.children.ended(asked) == []
    select.select([own.children._lines[0]._socket], [], [], 20)
    time.sleep(0.1)
    own.children._looked = asked + 1  # nothing was frozen; the answer was only not taken yet
    ((_, picture),) = own.children.ended(asked + 2)
    assert isinstance(picture, Picture)
    own.close()

"""A run that is stopped, refused or out of space says so, and goes on when it is run again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import shop as shops
from tests.shop import Shop

pytestmark = pytest.mark.slow


def urls(shop: Shop, count: int) -> list[str]:
    return [shop.url(f"{number}.jpg?n={number}") for number in range(count)]


def wait_for(shop: Shop, served: int) -> None:
    deadline = time.monotonic() + 30
    while sum(shop.served.values()) < served:
        assert time.monotonic() < deadline, "the run does not get on"
        time.sleep(0.02)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_ends_soon_and_never_fetches_twice(
    tmp_path: Path, stop: signal.Signals
) -> None:
    with shops.open_shop(delay=0.1) as shop:
        csv = shops.write_csv(tmp_path / "products.csv", urls(shop, 400))
        out = tmp_path / "out"
        env = shops.environment(shop, threads=8)
        for stopped in range(1, 3):
            process = shops.start_run(csv, out, env)
            wait_for(shop, 100 * stopped)
            asked = time.monotonic()
            os.killpg(process.pid, stop)  # a terminal tells the whole group
            code, _, err = shops.finish_run(process, timeout=30)
            assert code == 130, err
            assert time.monotonic() - asked < 8
            assert "Run the same command again to go on" in err
            shops.check_database(out).close()
        code, _, err = shops.run(csv, out, env)
        assert code == 0, err
        assert set(shop.asked.values()) == {1}
        assert len(shop.asked) == 400
    assert shops.outcomes(out) == {"done": 400}


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    with shops.open_shop(delay=20) as shop:
        csv = shops.write_csv(tmp_path / "products.csv", urls(shop, 40))
        out = tmp_path / "out"
        process = shops.start_run(csv, out, shops.environment(shop, grace_seconds=20))
        time.sleep(2.5)
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)
        asked = time.monotonic()
        code, _, err = shops.finish_run(process, timeout=30)
    assert code == 130, err
    assert time.monotonic() - asked < 5
    assert shops.processes_of(out) == []


def test_a_finished_run_has_nothing_left_to_do(tmp_path: Path) -> None:
    with shops.open_shop() as shop:
        csv = shops.write_csv(tmp_path / "products.csv", urls(shop, 10))
        out = tmp_path / "out"
        env = shops.environment(shop)
        assert shops.run(csv, out, env)[0] == 0
        first = (out / "output.csv").read_text()
        code, said, err = shops.run(csv, out, env)
        assert code == 0, err
        assert "nothing left to do" in said
        assert set(shop.asked.values()) == {1}
        assert (out / "output.csv").read_text() == first


def test_retry_failed_asks_for_the_failed_images_only(tmp_path: Path) -> None:
    with shops.open_shop() as shop:
        shop.special["late.jpg"] = lambda _: (404, b"")
        csv = shops.write_csv(tmp_path / "products.csv", [*urls(shop, 10), shop.url("late.jpg")])
        out = tmp_path / "out"
        env = shops.environment(shop)
        assert shops.run(csv, out, env)[0] == 1
        del shop.special["late.jpg"]
        shop.special["late.jpg"] = lambda _: (200, shops.PHOTOS[0])
        assert shops.run(csv, out, env)[0] == 1  # without the flag a failure stays
        code, _, err = shops.run(csv, out, env, "--retry-failed")
        assert code == 0, err
        assert shop.asked.pop("/late.jpg") == 2
        assert set(shop.asked.values()) == {1}
    assert shops.outcomes(out) == {"done": 11}
    assert (out / "errors.csv").read_text().count("\n") == 1


def test_two_runs_cannot_use_one_folder_at_once(tmp_path: Path) -> None:
    with shops.open_shop(delay=0.2) as shop:
        csv = shops.write_csv(tmp_path / "products.csv", urls(shop, 100))
        out = tmp_path / "out"
        env = shops.environment(shop, threads=4)
        first = shops.start_run(csv, out, env)
        wait_for(shop, 1)
        code, _, err = shops.run(csv, out, env)
        assert code == 2
        assert "Another pixmill run is at work" in err
        assert shops.finish_run(first)[0] == 0
    assert shops.outcomes(out) == {"done": 100}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        if os.environ.get("CI"):
            pytest.fail(f"cannot mount a small disk: {mounted.stderr}")
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_ends_the_run_clearly_and_space_lets_it_go_on(
    tmp_path: Path, small_disk: Path
) -> None:
    with shops.open_shop() as shop:
        csv = shops.write_csv(tmp_path / "products.csv", urls(shop, 600))
        out = small_disk / "out"
        env = shops.environment(shop, samples=0)
        code, _, err = shops.run(csv, out, env)
        assert code == 2
        assert "No space left" in err or "disk is full" in err
        assert "Traceback" not in err
        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
        shops.check_database(out).close()
        code, _, err = shops.run(csv, out, env)
        assert code == 0, err
    assert shops.outcomes(out) == {"done": 600}
    assert len(shops.pictures(out)) == 600


def test_a_folder_that_becomes_unwritable_ends_the_run_clearly(
    tmp_path: Path, small_disk: Path
) -> None:
    with shops.open_shop(delay=0.1) as shop:
        csv = shops.write_csv(tmp_path / "products.csv", urls(shop, 200))
        out = small_disk / "out"
        env = shops.environment(shop, threads=4)
        process = shops.start_run(csv, out, env)
        wait_for(shop, 40)
        images = next((out / "images").iterdir())
        shutil.rmtree(images)
        images.write_text("in the way")
        code, _, err = shops.finish_run(process)
        assert code == 2
        assert "Cannot store images/" in err
        assert "Traceback" not in err
        shops.check_database(out).close()


@pytest.mark.parametrize("place", ["/proc/pixmill-out", "/dev/null/out"])
def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path, place: str) -> None:
    with shops.open_shop() as shop:
        csv = shops.write_csv(tmp_path / "products.csv", urls(shop, 1))
        code, _, err = shops.run(csv, Path(place), shops.environment(shop))
    assert code == 2
    assert "Cannot write into" in err
    assert "Traceback" not in err

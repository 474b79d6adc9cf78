"""Nothing is lost, whoever dies: workers, the whole run, or the one image that kills them."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests import shop as shops
from tests.shop import Shop

pytestmark = pytest.mark.slow


def urls(shop: Shop, count: int) -> list[str]:
    return [shop.url(f"{number}.jpg?n={number}") for number in range(count)]


def test_500_images_survive_20_kills_of_random_workers(tmp_path: Path) -> None:
    rng = random.Random(20)
    with shops.open_shop(delay=0.25) as shop:
        csv = shops.write_csv(tmp_path / "products.csv", urls(shop, 500))
        out = tmp_path / "out"
        env = shops.environment(shop, workers=2, threads=6)
        process = shops.start_run(csv, out, env)
        kills = 0
        while kills < 20:
            time.sleep(0.3)
            assert process.poll() is None, f"the run ended after {kills} kills"
            workers = shops.children_of(process.pid, named="worker")
            if workers:
                os.kill(rng.choice(workers), signal.SIGKILL)
                kills += 1
        code, _, err = shops.finish_run(process)
    assert code == 0, err
    assert shops.outcomes(out) == {"done": 500}
    assert len(shops.pictures(out)) == 500


def test_a_run_that_is_killed_whole_5_times_ends_when_it_is_run_again(tmp_path: Path) -> None:
    with shops.open_shop(delay=0.1) as shop:
        csv = shops.write_csv(tmp_path / "products.csv", urls(shop, 500))
        out = tmp_path / "out"
        env = shops.environment(shop, workers=2, threads=8)
        for _ in range(5):
            process = shops.start_run(csv, out, env)
            time.sleep(random.Random(5).uniform(1.5, 2.0))
            assert process.poll() is None
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            shops.check_database(out).close()
        code, _, err = shops.run(csv, out, env)
    assert code == 0, err
    assert shops.outcomes(out) == {"done": 500}
    assert len(shops.pictures(out)) == 500
    assert (out / "output.csv").read_text().count("images/") == 500


def test_an_image_that_ends_its_pixel_child_fails_alone(tmp_path: Path) -> None:
    with shops.open_shop() as shop:
        shop.special["greedy.jpg"] = lambda _: (200, shops.photo(1, width=7000, height=7000))
        named = [*urls(shop, 30), shop.url("greedy.jpg")]
        csv = shops.write_csv(tmp_path / "products.csv", named, per_product=5)
        out = tmp_path / "out"
        env = shops.environment(shop, image_memory=134_217_728)
        code, _, err = shops.run(csv, out, env)
    assert code == 1, err
    assert shops.outcomes(out) == {"done": 30, "worker_crash": 1}


def test_an_image_that_ends_its_whole_worker_fails_alone(tmp_path: Path) -> None:
    """The shop kills whoever asks for the image, so each worker that takes it dies of it."""
    deaths = []
    with shops.open_shop(delay=0.01) as shop:

        def kill_client(port: int) -> tuple[int, bytes]:
            pid = _owner_of(port)
            deaths.append(pid)
            os.kill(pid, signal.SIGKILL)
            return 500, b""

        shop.special["killer.jpg"] = kill_client
        named = urls(shop, 60)
        named.insert(30, shop.url("killer.jpg"))
        csv = shops.write_csv(tmp_path / "products.csv", named)
        out = tmp_path / "out"
        code, _, err = shops.run(csv, out, shops.environment(shop))
    assert code == 1, err
    assert shops.outcomes(out) == {"done": 60, "worker_crash": 1}
    assert len(deaths) == 6  # three with its neighbours, three alone
    assert (out / "errors.csv").read_text().count("killer.jpg") == 1


def test_workers_end_when_the_run_that_started_them_is_killed(tmp_path: Path) -> None:
    with shops.open_shop(delay=0.2) as shop:
        csv = shops.write_csv(tmp_path / "products.csv", urls(shop, 300))
        out = tmp_path / "out"
        process = shops.start_run(csv, out, shops.environment(shop, threads=4))
        time.sleep(2)
        assert shops.processes_of(out)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)
        deadline = time.monotonic() + 20
        while shops.processes_of(out) and time.monotonic() < deadline:
            time.sleep(0.1)
    assert shops.processes_of(out) == []


def _owner_of(port: int) -> int:
    """The process whose TCP socket has this local port."""
    wanted = f":{port:04X}"
    inode = next(
        fields[9]
        for fields in (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
        if fields[1].endswith(wanted) and fields[9] != "0"
    )
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if str(descriptor.readlink()) == f"socket:[{inode}]":
                return int(descriptor.parts[2])
        except OSError:
            continue
    raise AssertionError(f"nobody owns port {port}")

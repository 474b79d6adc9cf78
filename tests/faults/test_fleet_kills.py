"""Workers of a fleet are killed again and again: nothing is lost, nothing is done twice."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.faults.yard import yard

pytestmark = pytest.mark.slow

IMAGES = 2000
KILLS = 20


def test_2000_images_are_done_once_each_although_20_workers_are_killed(
    mongo_url: str, redis_url: str, tmp_path: Path
) -> None:
    dice = random.Random(20)
    with yard(
        tmp_path / "data", mongo_url, redis_url, workers=3, delay=0.05, threads=4, lease_seconds=2
    ) as made:
        request_id = made.submit(IMAGES)
        for kill in range(KILLS):
            made.wait_for(request_id, (kill + 1) * IMAGES // (KILLS + 2))
            made.fleet.kill(dice.choice(made.fleet.workers))
            made.fleet.add()
        assert made.processed(request_id) < IMAGES, "the last one was killed too late"
        killed_last = time.monotonic()
        status = made.service.finished(request_id, timeout=60)
        assert time.monotonic() - killed_last < 60
        made.check({request_id: IMAGES})
        made.idle()
        assert made.service.status(request_id)["finishedAt"] == status["finishedAt"]

"""Temporary files of workers: nobody removes what a living one has, nobody keeps a dead one's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pixmill.core.errors import StorageFailure
from pixmill.io.spill import spill_folder

LIVES = (
    "import sys\nfrom pathlib import Path\nfrom pixmill.io.spill import spill_folder\n"
    "with spill_folder(Path(sys.argv[1]), 'other') as folder:\n"
    "    (folder / 'body').write_text('x')\n    print('ready', flush=True)\n    sys.stdin.read()\n"
)


def test_the_folder_of_a_living_worker_stays_and_that_of_a_killed_one_goes(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LIVES, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == "ready\n"
        with spill_folder(tmp_path, "mine"):
            assert (tmp_path / "other" / "body").exists()
        other.kill()
    assert (tmp_path / "other" / "body").exists()
    with spill_folder(tmp_path, "mine") as mine:
        assert list(tmp_path.iterdir()) == [mine]
    assert list(tmp_path.iterdir()) == []


def test_a_place_where_nothing_can_be_written_is_named() -> None:
    with pytest.raises(StorageFailure, match="/proc/spill"), spill_folder(Path("/proc/spill"), "w"):
        pass

"""The parts as they are put together: what no part alone can promise."""

from __future__ import annotations

from pathlib import Path

from pixmill import wiring
from pixmill.core.errors import ImageError, ImageErrorCode
from pixmill.core.leases import Lease, Work
from pixmill.core.model import Fetched, Image, Picture, SheetRules
from pixmill.settings import load_settings
from pixmill.steps.job import Job
from pixmill.steps.recorder import OpenShard
from tests.contracts.records import a_request


def test_local_files_are_read_for_requests_of_the_command_line_only(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"local")
    image = Image("req_a", 1, (tmp_path / "a.jpg").as_uri(), 1)
    settings = load_settings({"data_dir": tmp_path / "data"}, {})
    shard = OpenShard(Lease(Work.SHARD, "req_a", 1, 1, 1, False, "t"), 1)
    job = Job(shard, image, a_request(images=1), "")
    with wiring._workshop(settings, "w") as workshop:
        ended: list[Fetched | Picture | Exception] = []
        for rules in (SheetRules(local_folder=str(tmp_path)), SheetRules()):
            workshop.fetch(job, image, rules)
            while not (batch := workshop.wait(10)):
                pass
            ended += [what for _, what in batch]
    assert isinstance(ended[0], Fetched)
    assert ended[0].body == b"local"
    assert isinstance(ended[1], ImageError)
    assert ended[1].code is ImageErrorCode.INVALID_URL

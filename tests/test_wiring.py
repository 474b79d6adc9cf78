"""The parts as they are put together: what no part alone can promise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pixmill import wiring
from pixmill.core.errors import ImageError, ImageErrorCode, InvalidSetting
from pixmill.core.leases import Lease, Work
from pixmill.core.model import Fetched, Image, Picture, SheetRules
from pixmill.settings import load_settings
from pixmill.steps.job import Job
from pixmill.steps.recorder import OpenShard
from pixmill.wiring import workers
from tests.contracts.records import a_request


def test_local_files_are_read_for_requests_of_the_command_line_only(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"local")
    image = Image("req_a", 1, (tmp_path / "a.jpg").as_uri(), 1)
    settings = load_settings({"data_dir": tmp_path / "data"}, {})
    shard = OpenShard(Lease(Work.SHARD, "req_a", 1, 1, 1, False, "t"), 1)
    job = Job(shard, image, a_request(images=1), "")
    with workers._workshop(settings, "w") as workshop:
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


@pytest.mark.parametrize(
    ("cores", "count", "each"), [(2, 2, 1), (2, 1, 2), (4, 1, 4), (4, 3, 2), (5, 2, 3), (2, 8, 1)]
)
def test_no_core_is_without_a_pixel_child(
    monkeypatch: pytest.MonkeyPatch, cores: int, count: int, each: int
) -> None:
    """Whatever the number of workers; with three on four cores, one core was left idle."""
    monkeypatch.setattr(workers, "cores", lambda: cores)
    assert workers._children_each(load_settings({"workers": count}, {})) == each


def test_a_store_in_mongodb_is_opened_without_reaching_for_it() -> None:
    settings = load_settings({"store": "mongodb://anna:secret@nowhere.example/db"}, {})
    for opened in (
        wiring.open_store(settings),
        wiring.open_access(settings),
        wiring.open_outbox(settings),
    ):
        assert type(opened).__module__.startswith("pixmill.stores.mongo")
        opened.close()


def test_the_password_in_a_mistyped_store_is_not_shown() -> None:
    settings = load_settings({"store": "mongo://anna:secret@h/db"}, {})
    with pytest.raises(InvalidSetting, match="'mongo:…'") as refused:
        wiring.open_store(settings)
    assert "secret" not in refused.value.message


def test_files_in_a_bucket_are_opened_without_reaching_for_it() -> None:
    settings = load_settings({"blobs": "s3://bucket/prefix"}, {})
    assert not wiring.open_blobs(settings).near


def test_a_bucket_needs_the_packages_of_the_fleet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "pixmill.blobs.s3", raising=False)
    settings = load_settings({"blobs": "s3://bucket/prefix"}, {})
    with pytest.raises(InvalidSetting, match=r'pip install "pixmill\[fleet\]"'):
        wiring.open_blobs(settings)


def test_one_machine_needs_none_of_the_packages_of_a_fleet() -> None:
    code = (
        "import sys, pixmill.cli.serve, pixmill.cli.worker;"
        "sys.exit(str({'obstore', 'pymongo', 'celery'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "set()"

"""The parts as they are put together: what no part alone can promise."""

from __future__ import annotations

from pathlib import Path

import pytest

from pixmill import wiring
from pixmill.core.errors import ImageError, ImageErrorCode, InvalidSetting
from pixmill.core.model import Image, SheetRules
from pixmill.settings import load_settings


def test_local_files_are_read_for_requests_of_the_command_line_only(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"local")
    image = Image("req_a", 1, (tmp_path / "a.jpg").as_uri(), 1)
    settings = load_settings({"data_dir": tmp_path / "data"}, {})
    with wiring._fetching(settings, "w") as fetch:
        assert fetch(image, SheetRules(local_folder=str(tmp_path))).body == b"local"
        with pytest.raises(ImageError) as refused:
            fetch(image, SheetRules())
    assert refused.value.code is ImageErrorCode.INVALID_URL


def test_a_store_in_mongodb_is_opened_without_reaching_for_it() -> None:
    settings = load_settings({"store": "mongodb://anna:secret@nowhere.example/db"}, {})
    for opened in (wiring.open_store(settings), wiring.open_access(settings)):
        assert type(opened).__module__.startswith("pixmill.stores.mongo")
        opened.close()


def test_the_password_in_a_mistyped_store_is_not_shown() -> None:
    settings = load_settings({"store": "mongo://anna:secret@h/db"}, {})
    with pytest.raises(InvalidSetting, match="'mongo:…'") as refused:
        wiring.open_store(settings)
    assert "secret" not in refused.value.message

"""The parts as they are put together: what no part alone can promise."""

from __future__ import annotations

from pathlib import Path

import pytest

from pixmill import wiring
from pixmill.core.errors import ImageError, ImageErrorCode
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

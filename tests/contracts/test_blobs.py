"""What all blobs must hold, wherever they lie."""

from __future__ import annotations

import io
import threading

import pytest

from pixmill.core.errors import NotFound, StorageFailure
from pixmill.ports import Blobs


def read(blobs: Blobs, key: str) -> bytes:
    with blobs.open(key) as file:
        return file.read()


def test_what_was_put_can_be_read(blobs: Blobs) -> None:
    blobs.put("images/req_a/0000001.jpg", b"picture")
    assert read(blobs, "images/req_a/0000001.jpg") == b"picture"


def test_a_stream_is_stored_whole(blobs: Blobs) -> None:
    data = bytes(range(256)) * 20_000
    blobs.put("images/a", io.BytesIO(data))
    assert read(blobs, "images/a") == data


def test_an_open_file_can_be_searched(blobs: Blobs) -> None:
    blobs.put("images/a", b"0123456789")
    with blobs.open("images/a") as file:
        file.seek(4)
        assert file.read(3) == b"456"


def test_a_second_put_replaces_the_first(blobs: Blobs) -> None:
    blobs.put("images/a", b"first")
    blobs.put("images/a", b"2")
    assert read(blobs, "images/a") == b"2"


def test_a_missing_file_is_not_found(blobs: Blobs) -> None:
    with pytest.raises(NotFound, match="images/none"):
        blobs.open("images/none")


def test_a_stream_that_breaks_leaves_things_as_they_were(blobs: Blobs) -> None:
    class Breaking(io.BytesIO):
        def read(self, _size: int | None = -1) -> bytes:
            if self.tell():
                raise OSError(5, "Input/output error")
            return super().read(3)

    blobs.put("images/a", b"before")
    with pytest.raises(StorageFailure):
        blobs.put("images/a", Breaking(b"after, but cut"))
    assert read(blobs, "images/a") == b"before"


def test_many_files_are_stored_together(blobs: Blobs) -> None:
    files = {f"images/{number}": bytes([number]) * 100 for number in range(50)}
    blobs.put_all(files)
    assert {key: read(blobs, key) for key in files} == files
    blobs.put_all({})


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a\0b"])
def test_a_key_cannot_lead_outside(blobs: Blobs, key: str) -> None:
    with pytest.raises(StorageFailure, match="not a valid key"):
        blobs.put(key, b"x")


def test_a_reader_never_sees_half_a_file_while_it_is_replaced(blobs: Blobs) -> None:
    versions = [bytes([number]) * 300_000 for number in range(8)]
    blobs.put("images/a", versions[0])
    over = threading.Event()

    def replace() -> None:
        while not over.is_set():
            for version in versions:
                blobs.put("images/a", version)

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        for _ in range(100):
            assert read(blobs, "images/a") in versions
    finally:
        over.set()
        thread.join()

"""What all blobs must hold, wherever they lie."""

from __future__ import annotations

import io
import threading
import time

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


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../x", "a//b", "a\0b", "a\ud800b", "x" * 5000])
def test_what_no_file_can_be_called_is_not_found(blobs: Blobs, key: str) -> None:
    for ask in (blobs.open, blobs.look):
        with pytest.raises(NotFound):
            ask(key)


def test_a_folder_or_what_lies_below_a_file_is_not_found(blobs: Blobs) -> None:
    blobs.put("images/a", b"x")
    for key in ("images", "images/a/b"):
        for ask in (blobs.open, blobs.look):
            with pytest.raises(NotFound):
                ask(key)


class TestLook:
    def test_it_tells_the_size_and_the_time(self, blobs: Blobs) -> None:
        before = time.time()
        blobs.put("images/a", b"12345")
        found = blobs.look("images/a")
        assert found.size == 5
        assert before - 2 < found.modified < time.time() + 2

    def test_the_etag_stays_while_the_file_does_and_changes_with_it(self, blobs: Blobs) -> None:
        blobs.put("images/a", b"12345")
        first = blobs.look("images/a").etag
        assert blobs.look("images/a").etag == first
        assert first.isascii()
        assert '"' not in first
        etags = {first}
        for number in range(20):  # of the same size, within one tick of the file system's clock
            blobs.put("images/a", f"{number:05}".encode())
            etags.add(blobs.look("images/a").etag)
        assert len(etags) == 21


class TestDeleteAll:
    def test_all_files_below_are_gone_and_no_others(self, blobs: Blobs) -> None:
        gone = ["images/req_a/1.jpg", "images/req_a/deeper/2.jpg"]
        stays = ["images/req_ab/1.jpg", "images/req_b/1.jpg", ".pixmill/sheets/req_a/input.csv"]
        blobs.put_all(dict.fromkeys([*gone, *stays], b"x"))
        blobs.delete_all("images/req_a")
        for key in gone:
            with pytest.raises(NotFound):
                blobs.look(key)
        assert [read(blobs, key) for key in stays] == [b"x"] * 3

    def test_where_nothing_is_nothing_happens(self, blobs: Blobs) -> None:
        blobs.delete_all("images/req_a")
        blobs.put("images/req_b", b"a file, not a folder")
        blobs.delete_all("images/req_b")
        assert read(blobs, "images/req_b") == b"a file, not a folder"

    @pytest.mark.parametrize("folder", ["", "/", "..", "images/..", "images//a", "a\0b"])
    def test_a_folder_cannot_lie_outside(self, blobs: Blobs, folder: str) -> None:
        with pytest.raises(StorageFailure, match="not a valid key"):
            blobs.delete_all(folder)

    def test_room_can_be_freed_at_any_time_and_by_anybody(self, blobs: Blobs) -> None:
        blobs.free_room()
        blobs.put_all(dict.fromkeys(["images/req_a/1.jpg", "images/req_b/1.jpg"], b"x"))
        blobs.delete_all("images/req_a")
        for _ in range(2):
            blobs.free_room()
        assert read(blobs, "images/req_b/1.jpg") == b"x"

    def test_the_same_keys_can_be_used_again(self, blobs: Blobs) -> None:
        blobs.put("images/req_a/1.jpg", b"first")
        blobs.delete_all("images/req_a")
        blobs.put("images/req_a/1.jpg", b"second")
        assert read(blobs, "images/req_a/1.jpg") == b"second"

    def test_who_has_a_file_open_reads_it_to_its_end(self, blobs: Blobs) -> None:
        blobs.put("images/req_a/1.jpg", b"0123456789")
        with blobs.open("images/req_a/1.jpg") as file:
            assert file.read(2) == b"01"
            blobs.delete_all("images/req_a")
            assert file.read() == b"23456789"

    def test_a_put_into_a_folder_that_is_being_deleted_succeeds(self, blobs: Blobs) -> None:
        over = threading.Event()

        def delete() -> None:
            while not over.is_set():
                blobs.delete_all("images/req_a")

        deleting = [threading.Thread(target=delete) for _ in range(2)]
        for thread in deleting:
            thread.start()
        try:
            for number in range(200):
                blobs.put_all({f"images/req_a/{number}/1.jpg": b"x"})
        finally:
            over.set()
            for thread in deleting:
                thread.join()
        blobs.delete_all("images/req_a")
        with pytest.raises(NotFound):
            blobs.look("images/req_a/199/1.jpg")

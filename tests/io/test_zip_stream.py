"""ZIPs written as a stream: other programs must be able to read them, whatever their size."""

from __future__ import annotations

import io
import shutil
import subprocess
import tracemalloc
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pixmill.io.zip_stream import CHUNK, ZipEntry, ZipLimits, zip_stream

MOMENT = datetime(2026, 11, 22, 6, 30, 41, tzinfo=UTC)

FILES = {
    "output.csv": b"Serial Number\n1\n",
    "0000001.jpg": b"\xff\xd8 one" * 10,
    "leer.jpg": b"",
    "größe-写真.png": bytes(range(256)) * (CHUNK // 128),
}


def entries(files: dict[str, bytes]) -> Iterator[ZipEntry]:
    for name, content in files.items():
        yield ZipEntry(name, io.BytesIO(content))


def written(path: Path, limits: ZipLimits, files: dict[str, bytes] = FILES) -> Path:
    with path.open("wb") as sink:
        sink.writelines(zip_stream(entries(files), MOMENT, limits))
    return path


LIMITS = [
    pytest.param(ZipLimits(), id="plain"),
    pytest.param(ZipLimits(size=0), id="all sizes and places in ZIP64"),
    pytest.param(ZipLimits(size=100), id="places and large sizes in ZIP64"),
    pytest.param(ZipLimits(size=CHUNK), id="the end in ZIP64"),
    pytest.param(ZipLimits(count=4), id="too many entries for the old end"),
]


@pytest.mark.parametrize("limits", LIMITS)
def test_pythons_zipfile_reads_what_was_put_in(tmp_path: Path, limits: ZipLimits) -> None:
    with zipfile.ZipFile(written(tmp_path / "a.zip", limits)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == FILES
        assert archive.namelist() == list(FILES)


@pytest.mark.skipif(not shutil.which("unzip"), reason="unzip is not installed here")
@pytest.mark.parametrize("limits", LIMITS)
def test_unzip_finds_no_fault(tmp_path: Path, limits: ZipLimits) -> None:
    tested = subprocess.run(
        ["unzip", "-tqq", str(written(tmp_path / "a.zip", limits))],
        capture_output=True,
        check=False,
    )
    assert (tested.returncode, tested.stdout, tested.stderr) == (0, b"", b"")


def test_entries_are_stored_plain_with_the_given_time_and_readable_rights(tmp_path: Path) -> None:
    with zipfile.ZipFile(written(tmp_path / "a.zip", ZipLimits())) as archive:
        for entry in archive.infolist():
            assert entry.compress_type == zipfile.ZIP_STORED
            assert entry.date_time == (2026, 11, 22, 6, 30, 40)
            assert entry.external_attr >> 16 == 0o100644
            assert entry.flag_bits == 1 << 11, "the names are UTF-8, and sizes stand in front"


def test_an_archive_can_be_empty(tmp_path: Path) -> None:
    with zipfile.ZipFile(written(tmp_path / "a.zip", ZipLimits(), {})) as archive:
        assert archive.namelist() == []


def test_the_same_entries_make_the_same_bytes() -> None:
    first, second = (b"".join(zip_stream(entries(FILES), MOMENT)) for _ in range(2))
    assert first == second


def test_every_file_is_closed_even_if_the_reader_stops_in_the_middle() -> None:
    opened: list[io.BytesIO] = []

    def endless() -> Iterator[ZipEntry]:
        while True:
            opened.append(io.BytesIO(bytes(CHUNK // 2)))
            yield ZipEntry(f"{len(opened)}.jpg", opened[-1])

    stream = zip_stream(endless(), MOMENT)
    for _ in range(3):
        next(stream)
    stream.close()
    assert len(opened) > 3
    assert all(file.closed for file in opened)


def test_memory_does_not_grow_with_the_number_of_entries() -> None:
    def tiny(count: int) -> Iterator[ZipEntry]:
        for number in range(count):
            yield ZipEntry(f"{number:07d}.jpg", io.BytesIO(b"tiny"))

    def peak(count: int) -> int:
        tracemalloc.reset_peak()
        for _ in zip_stream(tiny(count), MOMENT):
            pass
        return tracemalloc.get_traced_memory()[1]

    tracemalloc.start()
    try:
        few = peak(5_000)
        many = peak(100_000)
    finally:
        tracemalloc.stop()
    assert many < few + 500_000, "a record of each entry would be 10 MB more"


def test_many_entries_are_all_found(tmp_path: Path) -> None:
    """More than 65,535, so ZIP64 without any help."""
    files = {f"{number:07d}.jpg": b"%d" % number for number in range(70_000)}
    with zipfile.ZipFile(written(tmp_path / "a.zip", ZipLimits(), files)) as archive:
        assert len(archive.namelist()) == 70_000
        assert archive.read("0069999.jpg") == b"69999"

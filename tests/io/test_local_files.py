"""Local source images: regular files only, within the limits, never blocking."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pixmill.core.errors import ImageError, ImageErrorCode
from pixmill.io.fetch import FetchLimits
from pixmill.io.local_files import read_local

LIMITS = FetchLimits(max_bytes=100_000, spill_bytes=10_000)


def refusal(url: str, folder: Path) -> ImageError:
    with pytest.raises(ImageError) as caught:
        read_local(url, folder, LIMITS)
    assert not caught.value.retryable
    return caught.value


@pytest.mark.parametrize("name", ["a.jpg", "ä & ö #1?.jpg", "100%.jpg", "sub/a.jpg"])
def test_a_file_is_read_whatever_its_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"pixels")
    fetched = read_local(path.as_uri(), tmp_path / "elsewhere", LIMITS)
    assert (fetched.body, fetched.size) == (b"pixels", 6)


@pytest.mark.parametrize("form", ["file:sub/a.jpg", "FILE:sub/a.jpg", "file:./sub/../sub/a%2Ejpg"])
def test_a_relative_url_starts_at_the_folder(tmp_path: Path, form: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a.jpg").write_bytes(b"pixels")
    assert read_local(form, tmp_path, LIMITS).body == b"pixels"


def test_the_machine_may_be_named_if_it_is_this_one(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"pixels")
    assert read_local(f"file://localhost{tmp_path}/a.jpg", tmp_path, LIMITS).size == 6
    assert "another machine" in refusal("file://server/share/a.jpg", tmp_path).message


def test_a_big_file_becomes_a_copy_that_may_be_deleted(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(bytes(50_000))
    spill = tmp_path / "spill"
    spill.mkdir()
    fetched = read_local(path.as_uri(), tmp_path, LIMITS, spill)
    assert isinstance(fetched.body, Path)
    assert fetched.body.parent == spill
    assert fetched.body.read_bytes() == path.read_bytes()
    assert fetched.size == 50_000


def test_a_link_to_a_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"pixels")
    (tmp_path / "link.jpg").symlink_to("a.jpg")
    assert read_local("file:link.jpg", tmp_path, LIMITS).body == b"pixels"


def test_a_file_above_the_limit_is_too_large_and_leaves_no_copy(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(bytes(100_001))
    spill = tmp_path / "spill"
    spill.mkdir()
    with pytest.raises(ImageError) as caught:
        read_local("file:a.jpg", tmp_path, LIMITS, spill)
    assert caught.value.code is ImageErrorCode.TOO_LARGE
    assert not list(spill.iterdir())


def test_the_limit_holds_below_the_spill_size_too(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(bytes(101))
    with pytest.raises(ImageError) as caught:
        read_local("file:a.jpg", tmp_path, FetchLimits(max_bytes=100, spill_bytes=1000))
    assert caught.value.code is ImageErrorCode.TOO_LARGE


def test_an_empty_file_is_empty(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    assert refusal("file:a.jpg", tmp_path).code is ImageErrorCode.EMPTY


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("file:none.jpg", "none.jpg cannot be read: No such file"),
        ("file:folder", "folder is not a file"),
        ("file:fifo", "fifo is not a file"),
        ("file:socket", "socket is not a file"),
        ("file:loop", "cannot be read"),
        ("file:///dev/zero", "zero is not a file"),
        ("file:///dev/null", "null is not a file"),
        ("file:a.jpg/b.jpg", "cannot be read: Not a directory"),
        ("file:" + "x" * 5000, "cannot be read: File name too long"),
        ("file:a%00.jpg", "names no file"),
        ("file:", "names no file"),
        ("file://", "names no file"),
        ("http://shop.example/a.jpg", "begin with file:"),
        ("a.jpg", "begin with file:"),
    ],
)
def test_what_is_no_readable_file_is_refused_at_once(tmp_path: Path, url: str, why: str) -> None:
    (tmp_path / "a.jpg").write_bytes(b"pixels")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        error = refusal(url, tmp_path)
    assert error.code is ImageErrorCode.INVALID_URL
    assert why in error.message
    assert str(tmp_path) not in error.message


@pytest.fixture
def nobody_in_particular() -> Iterator[None]:
    """Root may read everything, so root becomes an ordinary user for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


def test_a_file_without_permission_is_refused(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"pixels")
    (tmp_path / "a.jpg").chmod(0)
    request.getfixturevalue("nobody_in_particular")
    assert "Permission denied" in refusal("file:a.jpg", tmp_path).message

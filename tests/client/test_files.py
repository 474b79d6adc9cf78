"""Files on their way up and down: rewindable, whole, never in memory."""

from __future__ import annotations

import gzip
import io
import os
import stat
import threading
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest

from pixmill import Client
from pixmill.client.files import rewindable, whole
from pixmill.core.errors import InvalidOption
from tests.client import broken
from tests.client.broken import answer
from tests.client.test_troubles import ACCEPTED


def test_an_upload_takes_the_same_memory_whatever_its_size(tmp_path: Path) -> None:
    sheet = tmp_path / "big.csv"
    with sheet.open("wb") as file:
        file.truncate(64_000_000)
    with broken.server(answer("202 Accepted", ACCEPTED)) as service, Client(service.url) as client:
        tracemalloc.start()
        try:
            client.upload(sheet)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 8_000_000


def test_pipes_and_unpackers_and_files_half_read_are_sent_as_they_would_be_read(
    tmp_path: Path,
) -> None:
    packed = tmp_path / "products.csv.gz"
    packed.write_bytes(gzip.compress(b"a,b,c\n" * 5000))
    plain = tmp_path / "products.csv"
    plain.write_bytes(b"skipped\na,b,c\n")
    out, into = os.pipe()
    with os.fdopen(into, "wb") as file:
        file.write(b"a,b,c\n" * 100)
    with (
        os.fdopen(out, "rb") as pipe,
        gzip.open(packed) as unpacking,
        plain.open("rb") as half,
        broken.server(answer("202 Accepted", ACCEPTED)) as service,
        Client(service.url) as client,
    ):
        half.readline()
        client.upload(pipe)
        client.upload(unpacking)  # type: ignore[arg-type]  # a binary file in all but its type
        client.upload(half)
        client.upload(io.BytesIO(b"a,b,c\n"))
    assert [body.count(b"a,b,c\n") for _, body in service.calls] == [100, 5000, 1, 1]


def test_a_named_pipe_is_copied_before_it_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "pipe.csv"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(b"a,b,c\n",))
    writer.start()
    with rewindable(path) as file:
        assert file.read() == b"a,b,c\n"
        file.seek(0)
        assert file.read() == b"a,b,c\n"
    writer.join()


def test_what_was_asked_for_arrives_in_the_form(tmp_path: Path) -> None:
    sheet = tmp_path / "products.csv"
    sheet.write_text("x")
    with broken.server(answer("202 Accepted", ACCEPTED)) as service, Client(service.url) as client:
        client.upload(sheet)
        client.upload(
            sheet,
            options={"quality": 70, "maxWidth": 1200},
            invalid_rows="skip",
            serial_col="Nr",
            name_col="Näme",
            url_cols=("A", "B"),
            encoding="cp1252",
            delimiter="\t",
            url_separator=" ",
            neutralise_formulas=False,
            filename="shop.csv",
        )
    bare, full = (body.decode() for _, body in service.calls)
    assert bare.count("form-data; name=") == 2
    for name, value in {
        "options": '{"quality": 70, "maxWidth": 1200}',
        "invalidRows": "skip",
        "serialCol": "Nr",
        "nameCol": "Näme",
        "encoding": "cp1252",
        "delimiter": "\t",
        "urlSeparator": " ",
        "neutraliseFormulas": "false",
    }.items():
        assert f'name="{name}"\r\n\r\n{value}\r\n' in full
    assert full.count('name="urlCol"') == 2
    assert 'filename="shop.csv"' in full


def test_an_upload_tells_how_much_was_sent_again_from_the_start_if_need_be(
    tmp_path: Path,
) -> None:
    sheet = tmp_path / "products.csv"
    sheet.write_bytes(b"a,b,c\n" * 50_000)
    told: list[tuple[int, int]] = []
    with (
        broken.server(broken.cut, answer("202 Accepted", ACCEPTED)) as service,
        Client(service.url) as client,
    ):
        client.upload(sheet, sent=lambda *sent: told.append(sent))
    assert {of for _, of in told} == {300_000}
    assert told[-1] == (300_000, 300_000)
    assert [done for done, _ in told].count(65_536) == 2
    assert [body.count(b"a,b,c\n") for _, body in service.calls] == [50_000, 50_000]


def test_files_that_cannot_be_used_are_named_as_the_caller_did(tmp_path: Path) -> None:
    text = tmp_path / "text.csv"
    text.write_text("a")
    with (
        broken.server(answer("200 OK", ACCEPTED)) as service,
        Client(service.url) as client,
        text.open() as file,
    ):
        with pytest.raises(FileNotFoundError, match=r"'nope\.csv'"):
            client.upload("nope.csv")
        with pytest.raises(FileNotFoundError, match=r"'/nope/x\.csv'"):
            client.download("req_1", "/nope/x.csv")
        with pytest.raises(TypeError, match="open it with 'rb'"):
            client.upload(file)  # type: ignore[arg-type]  # what a caller without mypy may do
        with pytest.raises(TypeError, match="open it with 'wb'"):
            client.download("req_1", file)  # type: ignore[arg-type]  # likewise
    assert service.calls == []


@pytest.mark.parametrize("key", ["", "two words", "schlüssel", "k" * 256])
def test_an_idempotency_key_that_no_header_can_hold_is_refused(key: str) -> None:
    with Client() as client, pytest.raises(InvalidOption, match="visible ASCII"):
        client.upload(io.BytesIO(b"x"), idempotency_key=key)


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "output.csv"
    with suppress(ZeroDivisionError), whole(target) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with whole(target) as file:
        file.write(b"all")
        assert not target.exists()
    assert target.read_bytes() == b"all"


def test_a_link_stays_a_link_and_a_device_a_device(tmp_path: Path) -> None:
    """Renaming something over /dev/null would end it, for root."""
    (tmp_path / "real.csv").write_text("before")
    link = tmp_path / "link.csv"
    link.symlink_to("real.csv")
    with whole(link) as file:
        file.write(b"after")
    assert link.is_symlink()
    assert (tmp_path / "real.csv").read_text() == "after"
    with whole("/dev/null") as file:
        file.write(b"gone")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)

"""The bytes become the right text, or the file says why not."""

from __future__ import annotations

import io

import pytest

from pixmill.core.sheets.encoding import detect_encoding
from tests.core.sheets.helpers import codes, opened, problems, rows

TEXT = "Serial Number,Product Name,Input Image Urls\r\n1,Größe €5,https://a.example/1.jpg\r\n"


@pytest.mark.parametrize(
    ("content", "encoding", "guessed"),
    [
        pytest.param(TEXT.encode(), "utf-8", False, id="utf-8"),
        pytest.param(TEXT.encode("utf-8-sig"), "utf-8", False, id="utf-8 with BOM"),
        pytest.param(b"\xff\xfe" + TEXT.encode("utf-16-le"), "utf-16-le", False, id="utf-16 LE"),
        pytest.param(b"\xfe\xff" + TEXT.encode("utf-16-be"), "utf-16-be", False, id="utf-16 BE"),
        pytest.param(TEXT.encode("utf-16-le"), "utf-16-le", True, id="utf-16 LE without BOM"),
        pytest.param(TEXT.encode("utf-16-be"), "utf-16-be", True, id="utf-16 BE without BOM"),
        pytest.param(TEXT.encode("cp1252"), "cp1252", True, id="cp1252"),
    ],
)
def test_the_encoding_is_found_and_a_guess_is_said(
    content: bytes, encoding: str, guessed: bool
) -> None:
    """The name comes out whole, and a guess comes with a warning."""
    sheet = opened(content)
    assert [row.name for row in sheet.rows()] == ["Größe €5"]
    assert (sheet.layout.encoding, sheet.layout.encoding_guessed) == (encoding, guessed)
    assert [str(w.code) for w in sheet.warnings] == (["encoding_guessed"] if guessed else [])


def test_a_late_letter_decides_as_well_as_an_early_one() -> None:
    """Cp1252 is told from UTF-8 by the whole file, not by its first kilobytes."""
    plain = "".join(f"{n},Mug,https://a.example/{n}.jpg\r\n" for n in range(20_000))
    content = (TEXT.replace("Größe €5", "Mug") + plain + "x,Größe,https://a.example/x\r\n").encode(
        "cp1252"
    )
    assert rows(content)[-1].name == "Größe"


def test_a_letter_on_the_seam_of_two_reads_is_whole() -> None:
    """Letters of several bytes are decoded wherever the reads happen to cut."""
    head = b"Serial Number,Product Name,Input Image Urls\n1,"
    for shift in range(4):
        filler = b"x" * ((1 << 18) - len(head) - shift)
        content = head + filler + "€,https://a.example/1.jpg\n".encode()
        assert rows(content)[0].name == filler.decode() + "€"


def test_a_few_bad_bytes_in_utf8_are_read_as_cp1252_with_a_warning() -> None:
    """One pasted cell in another encoding must not turn all other letters to rubbish."""
    good = "".join(f"{n},Größe {n},https://a.example/{n}.jpg\n" for n in range(9)).encode()
    content = b"sku,name,image\n" + good + b"x,Caf\xe9,https://a.example/x.jpg\n"
    sheet = opened(content)
    assert [row.name for row in sheet.rows()][-2:] == ["Größe 8", "Café"]
    assert [(str(w.code), w.line) for w in sheet.warnings] == [("mixed_encoding", 11)]


def test_bytes_that_cp1252_leaves_out_do_not_stop_the_file() -> None:
    """The five undefined bytes become control characters, as in browsers."""
    content = b"sku,name,image\n1,\x81\xe9\xfc\x9d,https://a.example/1.jpg\n"
    assert rows(content)[0].name == "\x81éü\x9d"


@pytest.mark.parametrize("name", ["cp1251", "latin-1", "UTF-16", "shift_jis", "utf-8-sig", "utf8"])
def test_a_named_encoding_is_used(name: str) -> None:
    """--encoding settles what cannot be guessed."""
    word = {"cp1251": "Кружка", "shift_jis": "写真"}.get(name, "Tasse ü")
    content = f"sku,name,image\n1,{word},https://a.example/1.jpg\n".encode(name)
    sheet = opened(content, encoding=name)
    assert next(sheet.rows()).name == word
    assert not sheet.layout.encoding_guessed


def test_a_file_that_does_not_decode_as_named_is_refused_with_the_line() -> None:
    """The line with the first bad byte is said, counting every kind of line end."""
    content = b"sku,name,image\r\n1,Mug,https://a.example/1.jpg\r2,x,y\n3,Caf\xe9,z\n"
    problem = problems(content, encoding="utf-8")[0]
    assert (str(problem.code), problem.line) == ("undecodable_text", 4)
    assert "--encoding" in problem.message


@pytest.mark.parametrize("name", ["klingon", "zlib", "rot13", "idna", "undefined", "utf-7", "a\0b"])
def test_an_encoding_that_is_none_is_refused(name: str) -> None:
    """Codecs that transform or do not exist are no encodings of files."""
    assert codes(TEXT, encoding=name) == ["unknown_encoding"]


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"PK\x03\x04rest", "Excel"),
        (b"\xd0\xcf\x11\xe0rest", "Excel"),
        (b"\x1f\x8brest", "gzip"),
        (b"%PDF-1.7", "PDF"),
        (b"\n<!DOCTYPE html><html><head><title>Sign in", "web page"),
    ],
)
def test_a_workbook_or_archive_is_named_as_such(content: bytes, word: str) -> None:
    """Who uploads the .xlsx is told to save it as CSV."""
    problem = problems(content)[0]
    assert str(problem.code) == "not_a_csv"
    assert word in problem.message


def test_detection_holds_no_more_than_a_chunk() -> None:
    """The stream is read piece by piece, never whole."""

    class Watched(io.BytesIO):
        largest = 0

        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            self.largest = max(self.largest, len(data))
            return data

    raw = Watched(b"\xe9" + b"a,b\n" * 1_000_000)
    assert detect_encoding(raw, None).name == "cp1252"
    assert raw.largest <= 1 << 18

"""Finds out how the bytes of a CSV become text, in passes over the stream that hold none of it."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from pixmill.core.errors import Problem, SheetRejected
from pixmill.core.sheets.problems import ProblemCode, shown

_CHUNK = 1 << 18

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

_NOT_TEXT = (
    (b"PK\x03\x04", "an Excel or ZIP file"),
    (b"\xd0\xcf\x11\xe0", "an old Excel file"),
    (b"\x1f\x8b", "a gzip file"),
    (b"%PDF", "a PDF file"),
)

_WEB_PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html)[\s>]", re.IGNORECASE)

# Codecs that escape or transform instead of naming a way to save a file.
_NO_FILE_ENCODINGS = {"idna", "punycode", "undefined", "utf-7", "unicode-escape"} | {
    "raw-unicode-escape"
}

_BAD_BYTE = re.compile("[\udc80-\udcff]")
_GOOD_LETTER = re.compile("[^\x00-\x7f\udc80-\udcff]")


def _as_cp1252(error: UnicodeError) -> tuple[str, int]:
    # The five bytes that cp1252 leaves undefined become control characters, as in browsers.
    if not isinstance(error, UnicodeDecodeError):
        raise error
    bad = error.object[error.start : error.end]
    letters = [bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in bad]
    return "".join(letters), error.end


LENIENT = "pixmill-as-cp1252"
"""Error handler: a byte that does not decode is read as the cp1252 letter it most likely is."""

codecs.register_error(LENIENT, _as_cp1252)


@dataclass(frozen=True, slots=True)
class Encoding:
    """How to decode the file. ``errors`` is the handler to decode with."""

    name: str
    errors: str = "strict"
    bom: bool = False
    guessed: bool = False
    warnings: tuple[Problem, ...] = ()


def detect_encoding(raw: BinaryIO, asked: str | None) -> Encoding:
    """The encoding asked for, or told by a BOM, or UTF-8 if all of it decodes, or else cp1252.

    Raises SheetRejected if the file is no text, or does not decode as asked.
    """
    raw.seek(0)
    head = raw.read(4096)
    _refuse_other_files(head)
    bom = next(((mark, name) for mark, name in _BOMS if head.startswith(mark)), None)
    if asked:
        name = _known(asked)
        if bom and (name == bom[1] or bom[1].startswith(name)):
            name = bom[1]
        return _strictly(raw, name, bom=bom is not None and name == bom[1])
    if bom:
        if bom[1] == "utf-8":
            return _utf8_or_cp1252(raw, bom=True)
        return _strictly(raw, bom[1], bom=True)
    wide = _utf16_without_bom(head)
    if wide:
        found = _strictly(raw, wide, bom=False)
        return Encoding(found.name, guessed=True, warnings=(_guess_warning("UTF-16"),))
    return _utf8_or_cp1252(raw, bom=False)


def _refuse_other_files(head: bytes) -> None:
    for magic, kind in _NOT_TEXT:
        if head.startswith(magic):
            raise _rejected(
                ProblemCode.NOT_A_CSV, f"This is {kind}, not a CSV. Open it and save it as CSV."
            )
    if _WEB_PAGE.match(head):
        raise _rejected(
            ProblemCode.NOT_A_CSV,
            "This is a web page, not a CSV: the link it was saved from may ask for a login. "
            "Export the sheet as CSV.",
        )


def _known(asked: str) -> str:
    try:
        name = codecs.lookup(asked.strip()).name
        "x".encode(name)  # refuses codecs such as zlib that do not make text
    except (LookupError, ValueError):
        name = ""
    if not name or name in _NO_FILE_ENCODINGS:
        raise _rejected(
            ProblemCode.UNKNOWN_ENCODING,
            f"There is no text encoding called {shown(asked)}. "
            "Use --encoding with utf-8, utf-16, cp1252 or another name that Python knows.",
        )
    return "utf-8" if name == "utf-8-sig" else name


def _strictly(raw: BinaryIO, name: str, *, bom: bool) -> Encoding:
    line = _first_bad_line(raw, name)
    if line is not None:
        raise SheetRejected([_undecodable(name, line)])
    return Encoding(name, bom=bom)


def _undecodable(name: str, line: int) -> Problem:
    return Problem(
        ProblemCode.UNDECODABLE_TEXT,
        f"Line {line} cannot be read as {name}. "
        "Save the file as UTF-8, or name its encoding with --encoding.",
        line,
    )


def _utf8_or_cp1252(raw: BinaryIO, *, bom: bool) -> Encoding:
    line = _first_bad_line(raw, "utf-8")
    if line is None:
        return Encoding("utf-8", bom=bom)
    good, bad = _count_letters(raw)
    if not bom and good <= bad:
        return Encoding("cp1252", LENIENT, guessed=True, warnings=(_guess_warning("cp1252"),))
    # Mostly UTF-8: two files pasted together, or one damaged cell. Better read than refused.
    warning = Problem(
        ProblemCode.MIXED_ENCODING,
        f"The file is UTF-8, but {bad} bytes of it are not, first on line {line}. "
        "They were read as cp1252; look whether the text there is right.",
        line,
    )
    return Encoding("utf-8", LENIENT, bom=bom, guessed=True, warnings=(warning,))


def _guess_warning(name: str) -> Problem:
    return Problem(
        ProblemCode.ENCODING_GUESSED,
        f"The file does not say its encoding; it was read as {name}. If letters look wrong, "
        "save it as UTF-8 or name its encoding with --encoding.",
    )


def _first_bad_line(raw: BinaryIO, name: str) -> int | None:
    """The line with the first byte that does not decode; None if all of them do."""
    decoder = codecs.getincrementaldecoder(name)()
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    line = 1
    try:
        for chunk in _chunks(raw):
            line += newlines.decode(decoder.decode(chunk)).count("\n")
        decoder.decode(b"", True)  # noqa: FBT003  # the codec protocol's own argument
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode(name, "ignore")
        return line + newlines.decode(before).count("\n")
    except UnicodeError:
        return line
    return None


def _count_letters(raw: BinaryIO) -> tuple[int, int]:
    """How many letters beyond ASCII decode as UTF-8, and how many bytes do not."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    good = bad = 0
    for chunk in _chunks(raw):
        text = decoder.decode(chunk)
        if not text.isascii():
            good += len(_GOOD_LETTER.findall(text))
            bad += len(_BAD_BYTE.findall(text))
    return good, bad + len(decoder.decode(b"", True))  # noqa: FBT003  # the protocol's argument


def _utf16_without_bom(head: bytes) -> str | None:
    # Latin text in UTF-16 has a NUL in nearly every other byte.
    sample = head[:200]
    if len(sample) < 8:
        return None
    half = len(sample) // 2
    if sample[1::2].count(0) > 0.9 * half and sample[0::2].count(0) == 0:
        return "utf-16-le"
    if sample[0::2].count(0) > 0.9 * half and sample[1::2].count(0) == 0:
        return "utf-16-be"
    return None


def _chunks(raw: BinaryIO) -> Iterator[bytes]:
    raw.seek(0)
    while chunk := raw.read(_CHUNK):
        yield chunk


def _rejected(code: ProblemCode, message: str) -> SheetRejected:
    return SheetRejected([Problem(code, message)])

"""Reads physical lines and CSV records from a byte stream, never holding more than one row."""

from __future__ import annotations

import csv
import io
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

from pixmill.core.errors import Problem, SheetRejected
from pixmill.core.limits import SheetLimits
from pixmill.core.sheets.encoding import Encoding
from pixmill.core.sheets.problems import ProblemCode


@dataclass(frozen=True, slots=True)
class Dialect:
    """What separates cells; ``skip_spaces`` for files that write ``a, "b"``."""

    delimiter: str
    skip_spaces: bool = False


_LINE_COST = 60
"""What holding a line costs beside its letters: two million blank lines in a cell are big too."""

_LONGEST_HEAD = 10_000


class _RowTooLong(Exception):
    pass


class Lines:
    """The physical lines of the file with their ends (LF, CR or CRLF), counted row by row.

    Whoever takes a complete row off the lines calls ``row_taken``; the lines since then are kept
    in ``row``, so that a quote left open can be found, and may not pass the cap together.
    """

    def __init__(self, raw: BinaryIO, encoding: Encoding, cap: int) -> None:
        self._raw = raw
        self._encoding = encoding
        self._cap = cap
        self._size = 0
        self.row: list[str] = []
        self.ended = False

    def __iter__(self) -> Generator[str]:
        self._raw.seek(0)
        text = io.TextIOWrapper(
            self._raw, encoding=self._encoding.name, errors=self._encoding.errors, newline=""
        )
        try:
            if text.read(1) != "\ufeff":
                text.seek(0)
            for line in iter(partial(text.readline, self._cap + 1), ""):
                self.row.append(line)
                self._size += len(line) + _LINE_COST
                if self._size > self._cap:
                    raise _RowTooLong
                yield line
            self.ended = True
        finally:
            if not self._raw.closed:
                text.detach()

    def row_taken(self) -> None:
        self.row.clear()
        self._size = 0


def read_records(
    raw: BinaryIO, encoding: Encoding, dialect: Dialect, limits: SheetLimits
) -> Iterator[tuple[int, list[str]]]:
    """Every record of the file with the line on which it begins, blank lines as empty records.

    Raises SheetRejected where a quote is never closed or a row passes the cap.
    """
    raise_cell_limit(limits.max_row_characters)
    lines = Lines(raw, encoding, limits.max_row_characters)
    reader = csv.reader(
        lines, delimiter=dialect.delimiter, skipinitialspace=dialect.skip_spaces, strict=False
    )
    line = 1
    try:
        for cells in reader:
            if lines.ended:
                # The reader only asks for a line after the last one while a quote is open.
                raise SheetRejected([_unclosed_quote(lines.row, line, dialect)])
            yield line, cells
            lines.row_taken()
            line = reader.line_num + 1
    except (_RowTooLong, csv.Error):
        raise SheetRejected([_row_too_long(lines.row, line, dialect, limits)]) from None


def read_head(raw: BinaryIO, encoding: Encoding, filled: int, limits: SheetLimits) -> list[str]:
    """The first physical lines, until so many are not blank; less of a file with huge lines."""
    raise_cell_limit(limits.max_row_characters)
    lines = Lines(raw, encoding, limits.max_row_characters)
    head: list[str] = []
    with closing(iter(lines)) as stream:
        try:
            for line in stream:
                head.append(line)
                filled -= not line.isspace()
                if not filled or len(head) == _LONGEST_HEAD:
                    break
        except _RowTooLong:
            if not head:
                raise SheetRejected([_row_too_long(lines.row, 1, Dialect(","), limits)]) from None
    return head


def raise_cell_limit(characters: int) -> None:
    """Let the csv module read cells this big.

    Its limit is one number for the whole process, so it is only ever raised; what really bounds
    a file is the cap on its lines.
    """
    if csv.field_size_limit() < characters:
        csv.field_size_limit(characters)


def _unclosed_quote(row: list[str], line: int, dialect: Dialect) -> Problem:
    opened = line + (find_open_quote(row, dialect) or 0)
    return Problem(
        ProblemCode.UNCLOSED_QUOTE,
        f'The quote (") opened on line {opened} is never closed, so everything after it would be '
        "one cell. Close the quote, or write a quote that belongs to the text as two.",
        opened,
    )


def _row_too_long(row: list[str], line: int, dialect: Dialect, limits: SheetLimits) -> Problem:
    offset = find_open_quote(row, dialect)
    if offset is None:
        return Problem(
            ProblemCode.ROW_TOO_LONG,
            f"The row on line {line} has more than {limits.max_row_characters:,} characters. "
            "Check that the file has line breaks and is a CSV.",
            line,
        )
    opened = line + offset
    return Problem(
        ProblemCode.UNCLOSED_QUOTE,
        f'The quote (") opened on line {opened} is not closed within '
        f"{limits.max_row_characters:,} characters. Close the quote, or write a quote that "
        "belongs to the text as two.",
        opened,
    )


def find_open_quote(row: list[str], dialect: Dialect) -> int | None:
    """On which of the row's lines, counted from 0, a quote opens that none of them closes."""
    text = "".join(row)
    at = 0
    while True:
        while dialect.skip_spaces and text[at : at + 1] == " ":
            at += 1
        if text[at : at + 1] == '"':
            opened, at = at, _after_quote(text, at + 1)
            if at < 0:
                return _line_of(row, opened)
        at = text.find(dialect.delimiter, at) + 1
        if at == 0:
            return None


def _after_quote(text: str, at: int) -> int:
    """Where the quoted part ends that begins at ``at``; -1 if it never does."""
    while (at := text.find('"', at)) >= 0:
        if text[at + 1 : at + 2] != '"':
            return at + 1
        at += 2
    return -1


def _line_of(row: list[str], position: int) -> int:
    for number, line in enumerate(row):
        position -= len(line)
        if position < 0:
            return number
    return len(row) - 1

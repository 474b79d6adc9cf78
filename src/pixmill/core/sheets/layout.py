"""Finds the delimiter and the header of a CSV, and which of its columns are the three we need."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from pixmill.core.errors import Problem, SheetRejected
from pixmill.core.limits import SheetLimits
from pixmill.core.model import SheetRules
from pixmill.core.sheets.cells import starts_url
from pixmill.core.sheets.columns import choose_columns, guess_columns
from pixmill.core.sheets.encoding import Encoding
from pixmill.core.sheets.headers import Columns, normalise
from pixmill.core.sheets.problems import ProblemCode, shown
from pixmill.core.sheets.records import Dialect, read_head

DELIMITERS = (",", ";", "\t", "|")
_DELIMITER_NAMES = {
    "tab": "\t",
    "\\t": "\t",
    "comma": ",",
    "semicolon": ";",
    "pipe": "|",
}
_SEP_LINE = re.compile(r'"?sep=(.)"?[\s,;|]*', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Layout:
    """How the file is laid out. Columns are indexes into ``header``.

    Several ``serial_columns`` are asked in turn until one is not blank; with none, the row's
    number stands in. ``line_end`` is what the first line ends in.
    """

    encoding: str
    encoding_guessed: bool
    bom: bool
    delimiter: str
    skip_spaces: bool
    line_end: str
    header: tuple[str, ...]
    header_line: int
    source: str
    shop: bool
    serial_columns: tuple[int, ...]
    name_column: int | None
    url_columns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Header:
    dialect: Dialect
    line: int
    cells: list[str]
    columns: Columns


def find_layout(
    raw: BinaryIO, encoding: Encoding, rules: SheetRules, limits: SheetLimits
) -> tuple[Layout, tuple[Problem, ...]]:
    """The layout and what to warn of. Raises SheetRejected with every missing column."""
    # A quoted header may span lines, so more lines than rows are looked at.
    head = read_head(raw, encoding, limits.header_search_rows * 2, limits)
    if not any(line.strip() for line in head):
        raise SheetRejected(
            [Problem(ProblemCode.EMPTY_FILE, "The file is empty. It needs a header and rows.")]
        )
    header = _find_header(head, rules, limits)
    if len(header.cells) > limits.max_columns:
        message = (
            f"The header on line {header.line} has {len(header.cells):,} columns; "
            f"at most {limits.max_columns:,} are read. Remove the columns that are not needed."
        )
        raise SheetRejected([Problem(ProblemCode.TOO_MANY_COLUMNS, message, header.line)])
    columns = choose_columns(header.cells, header.line, rules)
    layout = Layout(
        encoding=encoding.name,
        encoding_guessed=encoding.guessed,
        bom=encoding.bom,
        delimiter=header.dialect.delimiter,
        skip_spaces=header.dialect.skip_spaces,
        line_end="\r\n" if head[0].endswith("\r\n") else "\n",
        header=tuple(header.cells),
        header_line=header.line,
        source=columns.source,
        shop=columns.shop,
        serial_columns=columns.serial,
        name_column=columns.name,
        url_columns=columns.urls,
    )
    return layout, encoding.warnings + _duplicates(header, columns)


def _find_header(head: list[str], rules: SheetRules, limits: SheetLimits) -> _Header:
    """The row that names the most of the three columns, under whichever delimiter it does."""
    best: _Header | None = None
    widest: _Header | None = None
    for delimiter in _delimiters(head, rules):
        found, first = _search(head, delimiter, rules, limits)
        if found and (best is None or found.columns.roles > best.columns.roles):
            best = found
        if first and (widest is None or len(first.cells) > len(widest.cells)):
            widest = first
    header = best or widest
    if header is None:
        raise SheetRejected([_no_header(1, "The file has no header.")])
    if best is None and any(starts_url(cell.strip()) for cell in header.cells):
        raise SheetRejected(
            [
                _no_header(
                    header.line, f"Line {header.line} has image URLs where a header should be."
                )
            ]
        )
    return header


def _no_header(line: int, what: str) -> Problem:
    mend = " Add a first line such as: Serial Number,Product Name,Input Image Urls"
    return Problem(ProblemCode.HEADER_NOT_FOUND, what + mend, line)


def _search(
    head: list[str], delimiter: str, rules: SheetRules, limits: SheetLimits
) -> tuple[_Header | None, _Header | None]:
    """The best header that this delimiter gives, if any, and the first row that is not blank."""
    dialect = Dialect(delimiter, skip_spaces=_spaces_before_quotes(head, delimiter))
    best: _Header | None = None
    first: _Header | None = None
    for count, (line, cells) in enumerate(_rows(head, dialect)):
        if count == limits.header_search_rows:
            break
        header = _Header(dialect, line, cells, guess_columns(cells[: limits.max_columns], rules))
        first = first or header
        roles = header.columns.roles
        # Amazon writes two headers, one for people and one for programs: the lower one counts.
        adjoins = best is not None and roles == best.columns.roles == 3
        if roles and (best is None or roles > best.columns.roles or adjoins):
            best = header
        elif best is not None and best.columns.roles == 3:
            break
    return best, first


def _rows(head: list[str], dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(
        head, delimiter=dialect.delimiter, skipinitialspace=dialect.skip_spaces, strict=False
    )
    line = 1
    said = _sep_line(head)
    for cells in reader:
        if any(cell.strip() for cell in cells) and not (said and line == 1):
            yield line, cells
        line = reader.line_num + 1


def _sep_line(head: list[str]) -> re.Match[str] | None:
    return _SEP_LINE.fullmatch(head[0].rstrip("\r\n"))


def _spaces_before_quotes(head: list[str], delimiter: str) -> bool:
    # Files made by hand write: 1, "Red, green", "https://…". Read to the letter, that quote
    # would be part of the text and the comma within it would end the cell.
    pattern = re.compile(re.escape(delimiter) + ' +"(?!")')
    return delimiter != " " and any(pattern.search(line) for line in head)


def _delimiters(head: list[str], rules: SheetRules) -> tuple[str, ...]:
    if rules.delimiter:
        asked = _DELIMITER_NAMES.get(rules.delimiter.lower(), rules.delimiter)
        if not _can_delimit(asked):
            message = (
                f"{shown(rules.delimiter)} cannot separate cells. "
                "Use --delimiter with one of: comma, semicolon, tab, pipe, or one such character."
            )
            raise SheetRejected([Problem(ProblemCode.INVALID_DELIMITER, message)])
        return (asked,)
    said = _sep_line(head)
    if said and _can_delimit(said[1]):
        return (said[1],)
    return DELIMITERS


def _can_delimit(text: str) -> bool:
    return len(text) == 1 and not text.isalnum() and text not in '"\r\n \0'


def _duplicates(header: _Header, columns: Columns) -> tuple[Problem, ...]:
    """Warn where a second column has the very header that the chosen one has."""
    normals = [normalise(cell) for cell in header.cells]
    chosen = [*columns.serial, *([] if columns.name is None else [columns.name])]
    return tuple(
        Problem(
            ProblemCode.DUPLICATE_HEADER,
            f"{normals.count(normals[index])} columns are called "
            f"{shown(header.cells[index].strip())}; the first of them is read.",
            header.line,
            header.cells[index].strip(),
        )
        for index in chosen
        if normals[index] and normals.count(normals[index]) > 1
    )

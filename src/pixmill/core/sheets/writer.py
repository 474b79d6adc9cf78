"""Writes the CSVs that come out: the input with its output URLs, and the list of failures."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from pixmill.core.limits import SheetLimits
from pixmill.core.model import SheetRules
from pixmill.core.sheets.headers import normalise
from pixmill.core.sheets.reader import Row, read_sheet

OUTPUT_HEADER = "Output Image Urls"
ERROR_HEADERS = (
    *("Serial Number", "Product Name", "Input Image Url"),
    *("Error Code", "Error Message", "Attempts"),
)

# What spreadsheets run as a formula (OWASP, "CSV Injection").
_FORMULA_STARTS = frozenset("=+-@\t\r")
_NUMBER = re.compile(r"[+-]?[0-9]+(?:[.,][0-9]+)*(?:[eE][+-]?[0-9]+)?%?")


@dataclass(frozen=True, slots=True)
class ErrorLine:
    """One failed image reference, for the error report."""

    serial_number: str
    product_name: str
    url: str
    code: str
    message: str
    attempts: int


def write_output(
    raw: BinaryIO,
    rules: SheetRules,
    outputs: Iterator[str],
    sink: BinaryIO,
    limits: SheetLimits = SheetLimits(),  # noqa: B008  # frozen, so one default can be shared
    *,
    partial: bool = False,
) -> None:
    """Write every input row and column in its order, with the column ``Output Image Urls``.

    ``outputs`` has one string for each link of each good row in order, blank where it failed;
    more or fewer raise ValueError, but if it is ``partial``, what it lacks at its end is blank.
    A column of that name that is already there is filled anew.
    """
    sheet = read_sheet(raw, rules, limits)
    layout = sheet.layout
    placed = _Placement(layout.header)
    if layout.bom or layout.encoding not in {"utf-8", "ascii"}:
        sink.write(codecs.BOM_UTF8)  # without it, spreadsheets take UTF-8 for their own code page
    write = _row_writer(sink, layout.delimiter, layout.line_end, neutral=rules.neutralise_formulas)
    for line, cells, row in sheet.records():
        if line == layout.header_line:
            write(placed.header(cells))
        elif row is not None:
            write(placed.row(cells, _joined(row, outputs, partial=partial)))
        else:
            write(cells)
    if next(outputs, None) is not None:
        raise ValueError("there are more outputs than links in the sheet")


def write_errors(
    lines: Iterable[ErrorLine],
    sink: BinaryIO,
    *,
    neutralise_formulas: bool = True,
    bom: bool = False,
) -> None:
    """Write the error report: one line for each image reference that failed."""
    if bom:
        sink.write(codecs.BOM_UTF8)
    write = _row_writer(sink, ",", "\n", neutral=neutralise_formulas)
    write(ERROR_HEADERS)
    for line in lines:
        write(
            (
                *(line.serial_number, line.product_name, line.url),
                *(line.code, line.message, str(line.attempts)),
            )
        )


def neutralised(cell: str) -> str:
    """The cell with an apostrophe before it where a spreadsheet would run it as a formula."""
    if cell and cell[0] in _FORMULA_STARTS and not _NUMBER.fullmatch(cell):
        return "'" + cell
    return cell


class _Placement:
    """Where the output column stands: where the input has it already, or else after the last."""

    def __init__(self, header: Sequence[str]) -> None:
        wanted = normalise(OUTPUT_HEADER)
        self._width = len(header)
        self._at = next(
            (index for index, cell in enumerate(header) if normalise(cell) == wanted), None
        )

    def header(self, cells: list[str]) -> list[str]:
        return cells if self._at is not None else [*cells, OUTPUT_HEADER]

    def row(self, cells: list[str], output: str) -> list[str]:
        """Short rows are filled up; what a row has beyond the header stays beyond it."""
        filled = cells + [""] * (self._width - len(cells))
        if self._at is not None:
            filled[self._at] = output
        else:
            filled.insert(self._width, output)
        return filled


def _joined(row: Row, outputs: Iterator[str], *, partial: bool) -> str:
    if row.problems:
        return ""  # left out when the file was taken in, so nobody has outputs for it
    if partial:
        return ",".join([next(outputs, "") for _ in row.links])
    try:
        return ",".join([next(outputs) for _ in row.links])
    except StopIteration:
        raise ValueError("there are fewer outputs than links in the sheet") from None


def _row_writer(
    sink: BinaryIO, delimiter: str, line_end: str, *, neutral: bool
) -> Callable[[Sequence[str]], object]:
    # The csv module quotes a lone CR or LF only if the line end contains it, so it is given both
    # and the end is put right here.
    end = line_end.encode()
    target = _Target(lambda text: sink.write(text[:-2].encode() + end))
    writer = csv.writer(target, delimiter=delimiter, lineterminator="\r\n")
    if not neutral:
        return writer.writerow
    return lambda cells: writer.writerow([neutralised(cell) for cell in cells])


@dataclass(frozen=True, slots=True)
class _Target:
    """What csv.writer writes to: it calls ``write`` once for each row."""

    write: Callable[[str], object]

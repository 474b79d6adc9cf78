"""Opens a CSV: finds its encoding, delimiter and columns, then streams its rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import BinaryIO

from pixmill.core.errors import Problem, SheetRejected
from pixmill.core.limits import SheetLimits
from pixmill.core.model import SheetRules
from pixmill.core.sheets.encoding import Encoding, detect_encoding
from pixmill.core.sheets.layout import Layout, find_layout
from pixmill.core.sheets.problems import ProblemCode
from pixmill.core.sheets.records import Dialect, read_records
from pixmill.core.sheets.rows import Link, Row, RowParser

__all__ = ["Layout", "Link", "Row", "Sheet", "read_sheet"]


def read_sheet(raw: BinaryIO, rules: SheetRules, limits: SheetLimits = SheetLimits()) -> Sheet:  # noqa: B008  # frozen, so one default can be shared
    """Look at the file and say how it will be read. ``raw`` must be seekable.

    Raises SheetRejected if the file as a whole is unusable.
    """
    if rules.local_folder is not None and not PurePosixPath(rules.local_folder).is_absolute():
        raise ValueError("SheetRules.local_folder must be an absolute path")
    encoding = detect_encoding(raw, rules.encoding)
    layout, warnings = find_layout(raw, encoding, rules, limits)
    return Sheet(raw, encoding, layout, warnings, rules, limits)


class Sheet:
    """A CSV whose layout is known. One pass at a time: passes share the stream's position."""

    def __init__(
        self,
        raw: BinaryIO,
        encoding: Encoding,
        layout: Layout,
        warnings: tuple[Problem, ...],
        rules: SheetRules,
        limits: SheetLimits,
    ) -> None:
        self.layout = layout
        self.warnings = warnings
        self._raw = raw
        self._encoding = encoding
        self._rules = rules
        self._limits = limits

    def rows(self) -> Iterator[Row]:
        """The rows that are not blank, good and bad. One streaming pass from the beginning.

        Raises SheetRejected where the file cannot be read on: an open quote, too many rows.
        """
        for _, _, row in self.records():
            if row is not None:
                yield row

    def records(self) -> Iterator[tuple[int, list[str], Row | None]]:
        """Every record of the file: its line, its cells, and its row if it is one.

        What stands above the header, the header itself and blank lines are no rows.
        """
        layout = self.layout
        dialect = Dialect(layout.delimiter, layout.skip_spaces)
        parser = RowParser(layout, self._rules, self._limits)
        for line, cells in read_records(self._raw, self._encoding, dialect, self._limits):
            row = parser.parse(line, cells) if cells and line > layout.header_line else None
            if parser.count > self._limits.max_rows:
                raise SheetRejected([self._too_many_rows(line)])
            yield line, cells, row

    def _too_many_rows(self, line: int) -> Problem:
        return Problem(
            ProblemCode.TOO_MANY_ROWS,
            f"The file has more than {self._limits.max_rows:,} rows. Split it into several files.",
            line,
        )

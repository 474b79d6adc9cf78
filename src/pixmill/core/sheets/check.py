"""Checks a whole CSV before it is accepted: counts what it holds and reports what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from pixmill.core.errors import Problem, SheetRejected
from pixmill.core.limits import SheetLimits
from pixmill.core.model import SheetRules
from pixmill.core.sheets.problems import MAX_REPORTED, ProblemCode, listed
from pixmill.core.sheets.products import merge_rows
from pixmill.core.sheets.reader import Layout, Row, Sheet, read_sheet


@dataclass(frozen=True, slots=True)
class SheetSummary:
    """What an accepted CSV holds. ``total_rows`` counts the ``skipped_rows`` too.

    ``total_images`` counts references: a URL named twice counts twice.
    """

    layout: Layout
    total_rows: int
    total_products: int
    total_images: int
    skipped_rows: int
    warnings: tuple[Problem, ...]


def check_sheet(
    raw: BinaryIO,
    rules: SheetRules,
    limits: SheetLimits = SheetLimits(),  # noqa: B008  # frozen, so one default can be shared
) -> SheetSummary:
    """Read the whole file in constant memory and count it.

    Raises SheetRejected with the first 100 problems and their number; with
    ``rules.skip_invalid_rows`` bad rows are counted and become warnings instead, unless nothing
    is left.
    """
    sheet = read_sheet(raw, rules, limits)
    tally = _Tally()
    products = images = 0
    try:
        for product in merge_rows(tally.over(sheet)):
            products += 1
            images += len(product.links)
    except SheetRejected as fatal:
        raise tally.rejection(*fatal.problems) from None
    if tally.total and not rules.skip_invalid_rows:
        raise tally.rejection()
    if not images:
        raise tally.rejection(_nothing_to_do(tally, sheet))
    return SheetSummary(
        layout=sheet.layout,
        total_rows=tally.rows,
        total_products=products,
        total_images=images,
        skipped_rows=tally.bad_rows,
        warnings=sheet.warnings + tuple(tally.problems),
    )


class _Tally:
    """Counts rows and problems as they pass by, and keeps the first problems."""

    def __init__(self) -> None:
        self.rows = 0
        self.bad_rows = 0
        self.total = 0
        self.problems: list[Problem] = []

    def over(self, sheet: Sheet) -> Iterator[Row]:
        for row in sheet.rows():
            self.rows += 1
            if row.problems:
                self.bad_rows += 1
                self.add(row.problems)
            yield row

    def add(self, problems: Sequence[Problem]) -> None:
        self.total += len(problems)
        self.problems += problems[: MAX_REPORTED - len(self.problems)]

    def rejection(self, *foremost: Problem) -> SheetRejected:
        """The rejection, with what ends the matter named before the rows' own problems."""
        problems = [*foremost, *self.problems][:MAX_REPORTED]
        return SheetRejected(problems, self.total + len(foremost))


def _nothing_to_do(tally: _Tally, sheet: Sheet) -> Problem:
    if not tally.rows:
        return Problem(
            ProblemCode.NO_ROWS,
            f"The file has a header on line {sheet.layout.header_line} but no rows below it.",
        )
    if tally.bad_rows:
        return Problem(ProblemCode.NO_IMAGES, "No image is left once the bad rows are skipped.")
    columns = listed(sheet.layout.header[index] for index in sheet.layout.url_columns)
    return Problem(
        ProblemCode.NO_IMAGES,
        f"No row has an image URL; looked in: {columns}. Name other columns with --url-col.",
    )

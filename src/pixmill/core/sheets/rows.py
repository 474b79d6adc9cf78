"""Makes one CSV record into a row: key, name, image links, and everything wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pixmill.core.errors import Problem
from pixmill.core.limits import SheetLimits
from pixmill.core.model import SheetRules
from pixmill.core.sheets.cells import BLANK, split_cell, starts_url
from pixmill.core.sheets.layout import Layout
from pixmill.core.sheets.links import PLAIN_URL, BadLink, clean_url, file_url, is_path
from pixmill.core.sheets.problems import ProblemCode, shown


@dataclass(frozen=True, slots=True)
class Link:
    """One image reference.

    ``written`` is what the CSV says, trimmed; ``url`` is what is fetched, for a local file an
    absolute file:// URL; ``column`` is the header over it.
    """

    written: str
    url: str
    column: str


@dataclass(frozen=True, slots=True)
class Row:
    """One row that is not blank.

    ``cells`` are as the file has them. A row that ``continues`` the product of the row before it
    carries that product's serial number and name.
    """

    line: int
    cells: tuple[str, ...]
    serial_number: str
    name: str
    links: tuple[Link, ...]
    problems: tuple[Problem, ...]
    continues: bool


class RowParser:
    """Parses the rows of one pass in their order, since a row may continue the one before."""

    def __init__(self, layout: Layout, rules: SheetRules, limits: SheetLimits) -> None:
        self._layout = layout
        self._limits = limits
        self._separator = rules.url_separator or None
        self._folder = rules.local_folder
        self._width = len(layout.header)
        self._headers = [header.strip(BLANK) for header in layout.header]
        self._name_column = layout.name_column
        self._url_columns = [(column, self._headers[column]) for column in layout.url_columns]
        self._last: tuple[str, str] | None = None
        self._product_links = 0
        self.count = 0

    def parse(self, line: int, cells: list[str]) -> Row | None:
        """The row; None if every cell is blank."""
        given = cells
        if len(cells) < self._width:
            given = cells + [""] * (self._width - len(cells))
        problems: list[Problem] = []
        links = self._links(line, given, problems)
        has_images = bool(links or problems)
        serial = self._serial(given)
        name = "" if self._name_column is None else given[self._name_column].strip(BLANK)
        if not (serial or name or has_images) and not any(cell.strip(BLANK) for cell in cells):
            return None
        self.count += 1
        serial, name, continues = self._identity(serial, name, has_images=has_images)
        self._last = (serial, name)
        self._product_links = len(links) + (self._product_links if continues else 0)
        if not has_images and not self._layout.shop:
            problems.append(self._no_image(line))
        if not serial or not name or "\0" in serial or "\0" in name:
            self._check_identity(line, serial, name, problems)
        if len(cells) > self._width:
            self._check_extra(line, cells, problems)
        if self._product_links > self._limits.max_urls_per_product:
            problems.append(self._too_many_in_product(line, serial))
        return Row(line, tuple(cells), serial, name, tuple(links), tuple(problems), continues)

    def _serial(self, given: Sequence[str]) -> str:
        for column in self._layout.serial_columns:
            serial = given[column].strip(BLANK)
            if serial:
                return serial
        return ""

    def _identity(self, serial: str, name: str, *, has_images: bool) -> tuple[str, str, bool]:
        """Serial number and name, and whether they are those of the row before.

        Shopify writes one row per image and leaves the title out of all but the first; Magento
        leaves the key out as well.
        """
        if not self._layout.serial_columns:
            return str(self.count), name, False
        if self._last is not None:
            last_serial, last_name = self._last
            if serial:
                if serial == last_serial and (not name or name == last_name):
                    return serial, last_name, True
            elif not name and (has_images or self._layout.shop):
                return last_serial, last_name, True
        return serial, name, False

    def _links(self, line: int, given: Sequence[str], problems: list[Problem]) -> list[Link]:
        links: list[Link] = []
        for column, header in self._url_columns:
            text = given[column]
            if not text:
                continue
            if (
                self._separator is None
                and len(text) <= self._limits.max_url_length
                and PLAIN_URL.fullmatch(text)
            ):
                links.append(Link(text, text, header))
            else:
                self._split(line, text, header, links, problems)
        return links

    def _split(
        self, line: int, text: str, header: str, links: list[Link], problems: list[Problem]
    ) -> None:
        pieces = split_cell(text, self._separator, paths=self._folder is not None)
        if len(pieces) > self._limits.max_urls_per_cell:
            message = (
                f"The cell lists {len(pieces):,} images; at most "
                f"{self._limits.max_urls_per_cell:,} are allowed. Spread them over several rows "
                "of the same product."
            )
            problems.append(Problem(ProblemCode.TOO_MANY_URLS, message, line, header))
            return
        for piece in pieces:
            try:
                links.append(Link(piece, self._resolve(piece), header))
            except BadLink as bad:
                problems.append(Problem(bad.code, bad.message, line, header))

    def _resolve(self, piece: str) -> str:
        if self._folder is not None and is_path(piece):
            return file_url(piece, self._folder, self._limits.max_url_length)
        return clean_url(piece, self._limits.max_url_length)

    def _no_image(self, line: int) -> Problem:
        return Problem(
            ProblemCode.NO_IMAGE,
            "The row has no image URL. Add one, or remove the row.",
            line,
            self._url_columns[0][1],
        )

    def _check_identity(self, line: int, serial: str, name: str, problems: list[Problem]) -> None:
        layout = self._layout
        if not serial:
            message = "The row has no serial number. Fill it in, or remove the row."
            header = self._headers[layout.serial_columns[0]]
            problems.append(Problem(ProblemCode.MISSING_SERIAL_NUMBER, message, line, header))
        if not name and self._name_column is not None:
            message = "The row has no product name. Fill it in, or remove the row."
            header = self._headers[self._name_column]
            problems.append(Problem(ProblemCode.MISSING_NAME, message, line, header))
        if "\0" in serial + name:
            message = (
                "The row has a NUL character: the file may be damaged. Save it again as UTF-8."
            )
            problems.append(Problem(ProblemCode.NUL_CHARACTER, message, line))

    def _check_extra(self, line: int, cells: list[str], problems: list[Problem]) -> None:
        extra = [cell.strip(BLANK) for cell in cells[self._width :]]
        extra = [cell for cell in extra if cell]
        if not extra:
            return
        delimiter = "a TAB" if self._layout.delimiter == "\t" else f"'{self._layout.delimiter}'"
        several = starts_url(extra[0])
        what = "Several URLs of one cell" if several else f"A cell that contains {delimiter}"
        problems.append(
            Problem(
                ProblemCode.EXTRA_CELLS,
                f"The row has more cells than the header ({len(cells):,} instead of "
                f"{self._width:,}), from {shown(extra[0], 40)} on. "
                f"{what} must stand in double quotes.",
                line,
            )
        )

    def _too_many_in_product(self, line: int, serial: str) -> Problem:
        return Problem(
            ProblemCode.TOO_MANY_URLS,
            f"The rows of product {shown(serial, 40)} list more than "
            f"{self._limits.max_urls_per_product:,} images together. Split the product.",
            line,
        )

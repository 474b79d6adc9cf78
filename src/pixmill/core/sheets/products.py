"""Merges the consecutive rows of one key into products."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pixmill.core.sheets.rows import Link, Row


@dataclass(frozen=True, slots=True)
class SheetProduct:
    """One product of the CSV: its first row's line, and the links of all its rows in order."""

    line: int
    serial_number: str
    name: str
    links: tuple[Link, ...]


def merge_rows(rows: Iterable[Row]) -> Iterator[SheetProduct]:
    """The products in the order of their first rows; rows with problems are left out.

    Where the first row of a product is left out, its later rows still make one.
    """
    first: Row | None = None
    links: list[Link] = []
    for row in rows:
        if first is not None and not row.continues:
            yield _product(first, links)
            first = None
        if row.problems:
            continue
        if first is None:
            first, links = row, []
        links += row.links
    if first is not None:
        yield _product(first, links)


def _product(first: Row, links: list[Link]) -> SheetProduct:
    return SheetProduct(first.line, first.serial_number, first.name, tuple(links))

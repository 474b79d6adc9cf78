"""Chooses the three columns of a header: those named by the caller first, then those known."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace

from pixmill.core.errors import Problem, SheetRejected
from pixmill.core.model import SheetRules
from pixmill.core.sheets.headers import CUSTOM, Columns, normalise, recognise
from pixmill.core.sheets.problems import ProblemCode, listed, shown


def guess_columns(header: Sequence[str], rules: SheetRules) -> Columns:
    """What this row would be as a header; columns that the rules name but it lacks are empty."""
    columns = recognise(header)
    if not (rules.serial_col or rules.name_col or rules.url_cols):
        return columns
    if not columns.shop:
        columns = replace(columns, source=CUSTOM)
    if rules.serial_col:
        columns = replace(columns, serial=tuple(_named(header, rules.serial_col)[:1]))
    if rules.name_col:
        columns = replace(columns, name=next(iter(_named(header, rules.name_col)), None))
    if rules.url_cols:
        named = [index for column in rules.url_cols for index in _named(header, column)]
        columns = replace(columns, urls=tuple(dict.fromkeys(named)))
    return columns


def choose_columns(header: Sequence[str], line: int, rules: SheetRules) -> Columns:
    """The columns to read. Raises SheetRejected with one problem for each that is missing."""
    problems = [
        _unknown(asked, flag, header, line)
        for flag, asked in _asked(rules)
        if not _named(header, asked)
    ]
    columns = guess_columns(header, rules)
    # Whoever names the image column may have a file with nothing else in it.
    only_urls = bool(rules.url_cols)
    if not columns.serial and not rules.serial_col and not only_urls:
        problems.append(_missing("serial number", "--serial-col", header, line))
    if columns.name is None and not rules.name_col and not only_urls:
        problems.append(_missing("product name", "--name-col", header, line))
    if not columns.urls and not rules.url_cols:
        problems.append(_missing("image URL", "--url-col", header, line))
    if problems:
        raise SheetRejected(problems)
    return columns


def _asked(rules: SheetRules) -> list[tuple[str, str]]:
    asked = [("--serial-col", rules.serial_col), ("--name-col", rules.name_col)]
    asked += [("--url-col", column) for column in rules.url_cols]
    return [(flag, column) for flag, column in asked if column]


def _named(header: Sequence[str], asked: str) -> list[int]:
    """The columns of this name: to the letter if there are any, or else by the normal form."""
    asked = asked.strip()
    exact = [index for index, cell in enumerate(header) if cell.strip() == asked]
    if exact:
        return exact
    normal = normalise(asked)
    return [index for index, cell in enumerate(header) if normal and normalise(cell) == normal]


def _unknown(asked: str, flag: str, header: Sequence[str], line: int) -> Problem:
    normals = {normalise(cell): cell.strip() for cell in header[:500]}
    near = difflib.get_close_matches(normalise(asked), [n for n in normals if n], n=1)
    hint = f"Did you mean {shown(normals[near[0]])}? " if near else ""
    return Problem(
        ProblemCode.UNKNOWN_COLUMN,
        f"There is no column {shown(asked)} (given with {flag}). {hint}"
        f"Columns on line {line} are: {listed(header)}.",
        line,
        asked,
    )


def _missing(what: str, flag: str, header: Sequence[str], line: int) -> Problem:
    split = ""
    if len([cell for cell in header if cell.strip()]) == 1:
        split = " If that is several columns in one, name what separates them with --delimiter."
    return Problem(
        ProblemCode.MISSING_COLUMN,
        f"No {what} column was found. Columns on line {line} are: {listed(header)}. "
        f"Rename one, or name the right one with {flag}.{split}",
        line,
    )

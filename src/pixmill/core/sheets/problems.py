"""The codes of everything that can be wrong with a CSV, and how its text is quoted in messages."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

MAX_REPORTED = 100
"""How many problems are spelled out; beyond it they are only counted."""


class ProblemCode(StrEnum):
    """What is wrong. The names are public: the API and the command line show them."""

    # The file as a whole.
    EMPTY_FILE = "empty_file"
    NOT_A_CSV = "not_a_csv"
    UNKNOWN_ENCODING = "unknown_encoding"
    UNDECODABLE_TEXT = "undecodable_text"
    INVALID_DELIMITER = "invalid_delimiter"
    HEADER_NOT_FOUND = "header_not_found"
    MISSING_COLUMN = "missing_column"
    UNKNOWN_COLUMN = "unknown_column"
    TOO_MANY_COLUMNS = "too_many_columns"
    TOO_MANY_ROWS = "too_many_rows"
    UNCLOSED_QUOTE = "unclosed_quote"
    ROW_TOO_LONG = "row_too_long"
    NO_ROWS = "no_rows"
    NO_IMAGES = "no_images"

    # One row.
    MISSING_SERIAL_NUMBER = "missing_serial_number"
    MISSING_NAME = "missing_name"
    NO_IMAGE = "no_image"
    INVALID_URL = "invalid_url"
    URL_TOO_LONG = "url_too_long"
    TOO_MANY_URLS = "too_many_urls"
    EXTRA_CELLS = "extra_cells"
    NUL_CHARACTER = "nul_character"

    # Warnings: the file is usable, but look twice.
    ENCODING_GUESSED = "encoding_guessed"
    MIXED_ENCODING = "mixed_encoding"
    DUPLICATE_HEADER = "duplicate_header"


def shown(text: str, limit: int = 80) -> str:
    """The text in quotes, on one line and cut short, fit for a message."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return "'" + "".join(char if char.isprintable() else " " for char in cut) + "'"


def listed(headers: Iterable[str], limit: int = 20) -> str:
    """The first headers in quotes and how many more there are."""
    named = [header for header in headers if header.strip()]
    if not named:
        return "none"
    more = f" and {len(named) - limit} more" if len(named) > limit else ""
    return ", ".join(shown(header.strip(), 40) for header in named[:limit]) + more

"""Splits a cell into the image references that it lists, without breaking URLs at their commas."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from itertools import pairwise

# Blanks beyond str.isspace that spreadsheets, chats and web pages leave around copied text:
# zero-width characters, direction marks, byte order mark.
INVISIBLE = "\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\ufeff"
BLANK = (
    " \t\n\r\v\f\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007"
    "\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000" + INVISIBLE
)
_SEPARATORS = ",;|" + BLANK

# Only looks one or two characters back, so it stays linear however long a run of blanks is.
_NEXT_URL = re.compile(rf"(?<=[{re.escape(_SEPARATORS)}])(?<!\\,)[\"'<]?https?://", re.IGNORECASE)
_NEXT_PROTOCOL_RELATIVE = re.compile(
    rf"(?<=[{re.escape(_SEPARATORS)}])(?<!\\,)[\"'<]?(?:https?:)?//", re.IGNORECASE
)
_PLAIN_SEPARATOR = re.compile(r"[\r\n|;,]")
_URL_START = re.compile(r"[\"'<]?https?://", re.IGNORECASE)
_ESCAPES = {"\\n": "\n", "\\t": "\t", "newline": "\n", "tab": "\t"}


def split_cell(text: str, separator: str | None = None, *, paths: bool = False) -> list[str]:
    """The references in the cell, as written but trimmed.

    Without a ``separator`` the text is split only where a comma, semicolon, pipe or blank is
    followed by http:// or https://; a JSON array is read as one. With it, exactly there. With
    ``paths``, what does not begin with a scheme is a list of file names, separated by line
    breaks, pipes, semicolons or commas.
    """
    text = text.strip(BLANK)
    if not text:
        return []
    if separator:
        return _split_exactly(text, separator)
    if text[0] == "[" and text[-1] == "]":
        items = _json_strings(text)
        if items is not None:
            return _kept(items)
        text = text[1:-1].strip(_SEPARATORS)
    pieces = _split_before_urls(text)
    return _split_paths(pieces) if paths else pieces


def starts_url(text: str) -> bool:
    """Whether the text begins as a URL does, be it a good one or not."""
    return _URL_START.match(text) is not None


def _split_before_urls(text: str) -> list[str]:
    pattern = _NEXT_PROTOCOL_RELATIVE if text.lstrip(_SEPARATORS).startswith("//") else _NEXT_URL
    starts = [0, *(match.start() for match in pattern.finditer(text)), len(text)]
    return _kept(_without_separators(text[start:end]) for start, end in pairwise(starts))


def _without_separators(piece: str) -> str:
    kept = piece.strip(_SEPARATORS)
    # The last comma of "…/a\," is escaped: it belongs to the URL.
    return kept + "," if kept.endswith("\\") and f"{kept}," in piece else kept


def _split_exactly(text: str, separator: str) -> list[str]:
    separator = _ESCAPES.get(separator.lower(), separator)
    if separator == ",":
        return _kept(re.split(r"(?<!\\),", text))
    return _kept(text.split(separator))


def _split_paths(pieces: list[str]) -> list[str]:
    split: list[str] = []
    for piece in pieces:
        split += [piece] if starts_url(piece) else _PLAIN_SEPARATOR.split(piece)
    return _kept(split)


def _json_strings(text: str) -> list[str] | None:
    try:
        items = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return items if all(isinstance(item, str) for item in items) else None


def _kept(pieces: Iterable[str]) -> list[str]:
    return [trimmed for piece in pieces if (trimmed := piece.strip(BLANK))]

"""Byte ranges of a file, as ``Range`` asks for them (RFC 9110, section 14)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ONE_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes from ``start`` up to, but not including, ``end``."""

    start: int
    end: int


class NotSatisfiable(ValueError):
    """The file has none of the bytes that are asked for."""


def span_of(header: str | None, size: int) -> Span | None:
    """The bytes that are asked for; None for all of them.

    What is malformed or names several ranges may be ignored, and is. Raises NotSatisfiable.
    """
    found = _ONE_RANGE.fullmatch(header) if header else None
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:  # the last bytes, so many
        span = Span(max(0, size - int(found[2])), size)
    else:
        span = Span(int(found[1]), min(size, int(found[2]) + 1) if found[2] else size)
        if found[2] and int(found[2]) < int(found[1]):
            return None  # malformed
    if span.start >= size or span.start >= span.end:
        raise NotSatisfiable(header)
    return span

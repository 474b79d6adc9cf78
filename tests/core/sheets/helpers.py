"""What the sheet tests share: opening a text or bytes as a sheet, and what it comes to."""

from __future__ import annotations

import io
from typing import Any

import pytest

from pixmill.core.errors import Problem, SheetRejected
from pixmill.core.model import SheetRules
from pixmill.core.sheets import Row, Sheet, SheetLimits, check_sheet, read_sheet, write_output


def stream(content: str | bytes) -> io.BytesIO:
    return io.BytesIO(content.encode() if isinstance(content, str) else content)


def opened(content: str | bytes, **rules: Any) -> Sheet:
    return read_sheet(stream(content), SheetRules(**rules))


def rows(content: str | bytes, **rules: Any) -> list[Row]:
    return list(opened(content, **rules).rows())


def urls(content: str | bytes, **rules: Any) -> list[list[str]]:
    return [[link.url for link in row.links] for row in rows(content, **rules)]


def problems(
    content: str | bytes, limits: SheetLimits | None = None, **rules: Any
) -> list[Problem]:
    """What the check of the file complains about."""
    with pytest.raises(SheetRejected) as caught:
        check_sheet(stream(content), SheetRules(**rules), limits or SheetLimits())
    return caught.value.problems


def codes(content: str | bytes, limits: SheetLimits | None = None, **rules: Any) -> list[str]:
    return [str(problem.code) for problem in problems(content, limits, **rules)]


def written(content: str | bytes, outputs: list[str], **rules: Any) -> bytes:
    sink = io.BytesIO()
    write_output(stream(content), SheetRules(**rules), iter(outputs), sink)
    return sink.getvalue()

"""Byte ranges: what is asked for, of files of any size."""

from __future__ import annotations

import pytest

from pixmill.web.ranges import NotSatisfiable, Span, span_of


@pytest.mark.parametrize(
    ("header", "span"),
    [
        ("bytes=0-0", Span(0, 1)),
        ("bytes=2-5", Span(2, 6)),
        ("bytes=2-", Span(2, 10)),
        ("bytes=2-99999999999", Span(2, 10)),
        ("bytes=-3", Span(7, 10)),
        ("bytes=-99", Span(0, 10)),
        ("BYTES=9-9", Span(9, 10)),
        ("bytes= 1-2 ", Span(1, 3)),
    ],
)
def test_one_range_is_found(header: str, span: Span) -> None:
    assert span_of(header, 10) == span


@pytest.mark.parametrize(
    "header",
    [
        *(None, "", "bytes", "bytes=", "bytes=-", "bytes=5-2", "bytes=a-b", "bytes=1", "lines=1-2"),
        *(
            "bytes=0-1,4-5",
            "bytes=--1",
            "bytes=0x1-2",
            "bytes=\u0661-\u0662",
            "bytes=1-2\n",
            "bytes=+1-2",
        ),
        "bytes=0-" + "9" * 5000,
    ],
)
def test_what_is_malformed_or_several_is_ignored(header: str | None) -> None:
    assert span_of(header, 10) is None


@pytest.mark.parametrize(
    ("header", "size"),
    [("bytes=10-", 10), ("bytes=10-20", 10), ("bytes=-0", 10), ("bytes=0-0", 0), ("bytes=-5", 0)],
)
def test_what_the_file_does_not_have_cannot_be_satisfied(header: str, size: int) -> None:
    with pytest.raises(NotSatisfiable):
        span_of(header, size)

"""A file is counted and judged as a whole, with every problem named."""

from __future__ import annotations

import pytest

from pixmill.core.errors import SheetRejected
from pixmill.core.model import SheetRules
from pixmill.core.sheets import SheetLimits, check_sheet
from tests.core.sheets.helpers import codes, problems, stream

HEAD = "Serial Number,Product Name,Input Image Urls\n"
A = "https://a.example/1.jpg"


def test_a_good_file_is_counted() -> None:
    """Products are merged rows; images are references, so a URL named twice counts twice."""
    content = f'{HEAD}1,Mug,{A}\n1,,{A}\n2,Cup,"{A},{A}"\n'
    summary = check_sheet(stream(content), SheetRules())
    assert (summary.total_rows, summary.total_products, summary.total_images) == (3, 2, 4)
    assert (summary.skipped_rows, summary.warnings) == (0, ())
    assert summary.layout.source == "pixmill"


def test_the_first_hundred_problems_are_spelled_out_and_all_are_counted() -> None:
    """A file that is wrong throughout gets an answer of a bearable size."""
    with pytest.raises(SheetRejected) as caught:
        check_sheet(stream(HEAD + f"1,Mug,{A}\n" + "1,Cup,bad\n" * 250), SheetRules())
    assert len(caught.value.problems) == 100
    assert caught.value.total == 250
    assert [problem.line for problem in caught.value.problems[:2]] == [3, 4]


def test_bad_rows_are_skipped_on_request() -> None:
    """They are counted and become warnings; the good ones go on."""
    content = f"{HEAD}1,Mug,{A}\n2,,{A}\n3,Jar,bad\n4,Cup,{A}\n"
    summary = check_sheet(stream(content), SheetRules(skip_invalid_rows=True))
    assert (summary.total_rows, summary.total_products, summary.skipped_rows) == (4, 2, 2)
    assert [str(w.code) for w in summary.warnings] == ["missing_name", "invalid_url"]
    assert [w.line for w in summary.warnings] == [3, 4]


def test_a_file_with_nothing_left_is_refused_even_then() -> None:
    """A request without images would be none; the reasons are still told."""
    assert codes(f"{HEAD}1,Mug,bad\n", skip_invalid_rows=True) == ["no_images", "invalid_url"]


def test_a_shop_export_without_any_image_is_refused() -> None:
    """The columns that were looked at are named."""
    (problem,) = problems("Handle,Title,Image Src,Variant Image\na,A,,\n")
    assert str(problem.code) == "no_images"
    assert "'Image Src', 'Variant Image'" in problem.message


def test_rows_have_a_greatest_number() -> None:
    """The row that is too many is named, and so are the problems before it."""
    content = HEAD + f"1,Mug,{A}\n2,,{A}\n\n3,Cup,{A}\n"
    assert codes(content, SheetLimits(max_rows=3)) == ["missing_name"]
    found = problems(content, SheetLimits(max_rows=2))
    assert [(str(p.code), p.line) for p in found] == [("too_many_rows", 5), ("missing_name", 3)]


@pytest.mark.parametrize("skip", [True, False])
def test_a_quote_that_is_never_closed_is_named_by_its_line(skip: bool) -> None:
    """Everything below it would silently be one cell, so it cannot be skipped."""
    content = f'{HEAD}1,"two\nlines",{A}\n2,"ok","{A}\n' + f"3,Cup,{A}\n" * 100
    found = problems(content, skip_invalid_rows=skip)
    assert [(str(p.code), p.line) for p in found] == [("unclosed_quote", 4)]


def test_a_quote_that_swallows_too_much_is_stopped_and_named_by_its_line() -> None:
    """The quote opened two lines below where its row began."""
    content = f'{HEAD}1,"two\nlines\n","{A}\n' + f"3,Cup,{A}\n" * 1000
    (found,) = problems(content, SheetLimits(max_row_characters=5000))
    assert (str(found.code), found.line) == ("unclosed_quote", 4)
    assert "5,000" in found.message


@pytest.mark.parametrize("head", [HEAD, ""])
def test_a_line_without_end_is_stopped(head: str) -> None:
    """Also where it is the first."""
    limits = SheetLimits(max_row_characters=5000)
    (found,) = problems(head + "x" * 6000, limits)
    assert (str(found.code), found.line) == ("row_too_long", 1 + bool(head))


def test_inner_quotes_are_no_open_quotes() -> None:
    """Inches and nicknames are common in product names."""
    content = f'{HEAD}1,19" rack,{A}\n2,"24"" rack",{A}\n3,"Jo" rack,{A}\n'
    assert check_sheet(stream(content), SheetRules()).total_products == 3


def test_a_relative_local_folder_is_a_mistake_of_the_caller() -> None:
    """The core does not know the working directory."""
    with pytest.raises(ValueError, match="absolute"):
        check_sheet(stream(f"{HEAD}1,Mug,a.jpg\n"), SheetRules(local_folder="in"))


def test_the_stream_stays_open_for_the_next_pass() -> None:
    """Checked once, read and written again later."""
    raw = stream(f"{HEAD}1,Mug,{A}\n")
    assert check_sheet(raw, SheetRules()) == check_sheet(raw, SheetRules())
    assert not raw.closed


def test_no_more_than_a_hundred_problems_are_kept_whatever_happens() -> None:
    """As warnings of skipped rows, and beside what ended the reading."""
    content = HEAD + "1,Cup,bad\n" * 250 + f"2,Mug,{A}\n"
    summary = check_sheet(stream(content), SheetRules(skip_invalid_rows=True))
    assert (len(summary.warnings), summary.skipped_rows) == (100, 250)
    with pytest.raises(SheetRejected) as caught:
        check_sheet(stream(content), SheetRules(), SheetLimits(max_rows=200))
    assert (len(caught.value.problems), caught.value.total) == (100, 201)
    assert str(caught.value.problems[0].code) == "too_many_rows"

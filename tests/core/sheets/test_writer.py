"""The output is the input with its results beside it, safe to open in a spreadsheet."""

from __future__ import annotations

import codecs
import io

import pytest

from pixmill.core.model import SheetRules
from pixmill.core.sheets import ErrorLine, write_errors, write_output
from pixmill.core.sheets.writer import neutralised
from tests.core.sheets.helpers import urls, written

HEAD = "Serial Number,Product Name,Input Image Urls"
A = "https://a.example/1.jpg"


def test_every_row_and_column_comes_out_with_its_outputs() -> None:
    """Positions match the links; a blank is one that failed."""
    content = f'{HEAD},Note\n1,Mug,"{A}, {A}?2,{A}?3",x\n2,"Cup, blue",{A},\n'
    assert written(content, ["/1", "", "/3", ""]).decode() == (
        f'{HEAD},Note,Output Image Urls\n1,Mug,"{A}, {A}?2,{A}?3",x,"/1,,/3"\n2,"Cup, blue",{A},,\n'
    )


def test_what_stands_above_the_header_and_blank_lines_stay() -> None:
    """The file keeps its shape: the sep line, the preamble, the gaps."""
    content = (
        f"sep=;\r\nCatalogue;2024\r\n\r\nsku;name;image\r\n1;Mug;{A}\r\n\r\n;;\r\n2;Cup;{A}\r\n"
    )
    assert written(content, ["/1", "/2"]).decode() == (
        "sep=;\r\nCatalogue;2024\r\n\r\nsku;name;image;Output Image Urls\r\n"
        f"1;Mug;{A};/1\r\n\r\n;;\r\n2;Cup;{A};/2\r\n"
    )


def test_bad_rows_come_out_with_a_blank_and_take_no_output() -> None:
    """What was skipped on the way in shifts nothing on the way out."""
    content = f'{HEAD}\n1,Mug,{A}\n2,Jar,"bad,{A}"\n3,Cup,{A},extra\n4,Pot,{A}\n'
    assert written(content, ["/1", "/4"], skip_invalid_rows=True).decode().splitlines()[1:] == [
        f"1,Mug,{A},/1",
        f'2,Jar,"bad,{A}",',
        f"3,Cup,{A},,extra",
        f"4,Pot,{A},/4",
    ]


def test_short_rows_are_filled_up() -> None:
    """The output stands under its own header."""
    content = f"{HEAD},Note,More\n1,Mug,{A}\n"
    assert written(content, ["/1"]).decode().splitlines()[1] == f"1,Mug,{A},,,/1"


@pytest.mark.parametrize("name", ["Output Image Urls", "output_image_urls"])
def test_an_output_column_that_is_there_is_filled_anew(name: str) -> None:
    """A file handed in again has one such column, not two."""
    content = f"Serial Number,{name},Product Name,Input Image Urls\n1,/old,Mug,{A}\n"
    assert written(content, ["/new"]).decode() == content.replace("/old", "/new")


@pytest.mark.parametrize(
    ("content", "bom"),
    [
        (f"{HEAD}\n1,Größe,{A}\n".encode(), False),
        (f"{HEAD}\n1,Größe,{A}\n".encode("utf-8-sig"), True),
        (f"{HEAD}\n1,Größe,{A}\n".encode("utf-16"), True),
        (f"{HEAD}\n1,Größe,{A}\n".encode("cp1252"), True),
    ],
)
def test_the_output_is_utf8_and_marked_where_the_input_was_no_plain_utf8(
    content: bytes, bom: bool
) -> None:
    """A spreadsheet that opened the input opens the output."""
    output = written(content, ["/1"])
    assert output.startswith(codecs.BOM_UTF8) is bom
    assert output.decode("utf-8-sig") == f"{HEAD},Output Image Urls\n1,Größe,{A},/1\n"


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_line_breaks_within_cells_stay_within_them(end: str) -> None:
    """Whatever ends the lines, a break in a cell is quoted."""
    content = f'{HEAD},Note{end}1,"a\rb",{A},"c\nd\r\ne"{end}'
    output = written(content, ["/1"]).decode()
    assert '"a\rb"' in output
    assert '"c\nd\r\ne"' in output
    assert urls(output) == [[A]]


@pytest.mark.parametrize(
    ("cell", "safe"),
    [
        ("=1+1", "'=1+1"),
        ('=HYPERLINK("http://evil")', '\'=HYPERLINK("http://evil")'),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(1)", "'@SUM(1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("-", "'-"),
        ("+49 30 123", "'+49 30 123"),
        ("-12.50", "-12.50"),
        ("+5", "+5"),
        ("-1,234.50", "-1,234.50"),
        ("-5%", "-5%"),
        ("-1e5", "-1e5"),
        ("-12\n", "'-12\n"),
        ("", ""),
        ("a=1", "a=1"),
        ("'=1", "'=1"),
        ("https://a.example/", "https://a.example/"),
    ],
)
def test_formulas_are_neutralised_and_numbers_are_not(cell: str, safe: str) -> None:
    """An apostrophe makes a text of what would be run."""
    assert neutralised(cell) == safe


def test_neutralising_covers_every_cell_and_can_be_switched_off() -> None:
    """Preamble, header, rows and outputs alike."""
    content = f"=a\n{HEAD},@note\n1,+Mug,{A},-1\n"
    assert written(content, ["=x"]).decode() == (
        f"'=a\n{HEAD},'@note,Output Image Urls\n1,'+Mug,{A},-1,'=x\n"
    )
    assert written(content, ["=x"], neutralise_formulas=False).decode() == (
        f"=a\n{HEAD},@note,Output Image Urls\n1,+Mug,{A},-1,=x\n"
    )


@pytest.mark.parametrize("outputs", [[], ["/1"], ["/1", "/2", "/3"]])
def test_outputs_that_do_not_fit_the_links_are_an_error(outputs: list[str]) -> None:
    """Better no file than one whose columns are shifted."""
    with pytest.raises(ValueError, match="outputs than links"):
        written(f"{HEAD}\n1,Mug,{A}\n2,Cup,{A}\n", outputs)


def test_the_error_report_has_one_line_for_each_failure() -> None:
    """It is neutralised like the output."""
    sink = io.BytesIO()
    lines = [
        ErrorLine("1", "=Mug", A, "http_error", "The server answered 404, not found.", 1),
        ErrorLine("2", "Größe", A, "timeout", "Too slow", 3),
    ]
    write_errors(lines, sink)
    assert sink.getvalue().decode() == (
        "Serial Number,Product Name,Input Image Url,Error Code,Error Message,Attempts\n"
        f'1,\'=Mug,{A},http_error,"The server answered 404, not found.",1\n'
        f"2,Größe,{A},timeout,Too slow,3\n"
    )


def test_the_error_report_can_be_plain_and_marked() -> None:
    """The same switch, and a byte order mark for spreadsheets."""
    sink = io.BytesIO()
    write_errors(
        [ErrorLine("=1", "Mug", A, "timeout", "Too slow", 3)],
        sink,
        neutralise_formulas=False,
        bom=True,
    )
    assert sink.getvalue().startswith(codecs.BOM_UTF8 + b"Serial Number")
    assert b"\n=1,Mug," in sink.getvalue()


def test_a_partial_output_is_blank_where_there_is_none_yet_and_shifts_nothing() -> None:
    """While the ingest is not over, or when it was cut short, the rest is simply not there."""
    content = f'{HEAD}\n1,Mug,"{A}, {A}?2"\n2,Cup,{A}\n'
    for outputs, first in (([], ","), (["/1"], "/1,"), (["", "/2"], ",/2")):
        sink = io.BytesIO()
        write_output(io.BytesIO(content.encode()), SheetRules(), iter(outputs), sink, partial=True)
        assert sink.getvalue().decode() == (
            f'{HEAD},Output Image Urls\n1,Mug,"{A}, {A}?2","{first}"\n2,Cup,{A},\n'
        )


def test_a_partial_output_never_has_more_than_the_sheet_has_links() -> None:
    with pytest.raises(ValueError, match="more outputs than links"):
        write_output(
            io.BytesIO(f"{HEAD}\n1,Mug,{A}\n".encode()),
            SheetRules(),
            iter(["/1", "/2"]),
            io.BytesIO(),
            partial=True,
        )

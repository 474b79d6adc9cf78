"""Delimiter, header and columns are found wherever people put them."""

from __future__ import annotations

import pytest

from pixmill.core.sheets import SheetLimits
from tests.core.sheets.helpers import codes, opened, problems, rows, urls

HEADER = ("Serial Number", "Product Name", "Input Image Urls")
A = "https://a.example/w_300,h_200/1.jpg"
B = "https://a.example/2.jpg"


def sheet(delimiter: str, end: str = "\n") -> str:
    return end.join([delimiter.join(HEADER), delimiter.join(["1", "Mug", f'"{A},{B}"']), ""])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_and_line_ends_are_found(delimiter: str, end: str) -> None:
    """The header tells the delimiter, so commas in URLs cannot mislead."""
    read = opened(sheet(delimiter, end))
    assert read.layout.delimiter == delimiter
    assert [[link.url for link in row.links] for row in read.rows()] == [[A, B]]


def test_commas_in_the_data_do_not_outvote_the_header() -> None:
    """Ten commas in a URL are still one cell of a semicolon file."""
    content = f"sku;name;image\n1;a,b,c,d;{A},{A},{A}\n"
    assert urls(content) == [[A, A, A]]


@pytest.mark.parametrize(
    ("line", "delimiter"),
    [
        ("sep=;", ";"),
        ("SEP=,", ","),
        ('"sep=|"', "|"),
        ("sep=\t", "\t"),
        ("sep=^", "^"),
        ("sep=;;", ";"),
    ],
)
def test_the_sep_line_of_excel_is_believed(line: str, delimiter: str) -> None:
    """It names the delimiter and is no row."""
    read = opened(f"{line}\r\n" + sheet(delimiter, "\r\n"))
    assert (read.layout.delimiter, read.layout.header_line) == (delimiter, 2)
    assert len(list(read.rows())) == 1


@pytest.mark.parametrize(
    "preamble",
    [
        "\n\n",
        "Exported 2024-05-01\n\n",
        'Catalogue of "Acme", Ltd.\nPage;1;of;2\n',
        "Product images\nSKU list of spring\n",
        '"A title\nover three\nlines"\n',
        ",,\n" * 20,
    ],
)
def test_the_header_is_found_below_a_preamble(preamble: str) -> None:
    """Titles, dates and blank lines above the header are passed over."""
    read = opened(preamble + sheet(","))
    assert read.layout.header_line == preamble.count("\n") + 1
    row = next(read.rows())
    assert (row.serial_number, row.line) == ("1", preamble.count("\n") + 2)


def test_trailing_blank_columns_and_blank_lines_are_nothing() -> None:
    """Spreadsheets leave both behind."""
    content = f"sku,name,image,,\n\n1,Mug,{B},,\n,,,,\n \n2,Cup,{B},,,,,\n\n"
    assert [(row.line, row.serial_number) for row in rows(content)] == [(3, "1"), (6, "2")]


def test_quotes_after_a_blank_are_quotes() -> None:
    """Files made by hand put a blank after the comma."""
    content = f'S. No., Product Name, Input Image Urls\n1, SKU1, "{A}, {B}"\n'
    assert urls(content) == [[A, B]]
    assert rows(content)[0].name == "SKU1"


def test_lines_are_counted_below_cells_with_line_breaks() -> None:
    """The line of a row is where it begins in the file."""
    content = f'sku,name,image\n1,"a\nb\r\nc",{B}\n2,Cup,bad\n'
    found = problems(content)
    assert [(problem.line, problem.column) for problem in found] == [(5, "image")]


def test_named_columns_come_before_known_ones() -> None:
    """--serial-col, --name-col and --url-col override what the headers would say."""
    content = f"sku,name,image,code,label,photo a,photo b\n1,x,{B},C-1,Mug,{B},{B}?2\n"
    row = rows(content, serial_col="Code", name_col="label", url_cols=("photo b", "PHOTO_A"))[0]
    assert (row.serial_number, row.name) == ("C-1", "Mug")
    assert [(link.url, link.column) for link in row.links] == [
        (f"{B}?2", "photo b"),
        (B, "photo a"),
    ]


def test_one_image_column_is_enough_when_it_is_named() -> None:
    """A list of URLs works as img2dataset's users expect: rows are numbered, names blank."""
    read = opened(f"url\n{B}\n\n{B}\n", url_cols=("url",))
    assert [(row.serial_number, row.name) for row in read.rows()] == [("1", ""), ("2", "")]
    assert read.layout.source == "custom"
    assert not any(row.problems or row.continues for row in read.rows())


def test_a_named_column_that_is_not_there_is_refused_with_a_suggestion() -> None:
    """The message says what there is and what was probably meant."""
    (problem,) = problems(f"sku,name,image_url\n1,Mug,{B}\n", url_cols=("imageurls",))
    assert str(problem.code) == "unknown_column"
    assert "Did you mean 'image_url'?" in problem.message
    assert "--url-col" in problem.message
    assert "'sku', 'name', 'image_url'" in problem.message


def test_every_missing_column_is_its_own_problem() -> None:
    """Each says what was seen and which flag mends it."""
    found = problems("foo,bar\n1,2\n")
    assert [str(problem.code) for problem in found] == ["missing_column"] * 3
    for problem, flag in zip(found, ["--serial-col", "--name-col", "--url-col"], strict=True):
        assert flag in problem.message
        assert "'foo', 'bar'" in problem.message
        assert problem.line == 1


def test_a_single_wide_column_suggests_the_delimiter() -> None:
    """A file with a delimiter that nobody expects is told from one with other headers."""
    assert "--delimiter" in problems("sku~name~image\n1~Mug~x\n")[0].message
    assert urls(f"sku~name~image\n1~Mug~{B}\n", delimiter="~") == [[B]]


@pytest.mark.parametrize("name", ["tab", "TAB", "\t", r"\t"])
def test_a_delimiter_can_be_named(name: str) -> None:
    """A TAB is hard to type in a shell."""
    assert opened(sheet("\t"), delimiter=name).layout.delimiter == "\t"


@pytest.mark.parametrize("name", ["::", "a", '"', "\n", " ", "\0"])
def test_what_cannot_be_a_delimiter_is_refused(name: str) -> None:
    """The csv module would raise its own error on these."""
    assert codes(sheet(","), delimiter=name) == ["invalid_delimiter"]


@pytest.mark.parametrize("content", ["", "\ufeff", "\n\n\r\n", "  \n\t\n"])
def test_an_empty_file_says_so(content: str) -> None:
    """Nothing but blanks is empty."""
    assert codes(content) == ["empty_file"]


def test_a_header_alone_says_so() -> None:
    """There is nothing to do, and that is said instead of being done."""
    assert codes("sku,name,image\n\n") == ["no_rows"]


def test_data_without_a_header_says_so() -> None:
    """The first row is not taken for a header when it holds URLs."""
    assert codes(f"1,Mug,{B}\n2,Cup,{B}\n") == ["header_not_found"]


def test_a_second_column_of_the_same_name_is_warned_of() -> None:
    """The first is read for key and name; image columns are all read."""
    read = opened(f"sku,name,name,image,image\n1,Mug,Cup,{B},{B}\n")
    row = next(read.rows())
    assert (row.name, len(row.links)) == ("Mug", 2)
    assert [(str(w.code), w.column) for w in read.warnings] == [("duplicate_header", "name")]


def test_ten_thousand_columns_are_read_and_more_refused() -> None:
    """Wide files are slow for people, not for us."""
    fill = ",".join(f"c{n}" for n in range(9_997))
    assert urls(f"sku,name,image,{fill}\n1,Mug,{B}\n") == [[B]]
    assert codes(f"sku,name,image,{fill},x\n1,Mug,{B}\n") == ["too_many_columns"]


def test_the_header_is_looked_for_at_the_top_only() -> None:
    """A row deep in the file that looks like a header is none."""
    limits = SheetLimits(header_search_rows=3)
    assert codes("a,b\n" * 3 + sheet(","), limits) == ["missing_column"] * 3

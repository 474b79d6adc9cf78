"""Row problems are all found, each with its line, column, code and cure."""

from __future__ import annotations

import pytest

from pixmill.core.sheets import SheetLimits
from tests.core.sheets.helpers import codes, problems, rows, urls

HEAD = "Serial Number,Product Name,Input Image Urls,Note\n"
A = "https://a.example/1.jpg"


@pytest.mark.parametrize(
    ("row", "code", "column", "says"),
    [
        (f",Mug,{A},", "missing_serial_number", "Serial Number", "Fill it in"),
        (f"1,,{A},", "missing_name", "Product Name", "Fill it in"),
        (f"1,\u200b \u00a0,{A},", "missing_name", "Product Name", "Fill it in"),
        ("1,Mug,,", "no_image", "Input Image Urls", "Add one"),
        ("1,Mug", "no_image", "Input Image Urls", "Add one"),
        ('1,Mug," , ",', "no_image", "Input Image Urls", "Add one"),
        ("1,Mug,photo.jpg,", "invalid_url", "Input Image Urls", "https://"),
        ("1,Mug,/srv/photo.jpg,", "invalid_url", "Input Image Urls", "pixmill run"),
        (
            "1,Mug,https://a.example/" + "x" * 4096 + ",",
            "url_too_long",
            "Input Image Urls",
            "4,096",
        ),
        ('1,Mug,"' + ",".join([A] * 101) + '",', "too_many_urls", "Input Image Urls", "100"),
        (f"1,Mug,{A},note,more", "extra_cells", None, "A cell that contains ',' must"),
        (f"1,Mug,{A},{A}?2,{A}?3", "extra_cells", None, "Several URLs of one cell"),
        (f"1\0,Mug,{A},", "nul_character", None, "UTF-8"),
        (f"1,M\0ug,{A},", "nul_character", None, "UTF-8"),
        (f"1,Mug,{A}\0,", "invalid_url", "Input Image Urls", "control character"),
    ],
)
def test_a_bad_row_says_what_where_and_how_to_mend_it(
    row: str, code: str, column: str | None, says: str
) -> None:
    """One problem, on the row's own line."""
    (problem,) = problems(f"{HEAD}0,Good,{A},\n{row}\n")
    assert (str(problem.code), problem.line, problem.column) == (code, 3, column)
    assert says in problem.message


def test_the_last_line_needs_no_end() -> None:
    """Many editors leave it out."""
    assert urls(f"{HEAD}1,Mug,{A}") == [[A]]
    assert urls(f'{HEAD}1,Mug,"{A}"') == [[A]]


@pytest.mark.parametrize("code", ["1,Mug,{},", "1,Mug,{},note,,,", "1,Mug,{}", " 1 , Mug ,{} ,"])
def test_a_good_row_may_be_short_or_have_blank_cells_to_spare(code: str) -> None:
    """Only what is missing or left over with text in it is a problem."""
    (row,) = rows(HEAD + code.format(A) + "\n")
    assert (row.serial_number, row.name, row.problems) == ("1", "Mug", ())
    assert [link.url for link in row.links] == [A]


def test_all_problems_of_a_row_are_reported() -> None:
    """Nobody wants to hand in the file once for each mistake."""
    content = f'{HEAD},,"bad, {A}, https://u:p@x.example/",n,extra\n'
    assert codes(content) == [
        "invalid_url",
        "invalid_url",
        "missing_serial_number",
        "missing_name",
        "extra_cells",
    ]


def test_a_hundred_urls_in_a_cell_are_fine() -> None:
    """The cap is where it says."""
    assert len(rows(HEAD + '1,Mug,"' + ",".join([A] * 100) + '",\n')[0].links) == 100


def test_links_remember_what_was_written() -> None:
    """The written form goes back to people, the cleaned one is fetched."""
    (link,) = rows(f"{HEAD}1,Mug, https://A.example/a b.jpg ,\n")[0].links
    assert link.written == "https://A.example/a b.jpg"
    assert link.url == "https://a.example/a%20b.jpg"
    assert link.column == "Input Image Urls"


@pytest.mark.parametrize(
    ("cell", "url"),
    [
        (
            "https://drive.google.com/file/d/1AbC/view",
            "https://drive.google.com/uc?export=download&id=1AbC",
        ),
        (
            "https://docs.google.com/uc?id=1AbC",
            "https://docs.google.com/uc?export=download&id=1AbC",
        ),
        ("https://www.dropbox.com/s/x/a.jpg?dl=0", "https://www.dropbox.com/s/x/a.jpg?raw=1"),
        ("https://dropbox.com/s/x/a.jpg?dl=0", "https://dropbox.com/s/x/a.jpg?raw=1"),
        ("https://a.example/?a=1&amp;b=2", "https://a.example/?a=1&b=2"),
        ("https://a.example/50%off", "https://a.example/50%25off"),
        ("https://a.example/1.jpg#x", "https://a.example/1.jpg"),
    ],
)
def test_cells_that_look_ordinary_are_cleaned_too(cell: str, url: str) -> None:
    """The short way for ordinary cells must let these take the long one."""
    assert urls(f"{HEAD}1,Mug,{cell},\n") == [[url]]


def test_a_url_separator_makes_it_exact() -> None:
    """What the splitter must guess, the user can settle."""
    cell = "https://p.example/?url=1,https://a.example/x"
    assert len(urls(f'{HEAD}1,Mug,"{cell}",\n')[0]) == 2
    assert urls(f'{HEAD}1,Mug,"{cell}",\n', url_separator="|") == [[cell]]


def test_local_files_work_where_the_command_line_allows_them() -> None:
    """Paths are relative to the folder; URLs keep working beside them."""
    content = f'{HEAD}1,Mug,"a b.jpg|../c.jpg, {A}",\n'
    assert urls(content, local_folder="/data/in") == [
        ["file:///data/in/a%20b.jpg", "file:///data/c.jpg", A]
    ]
    assert "invalid_url" in codes(content)


def test_a_product_has_a_greatest_number_of_images() -> None:
    """A file that is one endless product must not grow in memory."""
    limits = SheetLimits(max_urls_per_product=3)
    content = HEAD + f"1,Mug,{A},\n" * 3
    assert len(rows(content)) == 3
    assert codes(content + f"1,Mug,{A},\n", limits) == ["too_many_urls"]


def test_equal_rows_continue_each_other() -> None:
    """The flag is what merging goes by."""
    content = f"{HEAD}1,Mug,{A},\n1,,{A},\n1,Mug,{A},\n1,Cup,{A},\n,,{A},\n2,,{A},\n"
    found = rows(content)
    assert [row.continues for row in found] == [False, True, True, False, True, False]
    assert [row.name for row in found] == ["Mug", "Mug", "Mug", "Cup", "Cup", ""]
    assert [[str(p.code) for p in row.problems] for row in found][-1] == ["missing_name"]

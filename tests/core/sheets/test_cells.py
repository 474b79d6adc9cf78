"""Cells are split into the references they list, and nowhere else."""

from __future__ import annotations

import time

import pytest

from pixmill.core.sheets.cells import split_cell

A = "https://a.example/1.jpg"
B = "http://b.example/2.jpg"
CLOUDINARY = "https://res.cloudinary.com/demo/image/upload/w_300,h_200,c_fill/shoe.jpg"
THUMBOR = "https://t.example/300x200/filters:quality(80),blur(2)/https%3A%2F%2Fa.example/x.jpg"


@pytest.mark.parametrize(
    ("cell", "pieces"),
    [
        ("", []),
        ("   ", []),
        (" , ; ", []),
        (A, [A]),
        (f"  {A}\u200b ", [A]),
        (f"{A},{B}", [A, B]),
        (f"{A}, {B}", [A, B]),
        (f"{A};{B}", [A, B]),
        (f"{A}|{B}", [A, B]),
        (f"{A} | {B}", [A, B]),
        (f"{A} {B}", [A, B]),
        (f"{A}\n{B}", [A, B]),
        (f"{A}\r\n{B}\r\n", [A, B]),
        (f"{A}\t{B}", [A, B]),
        (f",{A},,{B},", [A, B]),
        (f"{A}, ,{B};", [A, B]),
        (f"{A},HTTPS://B.example/2.jpg", [A, "HTTPS://B.example/2.jpg"]),
        (CLOUDINARY, [CLOUDINARY]),
        (f"{CLOUDINARY},{CLOUDINARY}", [CLOUDINARY, CLOUDINARY]),
        (f"{THUMBOR}, {A}", [THUMBOR, A]),
        ("https://a.example/my photo, big.jpg", ["https://a.example/my photo, big.jpg"]),
        (r"https://a.example/w_1\,h_2/x.jpg, " + A, [r"https://a.example/w_1\,h_2/x.jpg", A]),
        (
            r"https://a.example/fetch\,https://b.example/x.jpg",
            [r"https://a.example/fetch\,https://b.example/x.jpg"],
        ),
        (r"https://a.example/x\, " + A, [r"https://a.example/x\,", A]),
        (f'["{A}", "{CLOUDINARY}"]', [A, CLOUDINARY]),
        (r'["https:\/\/a.example\/1.jpg"]', [A]),
        ("[]", []),
        (f"['{A}', '{B}']", [f"'{A}'", f"'{B}'"]),
        (f"[{A},{B}]", [A, B]),
        (f'"{A}","{B}"', [f'"{A}"', f'"{B}"']),
        (f"<{A}> <{B}>", [f"<{A}>", f"<{B}>"]),
        ("//a.example/1.jpg,//b.example/2.jpg", ["//a.example/1.jpg", "//b.example/2.jpg"]),
        (
            "https://p.example/?url=1,https://a.example/x",
            ["https://p.example/?url=1", "https://a.example/x"],
        ),
        (
            "https://p.example/?url=https://a.example/x",
            ["https://p.example/?url=https://a.example/x"],
        ),
        ("not a url", ["not a url"]),
    ],
)
def test_a_cell_is_split_only_where_a_url_begins(cell: str, pieces: list[str]) -> None:
    """Separators count only before a scheme; escaped commas and JSON arrays are understood."""
    assert split_cell(cell) == pieces


@pytest.mark.parametrize(
    ("cell", "separator", "pieces"),
    [
        ("https://p.example/?url=1,https://a.example/x", ";", None),
        (f"{A};{B}", ";", [A, B]),
        (f"{A};{CLOUDINARY}", ";", [A, CLOUDINARY]),
        (f"{A},{B}", ",", [A, B]),
        (rf"{A}\,x,{B}", ",", [rf"{A}\,x", B]),
        (f"{A}\n{B}", r"\n", [A, B]),
        (f"{A}\r\n{B}", "newline", [A, B]),
        (f"{A} || {B}", "||", [A, B]),
        (f"{A};;", ";", [A]),
    ],
)
def test_a_given_separator_splits_exactly(
    cell: str, separator: str, pieces: list[str] | None
) -> None:
    """With --url-separator the cell is split there and nowhere else."""
    assert split_cell(cell, separator) == (pieces or [cell])


@pytest.mark.parametrize(
    ("cell", "pieces"),
    [
        ("a.jpg, b c.jpg", ["a.jpg", "b c.jpg"]),
        ("a.jpg|dir/b.jpg;c.jpg\nd.jpg", ["a.jpg", "dir/b.jpg", "c.jpg", "d.jpg"]),
        (f"a.jpg, {CLOUDINARY}", ["a.jpg", CLOUDINARY]),
    ],
)
def test_file_names_are_split_plainly(cell: str, pieces: list[str]) -> None:
    """Where local files are allowed, what has no scheme is a list of names."""
    assert split_cell(cell, paths=True) == pieces


@pytest.mark.parametrize(
    "cell",
    [
        pytest.param("x" + " " * 1_000_000 + "x", id="blanks"),
        pytest.param("x" + ", " * 500_000 + "x", id="separators"),
        pytest.param("[" * 1_000_000 + "]", id="brackets"),
        pytest.param('"' * 1_000_000, id="quotes"),
        pytest.param("https://a,x " * 80_000, id="urls"),
    ],
)
def test_splitting_takes_time_in_proportion_to_the_cell(cell: str) -> None:
    """No cell makes the splitter go over it again and again."""
    started = time.perf_counter()
    split_cell(cell)
    assert time.perf_counter() - started < 2

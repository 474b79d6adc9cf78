"""What must hold for every sheet, not only for those somebody thought of."""

from __future__ import annotations

import csv
import io
import re
from typing import Any, BinaryIO

from hypothesis import given, settings
from hypothesis import strategies as st

from pixmill.core.errors import SheetRejected
from pixmill.core.model import SheetRules
from pixmill.core.sheets import (
    SheetLimits,
    SheetSummary,
    check_sheet,
    merge_rows,
    read_sheet,
    write_output,
)
from pixmill.core.sheets.cells import BLANK, split_cell
from pixmill.core.sheets.links import PLAIN_URL, BadLink, clean_url
from tests.core.sheets.helpers import opened, stream, written

ENCODINGS = {
    "utf-8": b"",
    "utf-8-sig": b"",
    "utf-16-le": b"\xff\xfe",
    "utf-16-be": b"\xfe\xff",
    "cp1252": b"",
}
# Letters that every encoding above has.
LETTERS = "abcXYZ 0123456789,;|\t\n\r\"'äöüßéñ€™-=+@[]{}()/:.\\"

text = st.text(LETTERS, max_size=20)
name = text.map(lambda value: value.strip(BLANK)).filter(bool)
path = st.text("abcXYZ0123456789/_-.,;|=&()", max_size=20).map(lambda tail: f"{tail}z")
url = st.builds("https://{}.example/{}".format, st.sampled_from(["a", "img-1", "x.y"]), path)


@st.composite
def products(draw: st.DrawFn) -> list[tuple[str, str, list[str], str]]:
    names = draw(st.lists(name, min_size=1, max_size=6))
    return [
        (str(number), each, draw(st.lists(url, min_size=1, max_size=4)), draw(text))
        for number, each in enumerate(names)
    ]


@st.composite
def dialects(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "delimiter": draw(st.sampled_from(",;\t|")),
        "encoding": draw(st.sampled_from(list(ENCODINGS))),
        "end": draw(st.sampled_from(["\n", "\r\n", "\r"])),
        "quoting": draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
        "sep": draw(st.booleans()),
        "joint": draw(st.sampled_from([",", ", ", ";", " | ", "\n", " "])),
    }


def sheet(
    rows: list[tuple[str, str, list[str], str]], dialect: dict[str, Any]
) -> tuple[bytes, list[list[str]]]:
    """The file in this dialect, and its rows as cells."""
    table = [["Serial Number", "Product Name", "Input Image Urls", "Note"]]
    table += [[key, name, dialect["joint"].join(urls), note] for key, name, urls, note in rows]
    body = io.StringIO()
    # Both ends are given, so that each is quoted within a cell.
    writer = csv.writer(
        body, delimiter=dialect["delimiter"], quoting=dialect["quoting"], lineterminator="\r\n"
    )
    lines = []
    for cells in table:
        body.seek(0)
        body.truncate()
        writer.writerow(cells)
        lines.append(body.getvalue().removesuffix("\r\n") + dialect["end"])
    if dialect["sep"]:
        lines.insert(0, f"sep={dialect['delimiter']}{dialect['end']}")
    encoding = dialect["encoding"]
    return ENCODINGS[encoding] + "".join(lines).encode(encoding), table


@settings(max_examples=300, deadline=None)
@given(products(), dialects())
def test_products_read_back_the_same_in_every_dialect(
    rows: list[tuple[str, str, list[str], str]], dialect: dict[str, Any]
) -> None:
    """Delimiter, encoding, line ends, quoting, marks and sep lines change nothing."""
    content, _ = sheet(rows, dialect)
    read = [
        (product.serial_number, product.name, [link.written for link in product.links])
        for product in merge_rows(opened(content).rows())
    ]
    assert read == [(key, name, urls) for key, name, urls, _ in rows]


@settings(max_examples=200, deadline=None)
@given(products(), dialects(), st.data())
def test_the_output_is_the_input_with_its_positions_aligned(
    rows: list[tuple[str, str, list[str], str]], dialect: dict[str, Any], data: st.DataObject
) -> None:
    """Every cell comes back, and each output stands where its URL stood."""
    content, table = sheet(rows, dialect)
    outputs = [
        data.draw(st.sampled_from(["", f"https://out.example/{n}.jpg"]))
        for row in rows
        for n, _ in enumerate(row[2])
    ]
    output = written(content, outputs, neutralise_formulas=False).decode("utf-8-sig")
    records = list(csv.reader(io.StringIO(output, newline=""), delimiter=dialect["delimiter"]))[
        dialect["sep"] :
    ]
    assert [record[:4] for record in records] == table
    assert [output for record in records[1:] for output in record[4].split(",")] == outputs
    assert [record[4].count(",") + 1 for record in records[1:]] == [len(row[2]) for row in rows]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(url, max_size=8),
    st.sampled_from([",", ", ", ";", " ", "\n", "|", " ,\n", "\t", ",,"]),
)
def test_the_splitter_neither_loses_nor_invents_a_url(urls: list[str], joint: str) -> None:
    """What was joined comes apart again, commas and all."""
    assert split_cell(joint.join(urls)) == urls


@settings(max_examples=300, deadline=None)
@given(st.text(LETTERS + "htps", max_size=60), st.booleans())
def test_the_splitter_keeps_every_character_that_is_no_separator(cell: str, paths: bool) -> None:
    """Whatever the cell, only separators, blanks and list brackets go."""
    gone = '[],;|"' + BLANK
    if cell.strip(BLANK)[:1] == "[":
        return  # may be JSON, with escapes of its own
    pieces = "".join(split_cell(cell, paths=paths))
    assert [c for c in pieces if c not in gone] == [c for c in cell if c not in gone]


anything = st.one_of(
    st.text(max_size=80),
    st.builds(
        "{}{}{}".format,
        st.sampled_from(["http://", "https://", "HTTPS://a.b/", "//", "https://a.example/", ""]),
        st.text(max_size=40),
        st.sampled_from(["", "?dl=0", "#x", "%2C", "%", "&amp;amp;", "\\,"]),
    ),
    st.builds(
        "https://{}/{}".format,
        st.sampled_from(["drive.google.com", "www.dropbox.com", "bücher.example", "A.example:1"]),
        st.text("/fileduopncs?=&id0-_%ä ,", max_size=30),
    ),
)


def cleaned(written: str) -> str | BadLink:
    try:
        return clean_url(written)
    except BadLink as bad:
        return bad


@settings(max_examples=1000, deadline=None)
@given(anything)
def test_cleaning_twice_is_cleaning_once(written: str) -> None:
    """A clean URL is ASCII without blanks, has a host, and stays as it is."""
    clean = cleaned(written)
    if isinstance(clean, BadLink):
        assert clean.message.isprintable()
        return
    assert clean_url(clean) == clean
    assert re.fullmatch(r"https?://[^/@\\%\s]+/[!-~]*", clean)
    assert "#" not in clean


@settings(max_examples=500, deadline=None)
@given(
    st.builds(
        "https://{}/{}".format,
        st.builds(
            "{}{}".format,
            st.text("abz09-.", max_size=12),
            st.sampled_from(["", "", ":", ":0", ":8080", ":0080", ":65536", ":80", ":1:2"]),
        ),
        st.text("aZ09/._~!$&()*+=:@?-%2Cf", max_size=30),
    )
)
def test_the_fast_path_says_what_the_long_way_says(written: str) -> None:
    """A URL that is taken as it is would have come out of cleaning and splitting the same."""
    if PLAIN_URL.fullmatch(written):
        assert split_cell(written) == [written]
        assert clean_url(written) == written


rules = st.builds(
    SheetRules,
    serial_col=st.sampled_from([None, "sku", "x"]),
    url_cols=st.sampled_from([(), ("image",), ("url", "y")]),
    encoding=st.sampled_from([None, "utf-8", "utf-16", "cp1252", "shift_jis", "hz", "big5"]),
    delimiter=st.sampled_from([None, ";", "tab"]),
    url_separator=st.sampled_from([None, ";", ","]),
    skip_invalid_rows=st.booleans(),
    local_folder=st.sampled_from([None, "/data"]),
)
tokens = st.sampled_from(
    [
        *(b"sku", b"name", b"image", b"url", b",", b";", b"\t", b"|", b'"', b"\n", b"\r", b"\0"),
        *(b"https://a.example/1.jpg", b"https://", b"sep=;", b"\xef\xbb\xbf", b"\xff\xfe", b"\xe9"),
        *(b"sku,name,image\n", b"1,Mug,https://a.example/1.jpg\n", b"Handle;Title;Image Src\n"),
        *(b"[[[[", b'["', b"\\,", b"%", b"\xc3", b"\xa9", b"=", b"x" * 300),
    ]
)
garbage = st.one_of(st.binary(max_size=400), st.lists(tokens, max_size=40).map(b"".join))


def checked(raw: BinaryIO, rules: SheetRules, limits: SheetLimits) -> SheetSummary | SheetRejected:
    try:
        return check_sheet(raw, rules, limits)
    except SheetRejected as rejected:
        return rejected


@settings(max_examples=1500, deadline=None)
@given(garbage, rules)
def test_garbage_is_refused_or_read_but_never_breaks(content: bytes, rules: SheetRules) -> None:
    """Nothing but SheetRejected comes out, and what was accepted can be written."""
    limits = SheetLimits(max_row_characters=200)
    raw = stream(content)
    summary = checked(raw, rules, limits)
    if isinstance(summary, SheetRejected):
        assert summary.total >= len(summary.problems) > 0
        assert all(problem.message.isprintable() for problem in summary.problems)
        return
    products = list(merge_rows(read_sheet(raw, rules, limits).rows()))
    assert len(products) == summary.total_products
    assert sum(len(product.links) for product in products) == summary.total_images
    outputs = iter(["x"] * summary.total_images)
    write_output(raw, rules, outputs, io.BytesIO(), limits)

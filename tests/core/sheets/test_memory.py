"""Memory does not grow with the file, and a million rows do not take minutes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAD = b"Serial Number,Product Name,Input Image Urls\n"

CHECK = """
import json, resource, sys
from pathlib import Path
from pixmill.core.errors import SheetRejected
from pixmill.core.model import SheetRules
from pixmill.core.sheets import check_sheet, write_output

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

class Nowhere:
    size = 0
    def write(self, data):
        self.size += len(data)

before = peak()
result = {}
with Path(sys.argv[1]).open("rb") as raw:
    try:
        result["images"] = check_sheet(raw, SheetRules()).total_images
        if sys.argv[2] == "write":
            outputs = ("https://out.example/x.jpg" for _ in range(result["images"]))
            write_output(raw, SheetRules(), outputs, Nowhere())
    except SheetRejected as rejected:
        result["codes"] = [problem.code for problem in rejected.problems]
        result["lines"] = [problem.line for problem in rejected.problems]
print(json.dumps({**result, "peak": peak() - before}))
"""


def run(file: Path, what: str = "check") -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", CHECK, str(file), what], check=True, capture_output=True
    )
    result: dict[str, object] = json.loads(done.stdout)
    return result


def grown(result: dict[str, object]) -> int:
    peak = result["peak"]
    assert isinstance(peak, int)
    return peak


def rows(file: Path, count: int) -> Path:
    with file.open("wb") as sink:
        sink.write(HEAD)
        for start in range(0, count, 10_000):
            sink.write(
                b"".join(
                    b"%d,Product %d,https://cdn.example.com/p/%d/front.jpg\n" % (n, n, n)
                    for n in range(start, min(start + 10_000, count))
                )
            )
    return file


@pytest.mark.slow
def test_a_million_rows_take_no_more_memory_than_ten_thousand(tmp_path: Path) -> None:
    """The file of 60 MB is read, counted and written within 4 MB of what a small one takes."""
    small = run(rows(tmp_path / "small.csv", 10_000), "write")
    large = run(rows(tmp_path / "large.csv", 1_000_000), "write")
    assert (small["images"], large["images"]) == (10_000, 1_000_000)
    assert grown(large) - grown(small) < 4 << 20


@pytest.mark.parametrize(
    ("tail", "code", "line"),
    [
        pytest.param(b'2,"Mug,https://a.example/1.jpg\n', "unclosed_quote", 3, id="open quote"),
        pytest.param(b"", "row_too_long", 3, id="one line"),
        pytest.param(b'2,"', "unclosed_quote", 3, id="open quote and blank lines"),
    ],
)
def test_a_hundred_megabytes_in_one_cell_are_not_held(
    tmp_path: Path, tail: bytes, code: str, line: int
) -> None:
    """Reading stops at the cap, and the line where it began is named."""
    file = tmp_path / "open.csv"
    with file.open("wb") as sink:
        sink.write(HEAD + b"1,Mug,https://a.example/1.jpg\n" + tail)
        filler = b"x" * 1_000_000 if not tail else b"\r\n" * 500_000
        if tail.endswith(b"\n"):
            filler = (b"x" * 99 + b"\n") * 10_000
        for _ in range(100):
            sink.write(filler)
    result = run(file)
    assert (result["codes"], result["lines"]) == ([code], [line])
    assert grown(result) < 50 << 20


def test_one_endless_product_is_not_gathered(tmp_path: Path) -> None:
    """Rows that all continue one product are refused beyond the cap, not collected."""
    file = tmp_path / "endless.csv"
    row = b"1,Mug,https://a.example/1.jpg\n"
    file.write_bytes(HEAD + row * 200_000)
    result = run(file)
    assert result["codes"] == ["too_many_urls"] * 100
    assert grown(result) < 10 << 20

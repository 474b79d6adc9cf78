"""The report: true numbers, nothing from outside, nothing hostile alive, never half a file."""

from __future__ import annotations

import base64
import hashlib
import re
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pixmill.cli.report import (
    MOST_FAILURES,
    MOST_PRODUCTS,
    FailureLine,
    Pair,
    ProductLine,
    duration,
    is_web_url,
    percent,
    short,
    size,
    write_report,
)
from pixmill.core.advice import ADVICE
from pixmill.core.errors import ImageErrorCode
from pixmill.core.model import Request, RequestStatus, SheetRules
from pixmill.core.options import Options
from pixmill.ports import Totals

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
REQUEST = Request(
    id="req_1",
    status=RequestStatus.COMPLETED,
    filename="products.csv",
    digest="d",
    options=Options(),
    rules=SheetRules(),
    total_images=10,
    total_products=4,
    processed_images=8,
    failed_images=2,
    error=None,
    created_at=NOON,
    updated_at=NOON,
    finished_at=NOON,
)
TOTALS = Totals(
    images=10,
    bytes_in=4_000_000,
    bytes_out=1_000_000,
    failures={ImageErrorCode.HTTP_ERROR: 1, ImageErrorCode.TIMEOUT: 1},
)
HOSTILE = """"><script>alert(1)</script><img src=x onerror='alert(2)'>{{ 7*7 }}\u202e&lt;"""
VOID = {"meta", "link", "img", "input", "br", "rect", "circle", "path"}


class Page(HTMLParser):
    """Reads a page: its tags with attributes and its text; every tag must be closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open, "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, "elements are closed in order"

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in {"style", "script"}:
            self.text += f" {data}"

    def values(self, attribute: str) -> list[str]:
        return [attributes[attribute] for _, attributes in self.tags if attribute in attributes]


def a_product(name: str = "Cup", **other: Any) -> ProductLine:
    line = ProductLine("A-1", name, bytes_in=1000, bytes_out=400, done=2, failed=0)
    return replace(line, **other)


def a_failure(**other: Any) -> FailureLine:
    line = FailureLine(
        "A-1", "Cup", "https://shop.example/a.jpg", ImageErrorCode.HTTP_ERROR, "answered 404"
    )
    return replace(line, **other)


def a_pair(**other: Any) -> Pair:
    pair = Pair("Cup", "https://shop.example/a.jpg", b"\xff\xd8before", b"\xff\xd8after", 900, 300)
    return replace(pair, **other)


def written(folder: Path, **other: Any) -> str:
    given: dict[str, Any] = {
        "request": REQUEST,
        "totals": TOTALS,
        "seconds": 4.0,
        "products": [a_product()],
        "failures": [a_failure(), a_failure(code=ImageErrorCode.TIMEOUT)],
        "pairs": [a_pair()],
    }
    write_report(folder / "report.html", **(given | other))
    return (folder / "report.html").read_text(encoding="utf-8")


def text_of(html: str) -> str:
    return " ".join(Page(html).text.split())


def test_the_headline_numbers_are_those_of_the_request(tmp_path: Path) -> None:
    text = text_of(written(tmp_path))
    for piece in (
        "8 of 10 images are done",
        "2 failed",
        "75.0 % saved",
        "1.0 MB after",
        "4.0 MB before",
        "Images per second 2.5",
        "Duration 4.0 s",
    ):
        assert piece in text


def test_nothing_comes_from_outside_the_file(tmp_path: Path) -> None:
    page = Page(written(tmp_path))
    assert not {"iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.values("src"))
    assert not page.values("srcset")
    for tag, attributes in page.tags:
        if tag == "link":
            assert attributes["href"].startswith("data:image/svg+xml,")


def test_the_policy_lets_exactly_the_inline_style_and_script_pass(tmp_path: Path) -> None:
    html = written(tmp_path)
    (policy,) = (value for value in Page(html).values("content") if "default-src" in value)
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for name in ("style", "script"):
        (inline,) = re.findall(rf"<{name}>(.*?)</{name}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy


def test_no_attribute_would_be_refused_by_the_policy(tmp_path: Path) -> None:
    page = Page(written(tmp_path))
    assert not page.values("style")
    assert not [name for _, found in page.tags for name in found if name.startswith("on")]


def test_hostile_text_is_shown_and_never_alive(tmp_path: Path) -> None:
    html = written(
        tmp_path,
        request=replace(REQUEST, filename=HOSTILE, error=HOSTILE),
        products=[a_product(HOSTILE, serial_number=HOSTILE)],
        failures=[a_failure(name=HOSTILE, url=HOSTILE, message=HOSTILE, serial_number=HOSTILE)],
        pairs=[a_pair(product=HOSTILE, url=HOSTILE)],
    )
    plain = Page(written(tmp_path))
    page = Page(html)
    scripts = [tag for tag, _ in page.tags if tag == "script"]
    assert scripts == ["script"], "our own"
    assert not page.values("onerror")
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in plain.tags}
    assert "{{ 7*7 }}" in page.text


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        " javascript:alert(1)",
        "java\tscript:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "file:///etc/passwd",
        "vbscript:x",
        "//shop.example/a.jpg",
        "pictures/a.jpg",
        "",
    ],
)
def test_only_web_urls_become_links(tmp_path: Path, url: str) -> None:
    assert not is_web_url(url)
    html = written(tmp_path, failures=[a_failure(url=url)], pairs=[a_pair(url=url)])
    links = [attributes["href"] for tag, attributes in Page(html).tags if tag == "a"]
    assert all(link.startswith("#") for link in links)
    if url:
        assert url.split(",")[0].strip() in Page(html).text


def test_links_tell_the_shop_nothing(tmp_path: Path) -> None:
    links = [found for tag, found in Page(written(tmp_path)).tags if tag == "a"]
    outside = [found for found in links if not found["href"].startswith("#")]
    assert outside
    assert all(found["rel"] == "noreferrer noopener" for found in outside)


def test_every_failure_comes_with_what_to_do_about_it(tmp_path: Path) -> None:
    failures = [a_failure(code=code, message=f"about {code}") for code in ImageErrorCode]
    totals = replace(TOTALS, failures=dict.fromkeys(ImageErrorCode, 1))
    text = text_of(written(tmp_path, failures=failures, totals=totals))
    for code in ImageErrorCode:
        assert f"about {code}" in text
        assert ADVICE[code].what_to_do in text


def test_the_products_with_the_largest_savings_are_listed_and_it_says_so(tmp_path: Path) -> None:
    count = MOST_PRODUCTS + 50
    products = [a_product(f"Product<{n}>", bytes_in=1000 + n, bytes_out=10) for n in range(count)]
    text = text_of(
        written(tmp_path, products=products, request=replace(REQUEST, total_products=count))
    )
    assert f"The {MOST_PRODUCTS} products with the largest savings, of {count} in the file" in text
    assert f"Product<{count - 1}>" in text
    assert "Product<49>" not in text


def test_listed_failures_are_bounded_and_it_says_where_all_are(tmp_path: Path) -> None:
    count = MOST_FAILURES + 7
    html = written(
        tmp_path,
        failures=[a_failure(message=f"failure {n}.") for n in range(count)],
        totals=replace(TOTALS, failures={ImageErrorCode.HTTP_ERROR: count}),
        request=replace(REQUEST, failed_images=count, total_images=8 + count),
    )
    text = text_of(html)
    assert f"The first {MOST_FAILURES} of {count} failed images" in text
    assert "7 more in errors.csv" in text
    assert f"failure {MOST_FAILURES - 1}." in text
    assert f"failure {MOST_FAILURES}." not in text


def test_memory_does_not_grow_with_the_products(tmp_path: Path) -> None:
    def many() -> Iterator[ProductLine]:
        for number in range(100_000):
            yield a_product("x" * 500, serial_number=str(number), bytes_in=1000 + number)

    written(tmp_path)  # templates and caches are loaded
    tracemalloc.start()
    written(tmp_path, products=many(), request=replace(REQUEST, total_products=100_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6_000_000


def test_a_report_is_whole_or_as_it_was(tmp_path: Path) -> None:
    def broken() -> Iterator[FailureLine]:
        yield a_failure()
        raise OSError("the store is gone")

    before = written(tmp_path)
    with pytest.raises(OSError, match="the store is gone"):
        written(tmp_path, failures=broken())
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == before
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_request_without_a_single_image_has_a_report(tmp_path: Path) -> None:
    request = replace(REQUEST, total_images=0, processed_images=0, failed_images=0)
    html = written(
        tmp_path, request=request, totals=Totals(), seconds=0.0, products=[], failures=[], pairs=[]
    )
    assert "The file names no images" in text_of(html)


def test_a_request_of_which_everything_failed_has_a_report(tmp_path: Path) -> None:
    request = replace(REQUEST, status=RequestStatus.FAILED, processed_images=0, failed_images=10)
    totals = Totals(images=10, failures={ImageErrorCode.DNS_FAILURE: 10})
    failures = [a_failure(code=ImageErrorCode.DNS_FAILURE)] * 10
    html = written(tmp_path, request=request, totals=totals, failures=failures, pairs=[])
    assert "None of 10 images could be done" in text_of(html)


def test_growth_is_called_growth(tmp_path: Path) -> None:
    html = written(
        tmp_path,
        totals=replace(TOTALS, bytes_in=1000, bytes_out=1500),
        products=[a_product(bytes_in=1000, bytes_out=1500)],
    )
    assert "50.0 % larger than before" in text_of(html)


def test_a_name_that_no_encoding_can_write_does_not_stop_the_report(tmp_path: Path) -> None:
    assert "Cup ?" in text_of(written(tmp_path, products=[a_product("Cup \udcff")]))


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (2_500_000_000, "2.5 GB"),
        (7_100_000_000_000_000, "7,100.0 TB"),
        (-1500, "\u22121.5 kB"),
    ],
)
def test_sizes_read_well(count: int, said: str) -> None:
    assert size(count) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(4.21, "4.2 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (273_600, "3 d 4 h")],
)
def test_durations_read_well(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("part", "whole", "said"),
    [(0, 0, "0.0"), (1, 3, "33.3"), (1, 10**6, "0.1"), (10**6 - 1, 10**6, "99.9"), (5, 5, "100.0")],
)
def test_a_share_never_looks_like_all_or_nothing_when_it_is_not(
    part: int, whole: int, said: str
) -> None:
    assert percent(part, whole) == said


def test_long_texts_are_cut_in_their_middle() -> None:
    url = "https://shop.example/" + "x" * 4000 + "/end.jpg"
    cut = short(url, 100)
    assert len(cut) < 110
    assert cut.startswith("https://shop.example/")
    assert cut.endswith("/end.jpg")
    assert short("short", 100) == "short"

"""The report is one whole, safe and honest page, whatever the catalogue holds."""

from __future__ import annotations

import base64
import hashlib
import re
import tracemalloc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
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
    percent,
    short,
    size,
    width,
    write_report,
)
from pixmill.core.advice import ADVICE
from pixmill.core.errors import ImageErrorCode
from pixmill.core.model import Request, RequestStatus, SheetRules
from pixmill.core.options import Format, Options
from pixmill.ports import Totals
from tests.shop import photo

STARTED = datetime(2025, 3, 14, 9, 26, tzinfo=UTC)
EVIL = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7 * 7 }}"
VOID = {"meta", "link", "img", "input", "br", "rect", "circle", "path"}


@dataclass
class Page(HTMLParser):
    """A report read back: its tags, the text of its elements, and whether its tags are closed."""

    source: str
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    raw: dict[str, str] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)
    _open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.source)
        self.close()
        assert not self._open, f"left open: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in {"style", "script"}:
            self.raw[self._open[-1]] = data
        else:
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of every element with this tag."""
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        """What a reader sees, with single spaces."""
        return " ".join("".join(self.words).split())


def a_request(*, done: int = 3, failed: int = 0, products: int = 2, **changes: Any) -> Request:
    request = Request(
        id="req_1",
        status=RequestStatus.COMPLETED if done else RequestStatus.FAILED,
        filename="spring.csv",
        digest="",
        options=Options(),
        rules=SheetRules(),
        total_images=done + failed,
        total_products=products,
        processed_images=done,
        failed_images=failed,
        error=None,
        created_at=STARTED,
        updated_at=STARTED,
        finished_at=STARTED + timedelta(minutes=3),
    )
    return replace(request, **changes)


def some_products(count: int) -> Iterator[ProductLine]:
    for number in range(count):
        yield ProductLine(f"S{number}", f"Product {number}", 5_000 + number, 1_000, 1, 0)


def some_failures(count: int, code: ImageErrorCode) -> Iterator[FailureLine]:
    for number in range(count):
        yield FailureLine(f"S{number}", "Lamp", f"https://shop.example/{number}.jpg", code, "404.")


def a_pair(**changes: Any) -> Pair:
    pair = Pair("Lamp", "https://shop.example/1.jpg", photo(1, 480, 320), photo(2), 9_000, 3_000)
    return replace(pair, **changes)


@pytest.fixture
def report(tmp_path: Path) -> Any:
    """Writes a report and reads it back; what is not given is a small run without failures."""

    def write(
        request: Request | None = None,
        *,
        totals: Totals | None = None,
        seconds: float = 2.0,
        products: Iterable[ProductLine] = (),
        failures: Iterable[FailureLine] = (),
        pairs: Sequence[Pair] = (),
    ) -> Page:
        path = tmp_path / "report.html"
        write_report(
            path,
            request=request or a_request(),
            totals=totals or Totals(images=3, bytes_in=4_000_000, bytes_out=1_000_000, kept=1),
            seconds=seconds,
            products=products,
            failures=failures,
            pairs=pairs,
        )
        assert list(tmp_path.iterdir()) == [path], "nothing else is left behind"
        return Page(path.read_text(encoding="utf-8"))

    return write


def failed(counts: Mapping[ImageErrorCode, int]) -> Totals:
    return Totals(images=sum(counts.values()), failures=counts)


def test_the_headline_says_what_was_saved_and_how_fast(report: Any) -> None:
    text = report(a_request(done=3, products=2), seconds=2.0).text
    assert "All 3 images are done." in text
    assert "75.0 % saved" in text
    assert "1.0 MB after" in text
    assert "4.0 MB before" in text
    assert "Images per second1.5" in text
    assert "Duration2.0 s" in text
    assert "Originals kept1" in text
    assert "14 March 2025, 09:29 UTC" in text


def test_nothing_comes_from_outside(report: Any) -> None:
    failures = list(some_failures(3, ImageErrorCode.HTTP_ERROR))
    page = report(
        a_request(done=2, failed=3), products=some_products(2), failures=failures, pairs=[a_pair()]
    )
    for tag, attributes in page.tags:
        assert "style" not in attributes, "the policy forbids it"
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            value = attributes.get(name)
            if value and not value.startswith(("data:", "#")):
                assert tag == "a"
                assert "noreferrer" in (attributes["rel"] or "")
    assert "url(" not in page.raw["style"]
    assert "@import" not in page.raw["style"]


@pytest.mark.parametrize("kind", ["style", "script"])
def test_the_policy_allows_exactly_the_page_s_own_style_and_script(report: Any, kind: str) -> None:
    page = report()
    policy = next(tag["content"] for tag in page.all("meta") if tag.get("http-equiv"))
    digest = base64.b64encode(hashlib.sha256(page.raw[kind].encode()).digest()).decode()
    assert f"{kind}-src 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    assert len(page.all(kind)) == 1


def test_hostile_names_urls_and_messages_stay_text(report: Any) -> None:
    plain = report(a_request(failed=1), failures=some_failures(1, ImageErrorCode.EMPTY))
    page = report(
        a_request(failed=1, filename=EVIL, id=EVIL, error=EVIL),
        products=[ProductLine(EVIL, EVIL, 9, 1, 1, 0)],
        failures=[FailureLine(EVIL, EVIL, EVIL, ImageErrorCode.EMPTY, EVIL)],
        pairs=[a_pair(product=EVIL, url=EVIL)],
    )
    assert len(page.all("script")) == len(plain.all("script"))
    assert "img src=x" in page.text
    assert {
        tag["src"] for tag in page.all("img") if not (tag["src"] or "").startswith("data:")
    } == set()
    assert "{{ 7 * 7 }}" in page.text


@pytest.mark.parametrize(
    ("url", "linked"),
    [
        ("https://shop.example/a.jpg?b=1&c=2", True),
        ("HTTP://shop.example/a.jpg", True),
        ("javascript:alert(1)", False),
        (" javascript:alert(1)", False),
        ("data:text/html,hello", False),
        ("images/front.jpg", False),
        ("//shop.example/a.jpg", False),
    ],
)
def test_only_web_addresses_are_links(report: Any, url: str, linked: bool) -> None:
    line = FailureLine("1", "Lamp", url, ImageErrorCode.INVALID_URL, "No.")
    page = report(a_request(failed=1), failures=[line], pairs=[a_pair(url=url)])
    links = [tag["href"] for tag in page.all("a") if not (tag["href"] or "").startswith("#")]
    assert links == ([url, url] if linked else [])
    assert url.strip() in page.text


def test_folders_of_local_files_are_not_told(report: Any) -> None:
    page = report(pairs=[a_pair(product="", url="file:///home/ada/shop/front%20view.jpg")])
    assert "front view.jpg" in page.text
    assert "After, 3.0 kB: front view.jpg" in page.source
    assert "/home" not in page.text


def test_unseen_characters_are_not_shown(report: Any) -> None:
    name = "photo\u202egpj.exe\x00\x1b[31m\ud800"
    page = report(products=[ProductLine("1", name, 9, 1, 1, 0)])
    assert "photo gpj.exe [31m?" in page.text


def test_the_largest_savings_come_first_and_the_rest_is_owned_up_to(report: Any) -> None:
    many = MOST_PRODUCTS + 50
    page = report(a_request(products=many), products=some_products(many))
    assert f"The 200 products with the largest savings, of {many} in the file." in page.text
    shown = re.findall(r"Product (\d+)", page.text.split("Saved %")[-1])
    assert [int(number) for number in shown] == list(range(many - 1, many - 1 - MOST_PRODUCTS, -1))


def test_a_short_list_of_products_is_called_whole(report: Any) -> None:
    empty = ProductLine("S9", "Nothing worked", 0, 0, 0, 2)
    page = report(a_request(products=3), products=[*some_products(2), empty])
    assert "All products that have images now, the largest savings first." in page.text
    assert "Nothing worked" not in page.text


def test_a_shared_image_is_explained(report: Any) -> None:
    explained = "An image that several products name counts with each of them here"
    totals = Totals(images=3, bytes_in=10, bytes_out=5)
    assert explained in report(a_request(done=9), totals=totals, products=some_products(2)).text
    assert explained not in report(a_request(done=3), totals=totals, products=some_products(2)).text


def test_failures_are_listed_up_to_a_bound_and_errors_csv_has_the_rest(report: Any) -> None:
    many = MOST_FAILURES + 1_000
    page = report(
        a_request(failed=many + 7),
        totals=failed({ImageErrorCode.HTTP_ERROR: many, ImageErrorCode.TIMEOUT: 7}),
        failures=some_failures(many, ImageErrorCode.HTTP_ERROR),
    )
    assert len([tag for tag in page.all("a") if "rel" in tag]) == MOST_FAILURES
    assert "The first 500 of 1,507 failed images" in page.text
    assert "1,000 more in errors.csv" in page.text
    assert "7 of them in errors.csv" in page.text


def test_no_more_failures_are_read_than_are_shown(report: Any) -> None:
    failures = some_failures(MOST_FAILURES + 2, ImageErrorCode.EMPTY)
    report(a_request(failed=MOST_FAILURES + 2), failures=failures)
    assert len(list(failures)) == 2


@pytest.mark.parametrize("code", ImageErrorCode)
def test_every_reason_says_what_to_do_even_when_no_line_of_it_fits(
    report: Any, code: ImageErrorCode
) -> None:
    page = report(a_request(failed=4), totals=failed({code: 4}))
    assert ADVICE[code].what_to_do in page.text
    assert f"{code} · 4 images · {ADVICE[code].title}" in page.text
    assert {"href": f"#{code}"} in page.all("a")
    assert [tag for tag in page.all("tbody") if tag.get("id") == code]


def test_the_most_frequent_reason_comes_first(report: Any) -> None:
    counts = {ImageErrorCode.EMPTY: 1, ImageErrorCode.TIMEOUT: 5, ImageErrorCode.TOO_LARGE: 3}
    page = report(a_request(failed=9), totals=failed(counts))
    assert [tag["id"] for tag in page.all("tbody")] == ["timeout", "too_large", "empty"]


def test_a_run_without_failures_does_not_speak_of_them(report: Any) -> None:
    page = report(products=some_products(2))
    assert "What failed" not in page.text
    assert "#failures" not in page.source


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (a_request(done=0, failed=3), "None of the 3 images could be done."),
        (a_request(done=0, failed=1), "The image could not be done."),
        (a_request(done=1), "The image is done."),
        (a_request(done=0, failed=0), "The file names no images."),
        (a_request(done=2, failed=1_000), "2 of 1,002 images are done; 1,000 failed."),
        (a_request(status=RequestStatus.CANCELLED), "The request was cancelled."),
        (a_request(done=1_000_000), "All 1,000,000 images are done."),
    ],
)
def test_the_verdict_fits_what_happened(report: Any, request_: Request, words: str) -> None:
    code = ImageErrorCode.TIMEOUT
    counts = {code: request_.failed_images} if request_.failed_images else {}
    assert words in report(request_, totals=failed(counts), seconds=0.0).text


def test_nothing_stored_claims_no_savings(report: Any) -> None:
    page = report(a_request(done=0, failed=1), totals=Totals(), seconds=0.0)
    assert "saved" not in page.text
    assert "Images per second–" in page.text


def test_images_that_grew_are_not_called_savings(report: Any) -> None:
    page = report(
        totals=Totals(images=3, bytes_in=1_000, bytes_out=1_250),
        products=[ProductLine("1", "Lamp", 1_000, 1_250, 1, 0)],
    )
    assert "25.0 % larger than before" in page.text
    assert "\u2212250 B \u221225.0" in page.text
    assert "products with the largest savings" not in page.text


def test_pictures_are_carried_along_with_their_sizes_and_alternatives(report: Any) -> None:
    pair = a_pair()
    page = report(pairs=[pair, a_pair(bytes_out=9_000)])
    images = page.all("img")
    assert len(images) == 4
    assert images[0]["src"] == f"data:image/jpeg;base64,{base64.b64encode(pair.before).decode()}"
    assert images[1]["alt"] == "After, 3.0 kB: Lamp"
    assert (images[1]["width"], images[1]["height"]) == ("160", "120")
    assert "9.0 kB → 3.0 kB, 66.7 % saved" in page.text
    assert "9.0 kB, kept as it was" in page.text


def test_a_picture_too_small_to_slide_over_stays_side_by_side(report: Any) -> None:
    page = report(pairs=[a_pair(before=photo(1, 64, 64), after=photo(1, 64, 64)), a_pair()])
    kinds = [tag["class"] for tag in page.all("div") if (tag.get("class") or "").startswith("both")]
    assert kinds == ["both", "both sliding"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Options(), "JPEG, quality 50, metadata removed"),
        (
            Options(format=Format.WEBP, quality=80, max_width=1_200, strip_metadata=False),
            "WebP, quality 80, at most 1,200 pixels wide, metadata kept",
        ),
        (Options(format=Format.KEEP, max_height=900), "at most 900 pixels high"),
    ],
)
def test_the_options_are_told(report: Any, options: Options, words: str) -> None:
    assert words in report(a_request(options=options)).text


def test_a_report_is_whole_or_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("the old one")

    def breaking() -> Iterator[ProductLine]:
        yield from some_products(3)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        write_report(
            path,
            request=a_request(),
            totals=Totals(),
            seconds=1.0,
            products=breaking(),
            failures=[],
            pairs=[],
        )
    assert path.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_memory_does_not_grow_with_the_catalogue(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        write_report(
            tmp_path / "report.html",
            request=a_request(done=count, failed=count, products=count),
            totals=failed({ImageErrorCode.TIMEOUT: count}),
            seconds=1.0,
            products=some_products(count),
            failures=some_failures(count, ImageErrorCode.TIMEOUT),
            pairs=[],
        )
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(1_000)  # compiles the template
    assert peak(50_000) < peak(1_000) + 200_000


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (2_914_000_000, "2.9 GB"),
        (5 * 10**15, "5,000.0 TB"),
        (-1_500, "\u22121.5 kB"),
    ],
)
def test_sizes_read_well(count: int, words: str) -> None:
    assert size(count) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.004, "0.0 s"),
        (4.21, "4.2 s"),
        (59.99, "1 min 0 s"),
        (61.4, "1 min 1 s"),
        (3_599.7, "1 h 0 min"),
        (93_211, "1 d 1 h"),
    ],
)
def test_durations_read_well(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("part", "whole", "words"),
    [
        (0, 0, "0.0"),
        (0, 5, "0.0"),
        (5, 5, "100.0"),
        (1, 1_000_000, "0.1"),
        (999_999, 1_000_000, "99.9"),
        (-1, 9, "\u221211.1"),
        (-30, 9, "\u2212333.3"),
    ],
)
def test_a_share_never_looks_like_all_or_nothing_unless_it_is(
    part: int, whole: int, words: str
) -> None:
    assert percent(part, whole) == words


def test_bars_that_are_not_nothing_can_be_seen() -> None:
    assert width(0, 10) == "0.00%"
    assert width(1, 10**9) == "0.20%"
    assert width(5, 10) == "50.00%"


def test_long_texts_keep_both_ends() -> None:
    url = "https://shop.example/" + "a" * 4_000 + "/front.jpg"
    assert short(url, 5_000) == url
    cut = short(url, 100)
    assert cut.startswith("https://shop.example/")
    assert cut.endswith("/front.jpg")
    assert len(cut) < 110


@pytest.mark.parametrize(("damaged", "told"), [(0, False), (3, True)])
def test_damaged_sources_are_told_of(report: Any, damaged: int, told: bool) -> None:
    totals = Totals(images=3, bytes_in=4_000_000, bytes_out=1_000_000, damaged=damaged)
    assert ("Damaged sources3" in report(totals=totals).text) is told

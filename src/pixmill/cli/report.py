"""The report of a run: one HTML file to read, print or mail, complete without a network."""

from __future__ import annotations

import base64
import hashlib
import heapq
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from urllib.parse import unquote

import jinja2

from pixmill.cli.numbers import duration, percent, size
from pixmill.core.advice import ADVICE, Advice
from pixmill.core.errors import ImageErrorCode
from pixmill.core.model import Request
from pixmill.core.options import Format, Options
from pixmill.io.codec.jpeg_segments import read_header
from pixmill.ports import Totals

MOST_PRODUCTS = 200
MOST_BARS = 10
MOST_FAILURES = 500
FORMATS = {
    Format.JPEG: "JPEG",
    Format.AUTO: "JPEG, or WebP where transparent",
    Format.WEBP: "WebP",
    Format.AVIF: "AVIF",
    Format.PNG: "PNG",
    Format.KEEP: "the formats of the originals",
}
UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]+")


@dataclass(frozen=True, slots=True)
class Pair:
    """The same part of a picture before and after, as two JPEG files; sizes are of the whole."""

    product: str
    url: str
    before: bytes
    after: bytes
    bytes_in: int
    bytes_out: int


@dataclass(frozen=True, slots=True)
class ProductLine:
    """What became of one product: the bytes of its stored images, and how many there are."""

    serial_number: str
    name: str
    bytes_in: int
    bytes_out: int
    done: int
    failed: int

    @property
    def saved(self) -> int:
        """Bytes saved; below zero if the product grew, as another format may make it."""
        return self.bytes_in - self.bytes_out


@dataclass(frozen=True, slots=True)
class FailureLine:
    """One image reference that failed; ``url`` is as the CSV has it."""

    serial_number: str
    name: str
    url: str
    code: ImageErrorCode
    message: str


@dataclass(frozen=True, slots=True)
class Reason:
    """The failures of one code: how many there are in all, and those that are listed."""

    code: ImageErrorCode
    advice: Advice
    count: int
    lines: list[FailureLine]


def write_report(
    path: Path,
    *,
    request: Request,
    totals: Totals,
    seconds: float,
    products: Iterable[ProductLine],
    failures: Iterable[FailureLine],
    pairs: Sequence[Pair],
) -> None:
    """Write the report of a terminal request, whole or not at all. Raises OSError.

    ``products`` and ``failures`` may be endless as far as memory goes: only the largest savings
    and the first failures are kept.
    """
    largest = heapq.nlargest(MOST_PRODUCTS, _with_images(products), key=lambda line: line.saved)
    listed = list(islice(failures, MOST_FAILURES))
    page = _templates().get_template("report.html.j2")
    parts = page.generate(
        request=request,
        totals=totals,
        seconds=seconds,
        products=largest,
        bars=[line for line in largest if line.saved > 0][:MOST_BARS],
        reasons=_reasons(totals, listed),
        listed=len(listed),
        pairs=pairs,
        most_products=MOST_PRODUCTS,
    )
    _write_whole(path, parts)


def _with_images(products: Iterable[ProductLine]) -> Iterable[ProductLine]:
    return (line for line in products if line.done)


def _reasons(totals: Totals, listed: Sequence[FailureLine]) -> list[Reason]:
    """The failures by code, the most frequent first."""
    lines: dict[ImageErrorCode, list[FailureLine]] = {code: [] for code in totals.failures}
    for line in listed:
        lines.setdefault(line.code, []).append(line)
    reasons = [
        Reason(code, ADVICE[code], max(totals.failures.get(code, 0), len(found)), found)
        for code, found in lines.items()
    ]
    return sorted(reasons, key=lambda reason: -reason.count)


def _write_whole(path: Path, parts: Iterable[str]) -> None:
    partial = path.with_suffix(".partial")
    try:
        # A name may hold lone surrogates, which no encoding can write: they become "?".
        with partial.open("w", encoding="utf-8", errors="replace", newline="\n") as file:
            file.writelines(parts)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _templates() -> jinja2.Environment:
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("pixmill.cli"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "size": size,
        "duration": duration,
        "percent": percent,
        "short": short,
        "width": width,
        "address": address,
        "described": described,
        "jpeg_uri": _jpeg_uri,
        "jpeg_size": _jpeg_size,
        "csp_hash": _csp_hash,
    }
    templates.tests["web_url"] = is_web_url
    return templates


def width(part: float, whole: float) -> str:
    """The width of a bar as SVG wants it; what is not nothing can be seen."""
    return f"{max(100 * part / whole, 0.2 if part else 0):.2f}%"


def described(options: Options) -> str:
    """The processing options as people say them."""
    words = [FORMATS[options.format], f"quality {options.quality}"]
    if options.max_width:
        words.append(f"at most {options.max_width:,} pixels wide")
    if options.max_height:
        words.append(f"at most {options.max_height:,} pixels high")
    words.append("metadata removed" if options.strip_metadata else "metadata kept")
    return ", ".join(words)


def short(text: str, most: int) -> str:
    """A text to show: without unseen characters and cut in its middle to ``most``.

    No layout survives all 4,096 characters of a URL, and characters that turn the direction of
    writing can make a text look like another one.
    """
    text = UNSEEN.sub(" ", text).strip()
    if len(text) <= most:
        return text
    head = most * 2 // 3
    return f"{text[:head]} … {text[head - most :]}"


def address(url: str) -> str:
    """A URL to show: of a local file only its name, for reports are passed on."""
    return unquote(url.rsplit("/", 1)[-1]) if url.lower().startswith("file:") else url


def is_web_url(url: str) -> bool:
    """Whether a URL may be a link: everything else (javascript:, data:, files) is only shown."""
    return url.lower().startswith(("http://", "https://"))


def _jpeg_uri(data: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def _jpeg_size(data: bytes) -> tuple[int, int]:
    header = read_header(data)
    return header.width, header.height


def _csp_hash(text: str) -> str:
    """The source expression that lets exactly this inline style or script pass the CSP."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

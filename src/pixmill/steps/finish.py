"""Finish a request: write the output CSV and the error report, then close it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from typing import BinaryIO

from pixmill.core.leases import Lease
from pixmill.core.model import Failure, Image, Outcome, Product, Request, Stored
from pixmill.core.shards import sheet_key
from pixmill.core.sheets.writer import ErrorLine, write_errors, write_output
from pixmill.ports import Blobs, Clock, Store

UrlOf = Callable[[str], str]
"""The URL under which the image with a key can be had."""

PAGE = 500


def finish_request(store: Store, blobs: Blobs, lease: Lease, url_of: UrlOf, clock: Clock) -> None:
    """Write the sheets of a request whose images all have outcomes, then make it terminal.

    Both sheets are whole at their deterministic keys before the request closes, so whoever sees it
    terminal can download them; a finish that was cut short writes the same sheets again.
    """
    request = store.request(lease.request_id)
    with tempfile.TemporaryFile() as sink:
        write_output_csv(store, blobs, request, url_of, sink)
        sink.seek(0)
        blobs.put(sheet_key(request.id, "output"), sink)
    with tempfile.TemporaryFile() as sink:
        write_errors_csv(store, request, sink)
        sink.seek(0)
        blobs.put(sheet_key(request.id, "errors"), sink)
    store.close_request(lease, now=clock())


def write_output_csv(
    store: Store,
    blobs: Blobs,
    request: Request,
    url_of: UrlOf,
    sink: BinaryIO,
    *,
    partial: bool = False,
) -> None:
    """Write the input CSV with the URLs of the stored images beside those of their sources.

    If ``partial``, the request may lack products at its end, as its ingest may not be over.
    """
    outputs = (_output(outcome, url_of) for _, _, outcome in references(store, request.id))
    with blobs.open(sheet_key(request.id, "input")) as raw:
        write_output(raw, request.rules, outputs, sink, request.limits, partial=partial)


def write_errors_csv(store: Store, request: Request, sink: BinaryIO) -> None:
    """Write one line for each reference of an image that failed."""
    found = references(store, request.id) if request.failed_images else iter(())
    lines = (
        ErrorLine(
            serial_number=product.serial_number,
            product_name=product.name,
            url=written,
            code=outcome.result.code,
            message=outcome.result.message,
            attempts=outcome.attempts,
        )
        for product, written, outcome in found
        if outcome and isinstance(outcome.result, Failure)
    )
    write_errors(lines, sink, neutralise_formulas=request.rules.neutralise_formulas)


def references(store: Store, request_id: str) -> Iterator[tuple[Product, str, Outcome | None]]:
    """Walk the image references of a request in the order of its CSV, a page at a time.

    Yields the product, the URL as the CSV has it, and the outcome of the image that it names.
    """
    for page in pages_of_products(store, request_id):
        images = images_of(store, request_id, page)
        for product in page:
            for written, sequence in zip(product.written, product.images, strict=True):
                image = images.get(sequence)  # none if the ingest starts over at this moment
                yield product, written, image.outcome if image else None


def pages_of_products(store: Store, request_id: str) -> Iterator[list[Product]]:
    """Walk the products of a request in order, a page at a time."""
    after = 0
    while page := store.products(request_id, after=after, limit=PAGE):
        yield page
        after = page[-1].sequence


def images_of(store: Store, request_id: str, page: list[Product]) -> dict[int, Image]:
    """The images that a page of products names, by their sequence."""
    wanted = sorted({sequence for product in page for sequence in product.images})
    return {image.sequence: image for image in store.images(request_id, sequences=wanted)}


def _output(outcome: Outcome | None, url_of: UrlOf) -> str:
    if outcome and isinstance(outcome.result, Stored):
        return url_of(outcome.result.key)
    return ""

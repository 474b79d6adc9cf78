"""What a run leaves in its folder: the sheets and the report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pixmill.cli.report import FailureLine, Pair, ProductLine, write_report
from pixmill.core.errors import ImageError, NotFound, StorageFailure
from pixmill.core.model import Failure, Image, Product, Request, Stored
from pixmill.core.shards import original_key
from pixmill.io.pixels import Comparer
from pixmill.ports import Blobs, Store, Totals
from pixmill.steps.finish import (
    UrlOf,
    images_of,
    pages_of_products,
    references,
    write_errors_csv,
    write_output_csv,
)

MOST_PAIRS = 12


@dataclass(frozen=True, slots=True)
class Results:
    """The results of a terminal request and the folder that they go into."""

    folder: Path
    store: Store
    blobs: Blobs
    request: Request
    totals: Totals

    @property
    def files(self) -> dict[str, Path]:
        """Where things lie, by what they are."""
        return {
            "images": self.folder / "images" / self.request.id,
            "output": self.folder / "output.csv",
            "errors": self.folder / "errors.csv",
            "report": self.folder / "report.html",
        }

    def write(self, url_of: UrlOf, comparer: Comparer) -> None:
        """Write output.csv, errors.csv and report.html, all anew. Raises StorageFailure."""
        try:
            with self._whole("output") as sink:
                write_output_csv(self.store, self.blobs, self.request, url_of, sink)
            with self._whole("errors") as sink:
                write_errors_csv(self.store, self.request, sink)
            write_report(
                self.files["report"],
                request=self.request,
                totals=self.totals,
                seconds=self._seconds(),
                products=self._product_lines(),
                failures=self._failure_lines(),
                pairs=self._pairs(comparer),
            )
        except OSError as error:
            raise StorageFailure(f"Cannot write the results: {error.strerror}.") from error

    @contextmanager
    def _whole(self, name: str) -> Iterator[BinaryIO]:
        """A sheet that takes its place only when it is whole."""
        target = self.files[name]
        partial = target.with_suffix(".partial")
        with partial.open("wb") as file:
            yield file
        partial.replace(target)

    def _seconds(self) -> float:
        finished = self.request.finished_at or self.request.updated_at
        return (finished - self.request.created_at).total_seconds()

    def _product_lines(self) -> Iterator[ProductLine]:
        for page in pages_of_products(self.store, self.request.id):
            images = images_of(self.store, self.request.id, page)
            for product in page:
                yield _product_line(product, [images[sequence] for sequence in product.images])

    def _failure_lines(self) -> Iterator[FailureLine]:
        if not self.request.failed_images:
            return
        for product, written, outcome in references(self.store, self.request.id):
            if outcome and isinstance(outcome.result, Failure):
                yield FailureLine(
                    serial_number=product.serial_number,
                    name=product.name,
                    url=written,
                    code=outcome.result.code,
                    message=outcome.result.message,
                )

    def _pairs(self, comparer: Comparer) -> list[Pair]:
        """Before and after, for the first images whose source was kept."""
        pairs = []
        names = self._names_of_first_images()
        for image in self.store.images(self.request.id, limit=MOST_PAIRS):
            if image.outcome and isinstance(image.outcome.result, Stored):
                pair = self._pair(
                    comparer, names.get(image.sequence, ""), image, image.outcome.result
                )
                if pair:
                    pairs.append(pair)
        return pairs

    def _pair(self, comparer: Comparer, product: str, image: Image, stored: Stored) -> Pair | None:
        try:
            with self.blobs.open(original_key(self.request.id, image.sequence)) as file:
                original = file.read()
            with self.blobs.open(stored.key) as file:
                before, after = comparer.compare(original, file.read())
        except (NotFound, StorageFailure, ImageError):  # the source was too large to be kept
            return None
        return Pair(product, image.url, before, after, stored.bytes_in, stored.bytes_out)

    def _names_of_first_images(self) -> dict[int, str]:
        names: dict[int, str] = {}
        for product in self.store.products(self.request.id, limit=MOST_PAIRS):
            for sequence in product.images:
                names.setdefault(sequence, product.name)
        return names


def _product_line(product: Product, images: list[Image]) -> ProductLine:
    stored = [
        image.outcome.result
        for image in images
        if image.outcome and isinstance(image.outcome.result, Stored)
    ]
    return ProductLine(
        serial_number=product.serial_number,
        name=product.name,
        bytes_in=sum(result.bytes_in for result in stored),
        bytes_out=sum(result.bytes_out for result in stored),
        done=len(stored),
        failed=len(images) - len(stored),
    )

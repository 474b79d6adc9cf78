"""How requests, products and images look over the wire."""

from __future__ import annotations

from typing import Any

from pixmill.core.model import Failure, Image, ImageStatus, Product, Request, Stored
from pixmill.ports import Totals
from pixmill.steps.finish import UrlOf
from pixmill.web.schemas import (
    ImageResult,
    ProductStatus,
    Progress,
    RequestSummary,
    ResultTotals,
)


def progress(request: Request) -> Progress:
    """How far a request is."""
    return Progress(**_progress(request))


def summary(request: Request) -> RequestSummary:
    """A request without its products."""
    return RequestSummary(**summary_fields(request))


def summary_fields(request: Request) -> dict[str, Any]:
    """What every view of a whole request says."""
    return _progress(request) | {
        "filename": request.filename,
        "total_products": request.total_products,
        "error_message": request.error,
        "created_at": request.created_at,
        "finished_at": request.finished_at,
    }


def product(found: Product, images: dict[int, Image], url_of: UrlOf) -> ProductStatus:
    """A product, with its output URLs at the positions of its inputs."""
    return ProductStatus(
        serial_number=found.serial_number,
        product_name=found.name,
        input_image_urls=found.written,
        output_image_urls=tuple(_output_url(images.get(key), url_of) for key in found.images),
    )


def image(found: Image, url_of: UrlOf) -> ImageResult:
    """An image with all that is known of it."""
    outcome = found.outcome
    result = outcome.result if outcome else None
    stored = result if isinstance(result, Stored) else None
    failure = result if isinstance(result, Failure) else None
    return ImageResult(
        sequence=found.sequence,
        url=found.url,
        references=found.references,
        status=_status(stored, failure),
        output_url=_output_url(found, url_of),
        format=stored.format if stored else None,
        bytes_in=stored.bytes_in if stored else None,
        bytes_out=stored.bytes_out if stored else None,
        width=stored.width if stored else None,
        height=stored.height if stored else None,
        source_format=stored.source_format if stored else None,
        source_width=stored.source_width if stored else None,
        source_height=stored.source_height if stored else None,
        notices=stored.notices if stored else (),
        attempts=outcome.attempts if outcome else None,
        duration_seconds=round(outcome.duration, 3) if outcome else None,
        error_code=failure.code if failure else None,
        error_message=failure.message if failure else None,
    )


def totals(found: Totals, seconds: float) -> ResultTotals:
    """The sums over the outcomes of a request that has been there for so many seconds."""
    saved = found.bytes_in - found.bytes_out
    return ResultTotals(
        images=found.images,
        bytes_in=found.bytes_in,
        bytes_out=found.bytes_out,
        bytes_saved=saved,
        percent_saved=round(100 * saved / found.bytes_in, 2) if found.bytes_in else 0.0,
        images_per_second=round(found.images / seconds, 2) if seconds > 0 else 0.0,
        errors=found.failures,
    )


def _progress(request: Request) -> dict[str, Any]:
    return {
        "request_id": request.id,
        "status": request.status,
        "processed_images": request.processed_images,
        "failed_images": request.failed_images,
        "total_images": request.total_images,
        "completion_percentage": request.completion_percentage,
        "updated_at": request.updated_at,
    }


def _status(stored: Stored | None, failure: Failure | None) -> ImageStatus:
    if stored:
        return ImageStatus.DONE
    return ImageStatus.FAILED if failure else ImageStatus.PENDING


def _output_url(found: Image | None, url_of: UrlOf) -> str | None:
    if found and found.outcome and isinstance(found.outcome.result, Stored):
        return url_of(found.outcome.result.key)
    return None

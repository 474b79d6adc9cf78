"""What goes over the wire, in camelCase: the bodies of all calls, and of all answers but files."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from pixmill.core.errors import ImageErrorCode
from pixmill.core.events import USUAL_EVENTS, Event
from pixmill.core.model import ImageStatus, Notice, RequestStatus
from pixmill.core.options import MAX_SIDE, Effort, Format, Options

RequestId = Annotated[
    str, Field(description="Names the request.", examples=["req_4c7t2yqm5ghx3vd6w7ze2kbnoa"])
]
Cursor = Annotated[
    str | None, Field(description="Where the next page begins; null on the last page.")
]


_USUAL = Options()


class Schema(BaseModel):
    """The base of all bodies: camelCase on the wire, snake_case here, never changed once made."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore"
    )


class SheetProblem(Schema):
    """One thing that is wrong with, or odd about, a CSV."""

    line: int | None = Field(None, description="Line of the file, from 1; null for the whole file.")
    column: str | None = Field(None, description="The column's header; null for the whole row.")
    code: str = Field(examples=["invalid_url"])
    message: str = Field(description="What is wrong and how to mend it.")


class ProblemDocument(Schema):
    """An error (RFC 9457, ``application/problem+json``). ``code`` is stable; texts may change."""

    type: str = Field(examples=["urn:pixmill:problem:not_found"])
    title: str = Field(description="The kind of problem, the same for each code.")
    status: int = Field(description="The HTTP status.")
    code: str = Field(examples=["not_found"])
    detail: str = Field(description="What happened here, and how to mend it.")
    errors: tuple[SheetProblem, ...] | None = Field(
        None, description="Problems of a CSV: the first 100."
    )
    total_errors: int | None = Field(None, description="How many problems the CSV has in all.")


class ProcessingOptions(Schema):
    """What to do with the images. What is left out has its default."""

    model_config = ConfigDict(extra="forbid")

    quality: int = Field(_USUAL.quality, ge=1, le=100)
    format: Format = Field(
        _USUAL.format,
        description="auto keeps transparency, keep the input's own format.",
    )
    effort: Effort = Field(_USUAL.effort, description="CPU spent on smaller files.")
    max_width: int | None = Field(None, ge=1, le=MAX_SIDE, description="Shrink to these pixels.")
    max_height: int | None = Field(None, ge=1, le=MAX_SIDE, description="Shrink to these pixels.")
    background: str = Field(
        "#ffffff",
        pattern="^#[0-9a-fA-F]{6}$",
        description="What transparency is flattened onto where the output has none.",
    )
    strip_metadata: bool = Field(default=True, description="Remove EXIF, XMP and the like.")
    keep_copyright: bool = Field(default=False, description="But keep copyright and artist.")


class UploadForm(Schema):
    """The parts of an upload. An unknown part is refused."""

    model_config = ConfigDict(extra="forbid")

    csv: bytes = Field(
        description="The CSV, as a file with a filename. The name `file` is taken as well.",
        json_schema_extra={"format": "binary"},
    )
    options: ProcessingOptions | None = None
    invalid_rows: Literal["reject", "skip"] = Field(
        "reject", description="Refuse a file with bad rows, or leave these rows out."
    )
    serial_col: str | None = Field(None, description="Header of the column of serial numbers.")
    name_col: str | None = Field(None, description="Header of the column of product names.")
    url_col: tuple[str, ...] = Field((), description="Headers of the columns of image URLs.")
    encoding: str | None = Field(None, description="Encoding, if it is guessed wrong.")
    delimiter: str | None = Field(None, description="Delimiter, if it is guessed wrong.")
    url_separator: str | None = Field(
        None, description="What separates several URLs in a cell, if it is guessed wrong."
    )
    neutralise_formulas: bool = Field(
        default=True,
        description="Disarm cells of the output CSV that a spreadsheet would run.",
    )
    webhook_url: str | None = Field(
        None,
        description="Who is told of the request, by POST. Default: the service's own choice, if it"
        " has one.",
        json_schema_extra={"format": "uri"},
    )
    webhook_events: str | None = Field(
        None,
        description=f"What it is told of, comma-separated: {', '.join(Event)}. Default:"
        f" {', '.join(USUAL_EVENTS)}.",
        examples=[",".join(USUAL_EVENTS)],
    )


class UploadAccepted(Schema):
    """A CSV was accepted: from here on it completes without anyone's help."""

    request_id: RequestId
    status: Literal["PENDING"] = "PENDING"
    total_images: int = Field(description="Image references; a URL named twice counts twice.")
    total_products: int
    skipped_rows: int = Field(description="Rows left out, with invalidRows=skip.")
    warnings: tuple[SheetProblem, ...] = Field(description="What is odd about the CSV.")


class Progress(Schema):
    """How far a request is. Counts are of image references."""

    request_id: RequestId
    status: RequestStatus
    processed_images: int = Field(description="Successes.")
    failed_images: int = Field(description="Failures.")
    total_images: int
    completion_percentage: float = Field(description="Successes and failures, 0 to 100.")
    updated_at: datetime


class RequestSummary(Progress):
    """A request without its products."""

    filename: str
    total_products: int
    error_message: str | None = Field(
        description="Why the CSV could not be ingested, or the output CSV not written; a retry"
        " tries that again."
    )
    created_at: datetime
    finished_at: datetime | None = Field(description="Set once the request is terminal.")


class RequestPage(Schema):
    """Requests, newest first."""

    requests: tuple[RequestSummary, ...]
    next_cursor: Cursor


class ProductStatus(Schema):
    """One product. Outputs stand at the positions of their inputs; null where there is none yet."""

    serial_number: str
    product_name: str
    input_image_urls: tuple[str, ...]
    output_image_urls: tuple[str | None, ...]


class RequestDetail(RequestSummary):
    """A request with a page of its products."""

    products: tuple[ProductStatus, ...]
    next_cursor: Cursor


class ImageResult(Schema):
    """One image: a distinct URL of a request. What is not known yet, or never will be, is null."""

    sequence: int = Field(description="Number of the image in its request, from 1.")
    url: str
    references: int = Field(description="How often the CSV names it.")
    status: ImageStatus
    output_url: str | None
    format: str | None = Field(examples=["jpeg"])
    bytes_in: int | None
    bytes_out: int | None
    width: int | None = Field(description="Pixels.")
    height: int | None = Field(description="Pixels.")
    source_format: str | None = Field(examples=["png"])
    source_width: int | None
    source_height: int | None
    notices: tuple[Notice, ...] = Field(description="What the result says of itself.")
    attempts: int | None
    duration_seconds: float | None = Field(description="Over all attempts.")
    error_code: ImageErrorCode | None
    error_message: str | None


class ResultTotals(Schema):
    """Sums over the outcomes so far; each stored image counts once in the bytes."""

    images: int = Field(description="Distinct images with an outcome.")
    bytes_in: int
    bytes_out: int
    bytes_saved: int
    percent_saved: float
    images_per_second: float
    errors: Mapping[ImageErrorCode, int] = Field(description="Failed references by error code.")


class ResultPage(Schema):
    """A page of a request's images; the first one has totals over all of them."""

    request_id: RequestId
    status: RequestStatus
    totals: ResultTotals | None = Field(
        description="Over all images, also if only some are listed. Null if there is a `cursor`."
    )
    images: tuple[ImageResult, ...]
    next_cursor: Cursor


class RetryAccepted(Schema):
    """The failed images of a request are tried again; 0 if there were none.

    If there were none in a request that was cancelled, or has an `errorMessage`, it is finished
    anew, and `status` tells so.
    """

    request_id: RequestId
    status: RequestStatus
    retried_images: int = Field(description="References of the images that are tried again.")


class Health(Schema):
    """Whether the service, or what it stands on, works."""

    status: Literal["ok", "unavailable"]
    checks: Mapping[str, str] | None = Field(
        None, description="Each thing that was looked at, with ok or what is wrong."
    )

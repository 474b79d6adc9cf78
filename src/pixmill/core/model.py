"""The things pixmill talks about: requests, products, images, shards, outcomes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from pixmill.core.access import NOBODY
from pixmill.core.errors import ImageErrorCode, Problem
from pixmill.core.events import Webhook
from pixmill.core.limits import SheetLimits
from pixmill.core.options import Options


class RequestStatus(StrEnum):
    """Where a request stands. The last three are terminal."""

    PENDING = "PENDING"
    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def terminal(self) -> bool:
        """Whether the request has finished, one way or another."""
        return self not in {RequestStatus.PENDING, RequestStatus.PROCESSING}


def final_status(processed_images: int) -> RequestStatus:
    """What a request ends as: failed only if no image at all succeeded."""
    return RequestStatus.COMPLETED if processed_images else RequestStatus.FAILED


class ImageStatus(StrEnum):
    """Where an image stands. The last two are outcomes."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


class Notice(StrEnum):
    """What a result should say of itself beside the numbers. The names are public."""

    KEPT_ORIGINAL = "kept_original"
    """Compression did not make it smaller, so the pixels are the source's own."""
    FIRST_FRAME_ONLY = "first_frame_only"
    """The source is an animation or has several pages; the first one was taken."""
    DAMAGED = "damaged"
    """The source decodes but its file is damaged or cut short; parts may be missing."""
    METADATA_KEPT = "metadata_kept"
    """The source's own bytes were kept, with metadata that could not be removed from them."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A source image as it came: its bytes, or the temporary file that holds them if it is big."""

    body: bytes | Path
    size: int


@dataclass(frozen=True, slots=True)
class Picture:
    """A compressed image: its bytes, and what was seen on the way. Sizes are in pixels."""

    data: bytes
    format: str
    width: int
    height: int
    source_format: str
    source_width: int
    source_height: int
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class Stored:
    """What a successful image became: where it lies and its sizes in bytes and pixels."""

    key: str
    format: str
    bytes_in: int
    bytes_out: int
    width: int
    height: int
    source_format: str
    source_width: int
    source_height: int
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an image has none: a code for programs, a sentence for people."""

    code: ImageErrorCode
    message: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The one terminal result of an image. ``duration`` is seconds over all attempts."""

    sequence: int
    result: Stored | Failure
    attempts: int
    duration: float


@dataclass(frozen=True, slots=True)
class Image:
    """One distinct source URL of a request.

    ``url`` is what is fetched (cleaned and encoded); ``references`` counts how often the CSV names
    it. ``strikes`` counts workers that died while this image was the only one in their hands.
    """

    request_id: str
    sequence: int
    url: str
    references: int
    outcome: Outcome | None = None
    strikes: int = 0


@dataclass(frozen=True, slots=True)
class Product:
    """One product of a request: its row, or the merged rows of one key.

    ``written`` are the image URLs as the CSV has them; ``images`` are the sequences of the images
    they name, in the same order.
    """

    sequence: int
    serial_number: str
    name: str
    written: tuple[str, ...]
    images: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SheetRules:
    """How to read a CSV where its own headers and looks do not tell.

    The ``…_col`` names override what the header aliases would find. ``encoding``, ``delimiter``
    and ``url_separator`` override what would be guessed. ``skip_invalid_rows`` leaves bad rows out
    instead of rejecting the file. ``local_folder`` is set only on the command line: image cells
    may then also name files, relative to it.
    """

    serial_col: str | None = None
    name_col: str | None = None
    url_cols: tuple[str, ...] = ()
    encoding: str | None = None
    delimiter: str | None = None
    url_separator: str | None = None
    skip_invalid_rows: bool = False
    neutralise_formulas: bool = True
    local_folder: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One accepted CSV. The counts are of image references, as the CSV names them.

    ``owner`` is the id of the API key that it belongs to; ``webhook``, who is told of it.
    ``limits`` are those that the CSV was accepted under: whoever reads it again has to take and
    leave the same rows.
    """

    id: str
    status: RequestStatus
    filename: str
    digest: str
    options: Options
    rules: SheetRules
    total_images: int
    total_products: int
    created_at: datetime
    updated_at: datetime
    processed_images: int = 0
    failed_images: int = 0
    error: str | None = None
    finished_at: datetime | None = None
    owner: str = NOBODY
    webhook: Webhook | None = None
    limits: SheetLimits = SheetLimits()  # noqa: RUF009  # frozen, so one default can be shared

    @property
    def completion_percentage(self) -> float:
        """Done and failed references as a percentage, 0 to 100, rounded down to two digits."""
        if not self.total_images:
            return 100.0 if self.status.terminal else 0.0
        settled = self.processed_images + self.failed_images
        return settled * 10_000 // self.total_images / 100


@dataclass(frozen=True, slots=True)
class Accepted:
    """What is answered when a CSV is accepted. ``skipped_rows`` were left out, as asked."""

    request_id: str
    total_images: int
    total_products: int
    skipped_rows: int = 0
    warnings: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Once:
    """An idempotency key with the answer that it stands for.

    ``fingerprint`` tells whether the same thing was asked when the key is used again.
    """

    key: str
    fingerprint: str
    accepted: Accepted

"""Every error that pixmill raises on purpose, drawn once.

    PixmillError            has a stable ``code`` and a message for people
    ├── SheetRejected       the CSV cannot be accepted; carries every problem found
    ├── InvalidOption       a processing option is wrong
    ├── InvalidSetting      the configuration is wrong
    ├── ImageError          one image failed; says whether another attempt makes sense
    ├── LeaseLost           somebody else holds the work now
    ├── NotFound            no such request, key or file
    ├── WrongState          the request is not in a state in which this can be done
    ├── AlreadyAccepted     an idempotency key was used before
    ├── StoreUnavailable    the store cannot be used at the moment (locked, full, away)
    ├── BrokerUnavailable   the broker cannot be reached at the moment
    ├── PixelsUnavailable   the processes that handle pixels cannot be started
    └── StorageFailure      images cannot be stored at the moment (full, unwritable, away)

Foreign exceptions are translated where they enter: SQL in ``stores``, sockets in ``io``,
files in ``blobs``. Nothing above those floors catches a library's own exception.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class PixmillError(Exception):
    """The root: anything that pixmill explains instead of showing a stack trace."""

    code = "error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ImageErrorCode(StrEnum):
    """Why an image failed. The names are public: output files, the API and metrics use them."""

    INVALID_URL = "invalid_url"
    FORBIDDEN_ADDRESS = "forbidden_address"
    DNS_FAILURE = "dns_failure"
    CONNECT_FAILURE = "connect_failure"
    TLS_FAILURE = "tls_failure"
    TIMEOUT = "timeout"
    HTTP_ERROR = "http_error"
    TOO_MANY_REDIRECTS = "too_many_redirects"
    TOO_LARGE = "too_large"
    EMPTY = "empty"
    NOT_AN_IMAGE = "not_an_image"
    UNSUPPORTED_FORMAT = "unsupported_format"
    CORRUPT_IMAGE = "corrupt_image"
    TOO_MANY_PIXELS = "too_many_pixels"
    PROCESSING_TIMEOUT = "processing_timeout"
    WORKER_CRASH = "worker_crash"
    STORAGE_FAILURE = "storage_failure"
    CANCELLED = "cancelled"


class ImageError(PixmillError):
    """One image failed.

    ``retryable`` says whether another attempt makes sense (network trouble, 408, 425, 429, 5xx);
    ``retry_after`` is what the server asked for, in seconds; ``http_status`` is set for
    ``http_error`` only.
    """

    def __init__(
        self,
        code: ImageErrorCode,
        message: str,
        *,
        retryable: bool = False,
        retry_after: float | None = None,
        http_status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code: ImageErrorCode = code
        self.retryable = retryable
        self.retry_after = retry_after
        self.http_status = http_status


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a CSV: what, where and how to mend it.

    ``line`` is the physical line of the file, counted from 1, on which the row begins; None when
    the whole file is meant. ``column`` is the header's own text; None when the whole row is meant.
    """

    code: str
    message: str
    line: int | None = None
    column: str | None = None


class SheetRejected(PixmillError):
    """The CSV cannot be accepted.

    ``problems`` holds the first 100; ``total`` counts them all.
    """

    code = "sheet_rejected"

    def __init__(self, problems: list[Problem], total: int | None = None) -> None:
        self.problems = problems
        self.total = len(problems) if total is None else total
        first = problems[0].message if problems else "The file is not a usable CSV."
        more = f" (and {self.total - 1} more problems)" if self.total > 1 else ""
        super().__init__(first + more)


class InvalidOption(PixmillError):
    """A processing option has a value that it cannot have."""

    code = "invalid_option"


class InvalidSetting(PixmillError):
    """A setting is unknown or has a value that it cannot have."""

    code = "invalid_setting"


class LeaseLost(PixmillError):
    """The lease has run out or was taken over: what its holder writes now is refused."""

    code = "lease_lost"


class NotFound(PixmillError):
    """There is no such request, key or file."""

    code = "not_found"


class WrongState(PixmillError):
    """The request is not in a state in which this can be done."""

    code = "wrong_state"


class AlreadyAccepted(PixmillError):
    """The idempotency key was used before, by another call or for something else."""

    code = "idempotency_key_reused"


class StoreUnavailable(PixmillError):
    """The store is away for a moment: trying again makes sense. What was recorded is kept."""

    code = "store_unavailable"


class StorageFailure(PixmillError):
    """Nothing can be stored: the disk is full, the folder unwritable, the database damaged.

    What was stored before is kept, and nothing half-written is left behind.
    """

    code = "storage_failure"


class BrokerUnavailable(PixmillError):
    """The broker that tells workers of work cannot be reached at the moment."""

    code = "broker_unavailable"


class PixelsUnavailable(PixmillError):
    """The processes that handle pixels cannot start or were ended: no image is to blame."""

    code = "pixels_unavailable"

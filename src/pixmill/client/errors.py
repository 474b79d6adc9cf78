"""What can go wrong between a client and its service.

PixmillError
├── ServiceUnreachable  nothing that is a pixmill service answers
├── ServiceRefused      the service says no; carries its problem document
└── StillRunning        a request has not finished in the time given
"""

from __future__ import annotations

from pixmill.core.errors import PixmillError
from pixmill.web.schemas import Progress, SheetProblem


class ServiceUnreachable(PixmillError):
    """No service answers: away, refusing connections, too slow, or not to be trusted (TLS).

    ``maybe_done`` says whether the call may have been carried out all the same.
    """

    code = "service_unreachable"

    def __init__(self, message: str, *, maybe_done: bool = True) -> None:
        super().__init__(message)
        self.maybe_done = maybe_done


class ServiceRefused(PixmillError):
    """The service answered that it will not or cannot do this.

    ``code`` is the stable name of the problem (``not_found``, ``wrong_state``, …), ``status`` the
    HTTP status. A refused CSV has its first problems in ``errors``, and ``total_errors`` counts
    them all. ``retry_after`` is how many seconds the service asks to wait, if it does.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str,
        errors: tuple[SheetProblem, ...] = (),
        total_errors: int = 0,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.errors = errors
        self.total_errors = total_errors
        self.retry_after = retry_after


class StillRunning(PixmillError):
    """The request was not terminal when the time to wait was over; it goes on."""

    code = "still_running"

    def __init__(self, progress: Progress) -> None:
        super().__init__(
            f"{progress.request_id} is still {progress.status}"
            f" ({progress.completion_percentage:g} %)."
        )
        self.progress = progress

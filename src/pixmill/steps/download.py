"""Hand out what came of a request: its sheets and its pictures."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import BinaryIO, cast

from pixmill.core.errors import NotFound, SheetRejected, WrongState
from pixmill.core.model import Image, ImageStatus, Request, RequestStatus, Stored
from pixmill.core.shards import sheet_key
from pixmill.ports import Blobs, Store
from pixmill.steps.finish import UrlOf, write_errors_csv, write_output_csv

PAGE = 1000


class Sheet(StrEnum):
    """The CSVs that come of a request."""

    OUTPUT = "output"
    ERRORS = "errors"


def open_sheet(
    store: Store, blobs: Blobs, request: Request, sheet: Sheet, url_of: UrlOf
) -> BinaryIO:
    """A sheet of a request, at its beginning: what there is, if the request is not finished.

    Raises NotFound if the request is deleted meanwhile, and WrongState if its CSV is such that
    there can be no output.
    """
    if has_sheets(request):
        try:
            return blobs.open(sheet_key(request.id, sheet))
        except NotFound:  # somebody removed it; it can be made anew
            pass
    return _made_now(store, blobs, request, sheet, url_of)


def pictures(store: Store, blobs: Blobs, request_id: str) -> Iterator[tuple[str, BinaryIO]]:
    """The stored images of a request in order, each with its name; the receiver closes them.

    Raises NotFound in the middle if the request is deleted meanwhile, so that nobody takes what
    was handed out until then for all of it.
    """
    for image in _done(store, request_id):
        stored = cast("Stored", image.outcome.result if image.outcome else None)
        yield stored.key.rpartition("/")[2], blobs.open(stored.key)
    store.request(request_id)


def ensure_terminal(request: Request, *, partial: bool) -> None:
    """Raise WrongState for a request that is not finished, unless a part is good enough."""
    if not (partial or request.status.terminal):
        raise WrongState(
            f"The request is {request.status}. Wait until it has finished, or ask for what there is"
            " with partial=true."
        )


def has_sheets(request: Request) -> bool:
    """Whether the stored sheets are those of this state.

    A finish writes them before it closes the request. A cancelled one has none, or those of before
    it was retried; so has one that failed with an error, as its ingest or finish was given up.
    """
    closed = request.status in {RequestStatus.COMPLETED, RequestStatus.FAILED}
    return closed and request.error is None


def _made_now(
    store: Store, blobs: Blobs, request: Request, sheet: Sheet, url_of: UrlOf
) -> BinaryIO:
    def write(sink: BinaryIO) -> None:
        if sheet is Sheet.OUTPUT:
            write_output_csv(store, blobs, request, url_of, sink, partial=True)
        else:
            write_errors_csv(store, request, sink)
        store.request(request.id)  # deleted meanwhile, it lacks what was deleted first

    try:
        return _written(write)
    except SheetRejected as rejected:
        raise WrongState(f"The CSV cannot be read, so there is no output: {rejected}") from rejected


def _written(write: Callable[[BinaryIO], None]) -> BinaryIO:
    """A temporary file, at its beginning, with what is written; it is gone when it is closed."""
    file = cast("BinaryIO", tempfile.TemporaryFile())  # noqa: SIM115  # the caller closes it
    try:
        write(file)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def _done(store: Store, request_id: str) -> Iterator[Image]:
    after = 0
    while page := store.images(request_id, status=ImageStatus.DONE, after=after, limit=PAGE):
        yield from page
        after = page[-1].sequence

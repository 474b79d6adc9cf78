"""``pixmill.Client``: all that a pixmill service can do, as typed calls."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from types import TracebackType
from typing import Literal, Self

from pixmill.client.files import Counted, Sent, Source, Target, name_of, rewindable, whole
from pixmill.client.troubles import not_pixmill
from pixmill.client.watch import Away, follow
from pixmill.client.wire import Wire
from pixmill.core.errors import InvalidOption, NotFound
from pixmill.core.events import Event
from pixmill.core.model import ImageStatus, RequestStatus
from pixmill.core.sheets.problems import shown
from pixmill.web.cursors import MOST
from pixmill.web.schemas import (
    Health,
    ImageResult,
    ProductStatus,
    Progress,
    RequestDetail,
    RequestPage,
    RequestSummary,
    ResultPage,
    ResultTotals,
    RetryAccepted,
    UploadAccepted,
)
from pixmill.web.webhook_schemas import DeliveryLog, WebhookDelivery

WHOLE_SHEET = 10
"""How many times the usual patience a call has whose answer waits until a whole CSV was read."""


class Client:
    """A connection to a pixmill service.

    ``timeout`` is in seconds, for connecting and for each silence of the service; ``retries`` is
    how often a call that met a broken connection, or a service too busy for it, is made again.
    ``ca_file`` is a PEM file with the authority of a certificate of your own. All calls raise
    ServiceUnreachable and ServiceRefused, and NotFound for what cannot be the id of anything; those
    that read or write your files raise OSError. Redirects are not followed. For use by one thread
    at a time.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        api_key: str | None = None,
        *,
        timeout: float = 30.0,
        retries: int = 3,
        ca_file: str | PathLike[str] | None = None,
    ) -> None:
        self._wire = Wire(url, api_key, timeout=timeout, retries=retries, ca_file=ca_file)

    def __repr__(self) -> str:
        return f"Client({self._wire.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def exposes_key(self) -> bool:
        """Whether others on the way to the service can read the API key: it is not on https."""
        return self._wire.exposes_key

    def close(self) -> None:
        """Close the connections."""
        self._wire.close()

    def health(self, *, ready: bool = False) -> Health:
        """Whether the service lives; if ``ready``, whether it can work, with all it looked at."""
        return self._wire.look("/ready" if ready else "/health", Health, frozenset({200, 503}))

    def upload(
        self,
        csv: Source,
        *,
        options: Mapping[str, object] | None = None,
        invalid_rows: Literal["reject", "skip"] = "reject",
        serial_col: str | None = None,
        name_col: str | None = None,
        url_cols: tuple[str, ...] = (),
        encoding: str | None = None,
        delimiter: str | None = None,
        url_separator: str | None = None,
        neutralise_formulas: bool = True,
        webhook_url: str | None = None,
        webhook_events: Sequence[Event | str] = (),
        filename: str | None = None,
        idempotency_key: str | None = None,
        sent: Sent | None = None,
    ) -> UploadAccepted:
        """Hand over a CSV: a path, or a binary file. It is streamed, never held in memory.

        ``options`` are the processing options by their public names: ``{"quality": 70}``. The
        upload is tried again after a broken connection, and still makes one request only, thanks
        to its idempotency key; give one of your own to be safe over several runs of a program: the
        service knows it for 24 hours. ``webhook_url`` is told of ``webhook_events``, or else of the
        request's end. ``sent(bytes, of_bytes)`` is called as the upload proceeds.
        """
        fields = {
            "options": json.dumps(dict(options)) if options else None,
            "invalidRows": invalid_rows,
            "serialCol": serial_col,
            "nameCol": name_col,
            "urlCol": list(url_cols) or None,
            "encoding": encoding,
            "delimiter": delimiter,
            "urlSeparator": url_separator,
            "neutraliseFormulas": None if neutralise_formulas else "false",
            "webhookUrl": webhook_url,
            "webhookEvents": ",".join(webhook_events) or None,
        }
        key = str(uuid.uuid4()) if idempotency_key is None else _checked(idempotency_key)
        with rewindable(csv) as file:
            body = Counted(file, sent) if sent else file
            return self._wire.ask(
                "POST",
                "/upload",
                UploadAccepted,
                data={name: value for name, value in fields.items() if value is not None},
                files={"csv": (filename or name_of(csv) or "upload.csv", body, "text/csv")},
                headers={"Idempotency-Key": key},
                patience=self._wire.timeout * WHOLE_SHEET,
            )

    def status(
        self, request_id: str, *, limit: int | None = None, cursor: str | None = None
    ) -> RequestDetail:
        """Where a request stands, with a page of its products."""
        return self._wire.ask(
            "GET", f"/status/{_id(request_id)}", RequestDetail, params=_page(limit, cursor)
        )

    def products(self, request_id: str) -> Iterator[ProductStatus]:
        """All products of a request, in the order of its CSV."""
        cursor = None
        while True:
            page = self.status(request_id, limit=MOST, cursor=cursor)
            yield from page.products
            if (cursor := page.next_cursor) is None:
                return

    def results(
        self, request_id: str, status: ImageStatus | str | None = None
    ) -> Iterator[ImageResult]:
        """All images of a request, or those of a status (``pending``, ``done``, ``failed``)."""
        cursor = None
        while True:
            page = self._results(request_id, status=status, limit=MOST, cursor=cursor)
            yield from page.images
            if (cursor := page.next_cursor) is None:
                return

    def totals(self, request_id: str) -> ResultTotals:
        """Sums over a request's outcomes so far: bytes saved, failures by error code."""
        totals = self._results(request_id, limit=1).totals
        if totals is None:
            raise not_pixmill(self._wire.url, "its first page of results has no totals")
        return totals

    def requests(self, status: RequestStatus | str | None = None) -> Iterator[RequestSummary]:
        """Your requests, newest first, or those of a status (``COMPLETED``, …)."""
        cursor = None
        while True:
            params = {"status": status and str(status), "cursor": cursor}
            page = self._wire.ask("GET", "/requests", RequestPage, params=params)
            yield from page.requests
            if (cursor := page.next_cursor) is None:
                return

    def watch(self, request_id: str, *, away: Away | None = None) -> Iterator[Progress]:
        """How far a request is, at each change, until it is terminal.

        Goes on over broken connections, and while the service is away for up to a minute:
        ``away(seconds)`` is called whenever it was asked in vain meanwhile.
        """
        return follow(self._wire, _id(request_id), away=away)

    def wait(self, request_id: str, timeout: float | None = None) -> RequestDetail:
        """Wait until a request is terminal; raises StillRunning after ``timeout`` seconds."""
        until = None if timeout is None else time.monotonic() + timeout
        for _ in follow(self._wire, _id(request_id), until=until):
            pass
        return self.status(request_id)

    def download(
        self,
        request_id: str,
        to: Target,
        *,
        report: Literal["errors"] | None = None,
        partial: bool = False,
    ) -> None:
        """Write the output CSV, or a report, to a path or a binary file.

        A file at a path is whole or not there, and replaces an earlier one. Before the request is
        terminal this is refused (``wrong_state``), unless ``partial`` asks for what there is.
        """
        params = {"report": report, "partial": "true" if partial else None}
        self._save(f"/download/{_id(request_id)}", to, params)

    def download_images(self, request_id: str, to: Target, *, partial: bool = False) -> None:
        """Write all stored images of a request as a ZIP, like ``download``."""
        params = {"partial": "true" if partial else None}
        self._save(f"/download/{_id(request_id)}/images.zip", to, params)

    def cancel(self, request_id: str) -> RequestSummary:
        """Stop a request; what is done stays. Refused (``wrong_state``) once it is terminal."""
        path = f"/requests/{_id(request_id)}/cancel"
        return self._wire.ask("POST", path, RequestSummary, repeatable=False)

    def retry(self, request_id: str) -> RetryAccepted:
        """Try a terminal request's failed images again, and only those."""
        path = f"/requests/{_id(request_id)}/retry"
        return self._wire.ask("POST", path, RetryAccepted, repeatable=False)

    def delete(self, request_id: str) -> None:
        """Remove a request, its images and its files. Needs a key with the scope ``submit``."""
        path = f"/requests/{_id(request_id)}"
        with self._wire.open("DELETE", path, repeatable=False):
            pass

    def deliveries(self, request_id: str) -> tuple[WebhookDelivery, ...]:
        """The webhooks of a request, oldest first, each with its attempts."""
        path = f"/requests/{_id(request_id)}/deliveries"
        return self._wire.ask("GET", path, DeliveryLog).deliveries

    def replay(self, delivery_id: str) -> WebhookDelivery:
        """Send a webhook again, now, under the same id."""
        path = f"/deliveries/{_id(delivery_id, 'webhook', 'msg_')}/replay"
        return self._wire.ask("POST", path, WebhookDelivery)

    def _results(
        self,
        request_id: str,
        *,
        status: ImageStatus | str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> ResultPage:
        params = {"status": status and str(status)} | _page(limit, cursor)
        return self._wire.ask("GET", f"/results/{_id(request_id)}", ResultPage, params=params)

    def _save(self, path: str, to: Target, params: Mapping[str, str | None]) -> None:
        patience = self._wire.timeout * WHOLE_SHEET
        call = self._wire.open("GET", path, params=params, patience=patience)
        with whole(to) as file, call as response:
            for chunk in response.iter_bytes():
                file.write(chunk)


def _id(given: str, thing: str = "request", prefix: str = "req_") -> str:
    """An id as a part of a path. What cannot be one is not sent: ``..`` would be another path."""
    if not re.fullmatch(rf"{prefix}[A-Za-z0-9_-]{{1,100}}", given):
        raise NotFound(f"There is no {thing} {shown(given)}: the id of one begins with {prefix}.")
    return given


def _checked(key: str) -> str:
    if not re.fullmatch(r"[!-~]{1,255}", key):
        raise InvalidOption(
            "An idempotency key must be 1 to 255 visible ASCII characters, without spaces."
        )
    return key


def _page(limit: int | None, cursor: str | None) -> dict[str, str | None]:
    return {"limit": None if limit is None else str(limit), "cursor": cursor}

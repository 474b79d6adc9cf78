"""What the generator cannot know: cursors, CSVs and their columns, endpoints, signatures.

Drawn at random, these are never accepted. So those of calls that ought to be accepted are replaced
by good ones; calls that ought to be refused stay as they are.
"""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import requests
import schemathesis

from pixmill.core.model import Request, RequestStatus, SheetRules
from pixmill.core.options import Options
from pixmill.core.webhooks import Receipt
from pixmill.web.cursors import after_sequence, before_receipt, before_request
from tests.web.messages import signed

NOW = datetime.now(UTC)
NEWEST = Request(
    "req_z", RequestStatus.PENDING, "a.csv", "", Options(), SheetRules(), 1, 1, NOW, NOW
)
FORM = {
    "csv": "Serial Number,Product Name,Input Image Urls\n1,Chair,https://example.com/a.jpg\n",
    "serialCol": "serial number",
    "nameCol": "Product Name",
    "urlCol": ["Input Image Urls"],
    "encoding": "utf-8",
    "delimiter": ",",
    "urlSeparator": "|",
    "webhookUrl": "http://127.0.0.1:9/hook",
    "webhookEvents": "request.completed, request.progress",
}
CURSORS = {
    "requests": before_request(NEWEST),
    "receipts": before_receipt(Receipt("msg_z", "", "", NOW, "")),
}
SEQUENCE = after_sequence(1)
NUMBERS = itertools.count()


@schemathesis.hook
def before_call(
    _context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, object]
) -> None:
    if not case.meta or case.meta.generation.mode is not schemathesis.GenerationMode.POSITIVE:
        return
    path = case.operation.path
    if case.query and "cursor" in case.query:
        case.query = {**case.query, "cursor": CURSORS.get(path.rpartition("/")[2], SEQUENCE)}
    if (case.method, path) == ("POST", "/api/webhook"):
        kwargs["auth"] = _signed
    if isinstance(case.body, dict):
        case.body = case.body | {name: FORM[name] for name in case.body if name in FORM}
    if case.headers and "Idempotency-Key" in case.headers:
        # A key that was used for another upload is refused, and rightly so.
        case.headers["Idempotency-Key"] = f"{next(NUMBERS)}-{case.headers['Idempotency-Key']}"[:255]


def _signed(prepared: requests.PreparedRequest) -> requests.PreparedRequest:
    """Sign a message whose body is made."""
    body = prepared.body or b""
    prepared.headers.update(signed(body if isinstance(body, bytes) else body.encode()))
    return prepared

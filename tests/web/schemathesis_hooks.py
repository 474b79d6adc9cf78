"""What the generator cannot know: how a cursor looks, what a CSV is, and what names its columns.

Drawn at random, these are never accepted. So those of calls that ought to be accepted are replaced
by good ones; calls that ought to be refused stay as they are.
"""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import schemathesis

from pixmill.core.model import Request, RequestStatus, SheetRules
from pixmill.core.options import Options
from pixmill.web.cursors import after_sequence, before_request

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
}
NUMBERS = itertools.count()


@schemathesis.hook
def before_call(
    _context: schemathesis.HookContext, case: schemathesis.Case, _kwargs: dict[str, object]
) -> None:
    if not case.meta or case.meta.generation.mode is not schemathesis.GenerationMode.POSITIVE:
        return
    if case.query and "cursor" in case.query:
        listed = case.operation.path.endswith("/requests")
        good = before_request(NEWEST) if listed else after_sequence(1)
        case.query = {**case.query, "cursor": good}
    if isinstance(case.body, dict):
        case.body = case.body | {name: FORM[name] for name in case.body if name in FORM}
    if case.headers and "Idempotency-Key" in case.headers:
        # A key that was used for another upload is refused, and rightly so.
        case.headers["Idempotency-Key"] = f"{next(NUMBERS)}-{case.headers['Idempotency-Key']}"[:255]

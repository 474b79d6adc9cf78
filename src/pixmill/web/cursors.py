"""Cursors: where the next page of a list begins, as a text that callers only hand back."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta

from pixmill.core.model import Request, RequestStatus, SheetRules
from pixmill.core.options import Options
from pixmill.core.webhooks import Receipt
from pixmill.web.problems import CallRefused, Code

MOST = 1000
"""The largest page of any list."""

USUAL = 100
"""How many a page has unless told otherwise."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LATEST = datetime.max.replace(tzinfo=UTC)
_TEXT = re.compile(r"[A-Za-z0-9_-]{1,200}")
_SEQUENCE = re.compile(r"n([0-9]{1,18})")
_MOMENT = re.compile(r"t([0-9]{1,18}) (\S{1,100})")
_RECEIVED = re.compile(r"r([0-9]{1,18}) (\S{1,100})")


def after_sequence(sequence: int) -> str:
    """The cursor of the products or images that come after this one."""
    return _encode(f"n{sequence}")


def sequence_of(cursor: str | None) -> int:
    """The sequence after which a page begins; raises CallRefused for what is no such cursor."""
    if cursor is None:
        return 0
    return int(_parsed(_SEQUENCE, cursor)[1])


def before_request(request: Request) -> str:
    """The cursor of the requests that are older than this one."""
    return _encode(f"t{_microseconds(request.created_at)} {request.id}")


def request_of(cursor: str | None) -> Request | None:
    """A stand-in for the request before which a page begins: its id and the time of its making.

    The request itself may be deleted by now. Raises CallRefused for what is no such cursor.
    """
    if cursor is None:
        return None
    found = _parsed(_MOMENT, cursor)
    made = _moment(found[1])
    return Request(
        id=found[2],
        status=RequestStatus.PENDING,
        filename="",
        digest="",
        options=Options(),
        rules=SheetRules(),
        total_images=0,
        total_products=0,
        created_at=made,
        updated_at=made,
    )


def before_receipt(receipt: Receipt) -> str:
    """The cursor of the receipts that are older than this one."""
    return _encode(f"r{_microseconds(receipt.received_at)} {receipt.webhook_id}")


def receipt_of(cursor: str | None) -> Receipt | None:
    """A stand-in for the receipt before which a page begins, like that of a request."""
    if cursor is None:
        return None
    found = _parsed(_RECEIVED, cursor)
    return Receipt(
        webhook_id=found[2], event="", request_id="", received_at=_moment(found[1]), body=""
    )


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _moment(microseconds: str) -> datetime:
    return _EPOCH + timedelta(microseconds=min(int(microseconds), _microseconds(_LATEST)))


def _encode(text: str) -> str:
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _parsed(pattern: re.Pattern[str], cursor: str) -> re.Match[str]:
    found = pattern.fullmatch(_decoded(cursor))
    if found is None:
        raise CallRefused(
            Code.INVALID_CALL,
            "The cursor is not one of this list. Use nextCursor of the page before as it is, or"
            " leave the cursor out to begin with the first page.",
        )
    return found


def _decoded(cursor: str) -> str:
    """The text in a cursor; nothing if it cannot be one."""
    if _TEXT.fullmatch(cursor) is None:
        return ""
    try:
        return urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except ValueError:  # of base 64 or of ASCII
        return ""

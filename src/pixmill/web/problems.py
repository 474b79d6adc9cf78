"""Every error that the service answers, drawn once: code, HTTP status and title (RFC 9457)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from pydantic.alias_generators import to_camel

from pixmill.core.errors import Problem
from pixmill.web.schemas import ProblemDocument, SheetProblem

MEDIA_TYPE = "application/problem+json"
SCHEMA = "#/components/schemas/ProblemDocument"


class Code(StrEnum):
    """The stable names of the service's errors."""

    INVALID_CALL = "invalid_call"
    INVALID_OPTION = "invalid_option"
    SHEET_REJECTED = "sheet_rejected"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    FOREIGN_ORIGIN = "foreign_origin"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    WRONG_STATE = "wrong_state"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    UPLOAD_TOO_LARGE = "upload_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    RANGE_NOT_SATISFIABLE = "range_not_satisfiable"
    HEADERS_TOO_LARGE = "headers_too_large"
    WEBHOOK_MALFORMED = "webhook_malformed"
    WEBHOOK_EXPIRED = "webhook_expired"
    WEBHOOK_UNVERIFIED = "webhook_unverified"
    RATE_LIMITED = "rate_limited"
    INTERNAL_ERROR = "internal_error"
    BUSY = "busy"
    STORE_UNAVAILABLE = "store_unavailable"
    STORAGE_FAILURE = "storage_failure"


@dataclass(frozen=True, slots=True)
class Kind:
    """What is the same for all problems of a code."""

    status: int
    title: str
    what_to_do: str


KINDS: Mapping[Code, Kind] = MappingProxyType(
    {
        Code.INVALID_CALL: Kind(
            422, "The call is not valid", "Correct the parameter that the detail names."
        ),
        Code.INVALID_OPTION: Kind(
            422,
            "An option is not valid",
            "Correct the option that the detail names.",
        ),
        Code.SHEET_REJECTED: Kind(
            422,
            "The CSV was not accepted",
            "Correct the lines that `errors` lists, or send `invalidRows=skip` to leave bad rows"
            " out. Nothing was kept.",
        ),
        Code.UNAUTHENTICATED: Kind(
            401,
            "An API key is needed",
            "Send a key that is not revoked, as `Authorization: Bearer …` or `X-API-Key: …`.",
        ),
        Code.FORBIDDEN: Kind(
            403, "The API key does not allow this", "Use a key with the scope that is named."
        ),
        Code.FOREIGN_ORIGIN: Kind(
            403,
            "Calls from elsewhere are not allowed",
            "While no key exists, only this machine's own programs and pages are served. Create a"
            " key with `pixmill keys create`; name the web sites that may call in"
            " PIXMILL_CORS_ORIGINS.",
        ),
        Code.NOT_FOUND: Kind(
            404,
            "There is no such thing",
            "Check the address. Requests of other keys, and deleted ones, look the same.",
        ),
        Code.METHOD_NOT_ALLOWED: Kind(
            405, "The method is not allowed here", "Use a method that the `Allow` header names."
        ),
        Code.WRONG_STATE: Kind(
            409,
            "The request is not in a state for this",
            "Look at the request's status: a result wants a finished request, a cancel a running"
            " one.",
        ),
        Code.IDEMPOTENCY_KEY_REUSED: Kind(
            422,
            "The idempotency key was used for another upload",
            "Send the same file and options again, or use a new key.",
        ),
        Code.UPLOAD_TOO_LARGE: Kind(
            413, "The upload is too large", "Split the CSV, or raise PIXMILL_MAX_UPLOAD_SIZE."
        ),
        Code.UNSUPPORTED_MEDIA_TYPE: Kind(
            415, "The body is not of a kind that is read here", "Send `multipart/form-data`."
        ),
        Code.RANGE_NOT_SATISFIABLE: Kind(
            416, "The file has no such range", "Ask for bytes that the file has."
        ),
        Code.HEADERS_TOO_LARGE: Kind(
            431,
            "The headers are too large",
            "Keep the address and the headers of a call below 64 kB.",
        ),
        Code.WEBHOOK_MALFORMED: Kind(
            400,
            "The webhook's headers are missing or malformed",
            "Send `webhook-id`, `webhook-timestamp` and `webhook-signature` as Standard Webhooks"
            " has them.",
        ),
        Code.WEBHOOK_EXPIRED: Kind(
            401,
            "The webhook is too old, or from the future",
            "Stamp and sign each attempt anew, and set the clocks right: 5 minutes are tolerated.",
        ),
        Code.WEBHOOK_UNVERIFIED: Kind(
            401,
            "The webhook's signature is not right",
            "Give the sender and the receiver the same secret (`pixmill webhook secret`), and"
            " sign the body as it is sent.",
        ),
        Code.RATE_LIMITED: Kind(
            429, "Too many calls", "Wait for the seconds that `Retry-After` gives."
        ),
        Code.INTERNAL_ERROR: Kind(
            500,
            "Something went wrong in the service",
            "Try again; if it stays, see the service's log.",
        ),
        Code.BUSY: Kind(
            503,
            "Too many calls wait for the same work",
            "Try again after the seconds of `Retry-After`.",
        ),
        Code.STORE_UNAVAILABLE: Kind(
            503, "The store is away for a moment", "Try again after the seconds of `Retry-After`."
        ),
        Code.STORAGE_FAILURE: Kind(
            503,
            "Nothing can be stored at the moment",
            "Whoever runs the service has to mend it; its log has the details.",
        ),
    }
)


class CallRefused(Exception):
    """A call that is answered with a problem document."""

    def __init__(
        self,
        code: Code,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        errors: list[Problem] | None = None,
        total_errors: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.headers = headers or {}
        self.document = ProblemDocument(
            type=f"urn:pixmill:problem:{code}",
            title=KINDS[code].title,
            status=KINDS[code].status,
            code=code,
            detail=detail,
            errors=None if errors is None else tuple(map(to_sheet_problem, errors)),
            total_errors=total_errors,
        )


def to_sheet_problem(problem: Problem) -> SheetProblem:
    """A problem of a CSV as it goes over the wire."""
    return SheetProblem(
        line=problem.line,
        column=problem.column,
        code=problem.code,
        message=for_http(problem.message),
    )


def for_http(message: str) -> str:
    """A message about a CSV with the form's fields in place of the command line's flags."""
    return _FLAG.sub(
        lambda flag: f"the form field '{to_camel(flag[1].replace('-', '_'))}'", message
    )


_FLAG = re.compile(r"--(serial-col|name-col|url-col|encoding|delimiter|url-separator)\b")


def to_json(document: ProblemDocument) -> dict[str, Any]:
    """A problem document as it is sent: without ``errors`` where a CSV is not the matter."""
    absent = {name for name in ("errors", "total_errors") if getattr(document, name) is None}
    return document.model_dump(mode="json", by_alias=True, exclude=absent)


def documented(*codes: Code) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a call that may end with these problems, for the OpenAPI document."""
    found: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        kind = KINDS[code]
        example = CallRefused(code, kind.what_to_do).document
        answer = found.setdefault(
            kind.status,
            {
                "description": "",
                "content": {MEDIA_TYPE: {"schema": {"$ref": SCHEMA}, "examples": {}}},
            },
        )
        answer["description"] += f"{'; ' if answer['description'] else ''}`{code}`: {kind.title}"
        answer["content"][MEDIA_TYPE]["examples"][code.value] = {"value": to_json(example)}
    return found

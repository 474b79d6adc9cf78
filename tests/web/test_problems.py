"""Problem documents: one for every way in which a call can fail, always of the same shape."""

from __future__ import annotations

import pytest

from pixmill.core import errors
from pixmill.core.errors import PixmillError, Problem, SheetRejected
from pixmill.web.handlers import refusal_of
from pixmill.web.problems import KINDS, CallRefused, Code, documented, for_http, to_json

EXPECTED = {
    errors.NotFound: Code.NOT_FOUND,
    errors.WrongState: Code.WRONG_STATE,
    errors.AlreadyAccepted: Code.IDEMPOTENCY_KEY_REUSED,
    errors.InvalidOption: Code.INVALID_OPTION,
    errors.StoreUnavailable: Code.STORE_UNAVAILABLE,
    errors.StorageFailure: Code.STORAGE_FAILURE,
}


def test_every_code_is_described() -> None:
    assert set(KINDS) == set(Code)
    for kind in KINDS.values():
        assert 400 <= kind.status <= 599
        assert kind.what_to_do.endswith(".")


@pytest.mark.parametrize("kind", EXPECTED, ids=lambda kind: str(kind.__name__))
def test_what_pixmill_raises_has_its_code(kind: type[PixmillError]) -> None:
    refused = refusal_of(kind("What happened."), "GET /")
    assert refused.code is EXPECTED[kind]
    assert (refused.document.detail == "What happened.") == (refused.document.status < 500)


@pytest.mark.parametrize(
    "kind", [errors.LeaseLost, errors.InvalidSetting, errors.PixelsUnavailable, PixmillError]
)
def test_what_no_call_should_meet_is_an_incident(kind: type[PixmillError]) -> None:
    refused = refusal_of(kind("/a/path"), "GET /")
    assert refused.code is Code.INTERNAL_ERROR
    assert "/a/path" not in refused.document.detail


def test_a_rejected_sheet_carries_its_problems_with_what_they_lack_as_null() -> None:
    problems = [
        Problem("empty_file", "It is empty."),
        Problem("x", "Bad; see --url-col.", 3, "Url"),
    ]
    body = to_json(refusal_of(SheetRejected(problems, 7), "GET /").document)
    assert body["errors"] == [
        {"line": None, "column": None, "code": "empty_file", "message": "It is empty."},
        {"line": 3, "column": "Url", "code": "x", "message": "Bad; see the form field 'urlCol'."},
    ]
    assert body["totalErrors"] == 7


def test_other_problems_do_not_speak_of_sheets() -> None:
    body = to_json(CallRefused(Code.NOT_FOUND, "There is none.").document)
    assert body == {
        "type": "urn:pixmill:problem:not_found",
        "title": "There is no such thing",
        "status": 404,
        "code": "not_found",
        "detail": "There is none.",
    }


def test_flags_are_told_as_fields_of_the_form() -> None:
    assert for_http("Use --url-separator or --encoding.") == (
        "Use the form field 'urlSeparator' or the form field 'encoding'."
    )
    assert for_http("a --url-column b") == "a --url-column b"


def test_codes_of_one_status_are_documented_together() -> None:
    found = documented(Code.INVALID_CALL, Code.SHEET_REJECTED, Code.NOT_FOUND)
    assert set(found) == {422, 404}
    examples = found[422]["content"]["application/problem+json"]["examples"]
    assert set(examples) == {"invalid_call", "sheet_rejected"}

"""Webhooks: signed as the specification has it, tried again as the contract has it."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest

from pixmill.core.errors import InvalidOption, InvalidSetting
from pixmill.core.events import Event, parse_events
from pixmill.core.webhooks import (
    DELAYS,
    Attempt,
    endpoint_of,
    next_delay,
    parse_secret,
    retry_seconds,
    secret_text,
    sign,
    verified,
)

SECRET = bytes(range(24))
OTHER = bytes(range(32))
MOMENT = datetime(2026, 11, 22, tzinfo=UTC)


def attempt(number: int, status: int | None = 500, retry_after: float | None = None) -> Attempt:
    """An attempt that came to nothing."""
    return Attempt(number, MOMENT, 0.1, http_status=status, retry_after=retry_after)


def test_a_signature_is_the_one_of_the_specifications_example() -> None:
    secret = parse_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signature = sign([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_during_a_rotation_either_secret_verifies() -> None:
    signatures = sign([SECRET, OTHER], "msg_1", 1, b"{}")
    assert len(signatures.split()) == 2
    assert verified([SECRET], "msg_1", 1, b"{}", signatures)
    assert verified([OTHER], "msg_1", 1, b"{}", signatures)


@pytest.mark.parametrize(
    ("webhook_id", "timestamp", "body"),
    [("msg_2", 1, b"{}"), ("msg_1", 2, b"{}"), ("msg_1", 1, b"{ }")],
)
def test_id_time_and_body_are_all_signed(webhook_id: str, timestamp: int, body: bytes) -> None:
    signatures = sign([SECRET], "msg_1", 1, b"{}")
    assert not verified([SECRET], webhook_id, timestamp, body, signatures)


@pytest.mark.parametrize(
    "signatures", ["", "v1", "v1,", "v1,é", "v2,x", ",", "  ", "v1a,abc v1,=="]
)
def test_a_malformed_signature_verifies_nothing(signatures: str) -> None:
    assert not verified([SECRET], "msg_1", 1, b"{}", signatures)


def test_a_signature_of_another_version_does_not_count() -> None:
    right = sign([SECRET], "msg_1", 1, b"{}").removeprefix("v1,")
    assert not verified([SECRET], "msg_1", 1, b"{}", f"v1a,{right}")
    assert verified([SECRET], "msg_1", 1, b"{}", f"v1a,xyz v1,{right}")


def test_a_secret_reads_back_as_it_was_written() -> None:
    assert parse_secret(secret_text(SECRET)) == SECRET


@pytest.mark.parametrize(
    "text",
    [
        "",
        "whsec_",
        "swordfish",
        base64.b64encode(SECRET).decode(),
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS",
        "whsec_ MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    ],
)
def test_what_is_no_secret_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(InvalidSetting, match="24 to 64 bytes") as refused:
        parse_secret(text)
    assert len(text) < 8 or text not in refused.value.message


def test_a_delivery_is_tried_ten_times_over_the_contracts_schedule() -> None:
    delays = [next_delay(attempt(number), jitter=0) for number in range(1, len(DELAYS) + 1)]
    minutes, hours = 60, 3600
    assert delays == [
        *(5, 5 * minutes, 30 * minutes, 2 * hours, 5 * hours),
        *(10 * hours, 14 * hours, 20 * hours, 24 * hours, None),
    ]


def test_jitter_makes_a_delay_longer_never_shorter() -> None:
    assert next_delay(attempt(2), jitter=1) == pytest.approx(330)


@pytest.mark.parametrize(("asked", "delay"), [(2.0, 300), (1000.0, 1000), (1e9, 86_400)])
def test_retry_after_is_honoured_up_to_a_day(asked: float, delay: float) -> None:
    assert next_delay(attempt(2, 503, retry_after=asked), jitter=0) == delay


def test_410_ends_a_delivery() -> None:
    assert next_delay(attempt(1, 410), jitter=0) is None


@pytest.mark.parametrize(
    ("status", "delivered"),
    [
        (200, True),
        (204, True),
        (299, True),
        (199, False),
        (301, False),
        (500, False),
        (None, False),
    ],
)
def test_only_a_2xx_is_a_success(status: int | None, delivered: bool) -> None:
    assert attempt(1, status).delivered is delivered


def test_events_are_read_in_any_order_and_once_each() -> None:
    asked = " request.failed,request.processing, request.failed"
    assert parse_events(asked) == (Event.PROCESSING, Event.FAILED)


@pytest.mark.parametrize("asked", ["", ",", "completed", "request.done,request.failed"])
def test_an_unknown_event_is_refused_with_what_there_is(asked: str) -> None:
    with pytest.raises(InvalidOption, match=r"request\.completed"):
        parse_events(asked)


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("http://h", "http://h"),
        ("http://h?order=1", "http://h"),
        ("http://h#part", "http://h"),
        ("HTTP://H/hook?token=1", "http://h"),
        ("http://h:80/", "http://h"),
        ("http://h:/", "http://h"),
        ("http://h:0080", "http://h"),
        ("http://h./", "http://h"),
        ("https://h:443", "https://h"),
        ("https://h:80", "https://h:80"),
        ("http://h:8080?a/b", "http://h:8080"),
        ("http://[::1]:9000/", "http://[::1]:9000"),
        ("http://user:pass@h/", ""),
        ("nonsense", ""),
    ],
)
def test_one_endpoint_has_one_name_however_it_is_written(url: str, endpoint: str) -> None:
    assert endpoint_of(url) == endpoint


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7),
        (" 50000 ", 50_000),
        ("9" * 400, 86_400),
        ("Sun, 22 Nov 2026 10:00:00 GMT", 36_000),
        ("Sunday, 22-Nov-26 10:00:00 GMT", 36_000),
        ("Sun Nov 22 10:00:00 2026", 36_000),
        ("Tue, 22 Nov 2033 10:00:00 GMT", 86_400),
        ("Sat, 21 Nov 2026 10:00:00 GMT", None),
        ("0", None),
        ("-5", None),
        ("1.5", None),
        ("²", None),
        ("soon", None),
        ("", None),
        ("Sun, 99 Nov 99999 10:00:00 GMT", None),
        ("Mon, 01 Jan 0001 00:00:00 +2359", None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(text: str, seconds: float | None) -> None:
    assert retry_seconds(text, MOMENT.timestamp()) == seconds

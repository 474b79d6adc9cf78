"""Received messages: believed when they are signed, of now, and well-formed."""

from __future__ import annotations

import pytest

from pixmill.core.received import Doubt, MessageRefused, Stamp, check_message, read_stamp
from pixmill.core.webhooks import TOLERANCE_SECONDS, sign

SECRET, OTHER = bytes(range(24)), bytes(range(32))
NOW = 1_795_000_000
BODY = b"{}"


def headers(secret: bytes = SECRET, timestamp: int = NOW) -> dict[str, str]:
    """The headers of a message."""
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign([secret], "msg_1", timestamp, BODY),
    }


def doubt(given: dict[str, str], secrets: list[bytes], now: float = NOW) -> str:
    """Why a message is refused."""
    with pytest.raises(MessageRefused) as refused:
        check_message(given, BODY, secrets, now)
    assert refused.value.message.endswith(".")
    return str(refused.value.code)


def test_a_message_is_believed_with_any_live_secret() -> None:
    for secrets in ([SECRET], [SECRET, OTHER], [OTHER, SECRET]):
        stamp = check_message(headers(), BODY, secrets, NOW)
        assert (stamp.webhook_id, stamp.timestamp) == ("msg_1", NOW)


def test_a_strange_secret_or_none_is_not_believed() -> None:
    assert doubt(headers(OTHER), [SECRET]) == Doubt.UNVERIFIED
    assert doubt(headers(), []) == Doubt.UNVERIFIED


@pytest.mark.parametrize("sign_of", [1, -1])
def test_a_message_is_of_now_up_to_the_tolerance(sign_of: int) -> None:
    away = sign_of * TOLERANCE_SECONDS
    assert check_message(headers(), BODY, [SECRET], NOW + away)
    assert doubt(headers(), [SECRET], NOW + away + sign_of) == Doubt.EXPIRED


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
@pytest.mark.parametrize("text", ["", "  ", "é", "\x00", "a\nb"])
def test_a_header_that_is_missing_or_malformed_is_named(name: str, text: str) -> None:
    with pytest.raises(MessageRefused, match=name) as refused:
        read_stamp(headers() | {name: text})
    assert refused.value.code == Doubt.MALFORMED


@pytest.mark.parametrize("text", ["-1", "+1", "1e9", "1.5", "٣", "1" * 13, "0x10"])
def test_a_timestamp_is_digits_only(text: str) -> None:
    assert doubt(headers() | {"webhook-timestamp": text}, [SECRET]) == Doubt.MALFORMED


def test_spaces_around_a_header_do_not_count() -> None:
    padded = {name: f" {text} " for name, text in headers().items()}
    assert read_stamp(padded) == Stamp("msg_1", NOW, headers()["webhook-signature"])

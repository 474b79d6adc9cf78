"""Receiving webhooks: who is believed, what is kept, and who may see it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pixmill.core.received import LONGEST_BODY
from pixmill.core.webhooks import parse_secret, secret_text
from pixmill.settings import Settings
from pixmill.web.app import create_app
from pixmill.web.service import Service
from pixmill.web.webhook import MOST_KEPT
from tests.web.messages import OTHER, SECRET, message, signed
from tests.web.server import new_key, open_service, serving
from tests.web.test_upload import refused, upload


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, webhook_secret=SECRET, allowed_addresses="127.0.0.1:9000")


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a server that all tests of bad calls share; in the end it has kept nothing."""
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("refusing"),
        webhook_secret=SECRET,
        allowed_addresses="127.0.0.1:9000",
    )
    with open_service(settings) as service:
        with serving(create_app(service)) as url, httpx.Client(base_url=url, timeout=30) as made:
            yield made
        assert service.outbox.receipts() == []
        assert sum(service.store.census().requests.values()) == 0


def send(
    client: httpx.Client, body: bytes | None = None, headers: dict[str, str] | None = None
) -> httpx.Response:
    content = message() if body is None else body
    return client.post("/api/webhook", content=content, headers=headers or signed(content))


def receipts(client: httpx.Client, **params: Any) -> list[dict[str, Any]]:
    answer = client.get("/api/webhook/receipts", params=params)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["receipts"])


def test_a_rightly_signed_message_is_kept_as_it_came(client: httpx.Client) -> None:
    body = message(somethingNew=1)
    answer = send(client, body)
    assert (answer.status_code, answer.content) == (204, b"")
    (receipt,) = receipts(client)
    assert receipt["webhookId"] == "msg_1"
    assert receipt["message"] == json.loads(message())


def test_a_message_that_comes_again_is_taken_and_keeps_one_receipt(client: httpx.Client) -> None:
    for late in (10, 0):
        body = message()
        assert send(client, body, signed(body, late=late)).status_code == 204
    assert len(receipts(client)) == 1


@pytest.mark.parametrize(
    ("changes", "status", "code", "said"),
    [
        ({"webhook-id": None}, 400, "webhook_malformed", "no header 'webhook-id'"),
        ({"webhook-id": "a b"}, 400, "webhook_malformed", "'webhook-id' must be"),
        ({"webhook-id": "x" * 101}, 400, "webhook_malformed", "'webhook-id' must be"),
        ({"webhook-timestamp": None}, 400, "webhook_malformed", "no header 'webhook-timestamp'"),
        ({"webhook-timestamp": "now"}, 400, "webhook_malformed", "the seconds since 1970"),
        ({"webhook-timestamp": "-5"}, 400, "webhook_malformed", "the seconds since 1970"),
        ({"webhook-timestamp": "9" * 12}, 401, "webhook_expired", "from now"),
        ({"webhook-timestamp": "0"}, 401, "webhook_expired", "ago"),
        ({"webhook-signature": None}, 400, "webhook_malformed", "no header 'webhook-signature'"),
        ({"webhook-signature": "v1,"}, 401, "webhook_unverified", "No signature"),
        ({"webhook-signature": "v1,AAAA v2,AAAA"}, 401, "webhook_unverified", "No signature"),
        ({"webhook-id": "msg_2"}, 401, "webhook_unverified", "No signature"),
    ],
)
def test_a_message_with_other_headers_is_not_believed(
    refusing: httpx.Client, changes: dict[str, str | None], status: int, code: str, said: str
) -> None:
    headers = signed(message()) | changes
    kept = {name: text for name, text in headers.items() if text is not None}
    answer = send(refusing, message(), kept)
    assert said in refused(answer, status, code)
    assert ("www-authenticate" in answer.headers) == (status == 401)


@pytest.mark.parametrize(("late", "status"), [(290, 204), (-290, 204), (310, 401), (-310, 401)])
def test_five_minutes_are_tolerated_both_ways(
    client: httpx.Client, late: float, status: int
) -> None:
    body = message()
    assert send(client, body, signed(body, late=late)).status_code == status


def test_a_changed_body_and_a_strange_secret_are_not_believed(refusing: httpx.Client) -> None:
    headers = signed(message())
    refused(send(refusing, message(failedImages=0), headers), 401, "webhook_unverified")
    body = message()
    refused(send(refusing, body, signed(body, secret=OTHER)), 401, "webhook_unverified")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b'"\xff"', ""),
        (b"[]", "an object"),
        (message(type="request.exploded"), "'type'"),
        (message(requestId=""), "'requestId'"),
        (message(requestId="\ud800"), ""),
        (message(totalImages=-1), "'totalImages'"),
        (message(stats={}), "'stats.images'"),
        (message(statusUrl="x" * 5000), "'statusUrl'"),
    ],
)
def test_a_signed_body_that_is_no_message_is_refused(
    refusing: httpx.Client, body: bytes, said: str
) -> None:
    detail = refused(send(refusing, body), 422, "invalid_call")
    assert detail.startswith("The body is no message of pixmill")
    assert said in detail


def test_a_body_may_have_a_megabyte_and_no_more(client: httpx.Client) -> None:
    room = LONGEST_BODY - len(message(note=""))
    longest = message(note="x" * room)
    assert send(client, longest).status_code == 204
    refused(send(client, longest + b" "), 413, "upload_too_large")

    def drip() -> Any:
        yield from (longest[:500_000], longest[500_000:], b" ")

    answer = client.post("/api/webhook", content=drip(), headers=signed(longest + b" "))
    assert "1,000,000" in refused(answer, 413, "upload_too_large")


def test_a_receipt_keeps_no_more_than_pixmill_itself_would_send(
    client: httpx.Client, service: Service
) -> None:
    product = {
        "serialNumber": "1",
        "productName": "x" * MOST_KEPT,
        "inputImageUrls": [],
        "outputImageUrls": [],
    }
    assert send(client, message(products=[product], note="x" * 1000)).status_code == 204
    (receipt,) = receipts(client)
    assert receipt["message"]["products"] == []
    assert receipt["message"]["productsTruncated"] is True
    assert len(service.outbox.receipts()[0].body) < 2000


def test_receipts_come_newest_first_in_pages(client: httpx.Client) -> None:
    for number in range(5):
        body = message()
        assert send(client, body, signed(body, f"msg_{number}")).status_code == 204
    found: list[str] = []
    params: dict[str, Any] = {"limit": 2}
    while params.get("cursor", "first"):
        page = client.get("/api/webhook/receipts", params=params).json()
        found += [receipt["webhookId"] for receipt in page["receipts"]]
        params["cursor"] = page["nextCursor"]
    assert found == ["msg_4", "msg_3", "msg_2", "msg_1", "msg_0"]
    wrong = client.get("/api/webhook/receipts", params={"cursor": "bjE"})
    refused(wrong, 422, "invalid_call")


def test_no_key_is_needed_to_send_but_an_admins_to_look(
    client: httpx.Client, service: Service
) -> None:
    reader, admin = new_key(service, "read", "submit"), new_key(service, "admin")
    assert send(client).status_code == 204
    body = message()
    foreign = signed(body, "msg_2") | {"Host": "pixmill.example"}
    assert send(client, body, foreign).status_code == 204
    refused(client.get("/api/webhook/receipts"), 401, "unauthenticated")
    refused(client.get("/api/webhook/receipts", headers=reader), 403, "forbidden")
    assert client.get("/api/webhook/receipts", headers=admin).status_code == 200


def test_messages_are_counted_by_the_address_they_come_from(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, webhook_secret=SECRET, rate_limit_per_address=2)
    with (
        open_service(settings) as service,
        serving(create_app(service)) as url,
        httpx.Client(base_url=url) as client,
    ):
        answers = [send(client, b"", {"webhook-id": "x"}) for _ in range(3)]
    codes = [answer.json()["code"] for answer in answers]
    assert codes == ["webhook_malformed", "webhook_malformed", "rate_limited"]
    assert "retry-after" in answers[-1].headers


def test_a_receiver_without_a_secret_believes_nobody_and_makes_none(tmp_path: Path) -> None:
    with open_service(Settings(data_dir=tmp_path)) as service, serving(create_app(service)) as url:
        with httpx.Client(base_url=url) as client:
            assert "no secret here" in refused(send(client), 401, "webhook_unverified")
        assert service.outbox.secrets(now=service.clock()) == []


def test_secrets_of_the_store_verify_while_they_are_live(tmp_path: Path) -> None:
    with open_service(Settings(data_dir=tmp_path)) as service, serving(create_app(service)) as url:
        now = service.clock()
        for secret in (SECRET, OTHER):
            service.outbox.add_secret(parse_secret(secret), now=now, others_until=now + 60)
        assert [secret_text(live) for live in service.outbox.secrets(now=now)] == [OTHER, SECRET]
        body = message()
        with httpx.Client(base_url=url) as client:
            for secret in (SECRET, OTHER):
                assert send(client, body, signed(body, secret=secret)).status_code == 204
            service.outbox.add_secret(parse_secret(OTHER), now=now, others_until=now)
            late = send(client, body, signed(body))
            refused(late, 401, "webhook_unverified")


# --- who is told ------------------------------------------------------------------------------


def test_an_upload_names_who_is_told_and_of_what(client: httpx.Client, service: Service) -> None:
    fields = {"webhookUrl": "http://127.0.0.1:9000/hook", "webhookEvents": "request.failed"}
    answer = upload(client, **fields)
    assert answer.status_code == 202, answer.text
    webhook = service.store.request(answer.json()["requestId"]).webhook
    assert webhook
    assert (webhook.url, webhook.events) == ("http://127.0.0.1:9000/hook", ("request.failed",))
    usual = upload(client, webhookUrl=fields["webhookUrl"]).json()["requestId"]
    webhook = service.store.request(usual).webhook
    assert webhook
    assert webhook.events == ("request.completed", "request.failed", "request.cancelled")
    assert service.store.request(upload(client).json()["requestId"]).webhook is None


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"webhookUrl": "http://10.0.0.1/"}, "10.0.0.1 is refused"),
        ({"webhookUrl": "http://127.0.0.1:9001/"}, "PIXMILL_ALLOWED_ADDRESSES"),
        ({"webhookUrl": "ftp://127.0.0.1/"}, "The webhook URL cannot be used"),
        ({"webhookUrl": "http://no.such.host.invalid/"}, "could not be resolved"),
        ({"webhookUrl": "nonsense"}, "The webhook URL cannot be used"),
        ({"webhookEvents": "request.failed"}, "needs a 'webhookUrl'"),
        (
            {"webhookUrl": "http://127.0.0.1:9000/", "webhookEvents": "done"},
            "There is no event 'done'",
        ),
        (
            {"webhookUrl": "http://127.0.0.1:9000/", "webhookEvents": ","},
            "Name at least one event",
        ),
    ],
)
def test_a_webhook_that_cannot_be_is_refused(
    refusing: httpx.Client, fields: dict[str, str], said: str
) -> None:
    assert said in refused(upload(refusing, **fields), 422, "invalid_option")


def test_the_endpoint_of_an_upload_that_was_accepted_before_is_not_judged_again(
    tmp_path: Path,
) -> None:
    def handed_in(allowed: str, key: str, **fields: str) -> httpx.Response:
        settings = Settings(data_dir=tmp_path, allowed_addresses=allowed)
        with (
            open_service(settings) as service,
            serving(create_app(service)) as url,
            httpx.Client(base_url=url, timeout=30, headers={"Idempotency-Key": key}) as client,
        ):
            return upload(client, webhookUrl="http://127.0.0.1:9000/hook", **fields)

    first = handed_in("127.0.0.1:9000", "once")
    again = handed_in("", "once")
    assert (first.status_code, again.status_code) == (202, 202), again.text
    assert first.json() == again.json()
    assert again.headers["idempotency-replayed"] == "true"
    other = handed_in("", "once", webhookEvents="request.failed")
    refused(other, 422, "idempotency_key_reused")
    refused(handed_in("", "twice"), 422, "invalid_option")


def test_the_services_own_endpoint_is_told_where_an_upload_names_none(tmp_path: Path) -> None:
    default, own = "https://shop.example/hook", "http://127.0.0.1:9000/own"
    settings = Settings(data_dir=tmp_path, webhook_url=default, allowed_addresses="127.0.0.1:9000")
    with (
        open_service(settings) as service,
        serving(create_app(service)) as url,
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        for fields, told in (
            ({}, default),
            ({"webhookUrl": own}, own),
            ({"webhookEvents": "request.failed"}, default),
        ):
            answer = upload(client, **fields)
            assert answer.status_code == 202, answer.text
            webhook = service.store.request(answer.json()["requestId"]).webhook
            assert webhook
            assert webhook.url == told

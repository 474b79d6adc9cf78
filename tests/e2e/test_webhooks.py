"""Two real services that share a secret: one is told of what the other has done."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pixmill import Client
from pixmill.core.events import Event
from pixmill.web.webhook_schemas import WebhookDelivery
from tests import shop
from tests.service import Serving, serving
from tests.web.messages import SECRET

DEADLINE = 90
CANCELLED = Event.CANCELLED.value


def receipts(service: Serving, count: int) -> list[dict[str, Any]]:
    """The receipts of a service, once there are so many."""
    deadline = time.monotonic() + DEADLINE
    while len(found := service.get("/api/webhook/receipts").json()["receipts"]) < count:
        assert time.monotonic() < deadline, f"only {found}\n{service.said()}"
        time.sleep(0.1)
    return list(found)


def delivered(client: Client, request_id: str) -> tuple[WebhookDelivery, ...]:
    """The deliveries of a request, once none is pending."""
    deadline = time.monotonic() + DEADLINE
    while True:
        found = client.deliveries(request_id)
        if found and not any(sent.state == "pending" for sent in found):
            return found
        assert time.monotonic() < deadline, f"still pending: {found}"
        time.sleep(0.1)


def submitted(csv: Path, service: Serving, *flags: str) -> str:
    """The id of a request that the command line hands over."""
    done = subprocess.run(
        [sys.executable, "-m", "pixmill", "submit", str(csv), "--url", service.url, *flags],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_second_pixmill_receives_what_the_first_one_sends(tmp_path: Path) -> None:
    with (
        shop.open_shop() as origin,
        serving(tmp_path / "receiver", webhook_secret=SECRET) as receiver,
        serving(tmp_path / "sender", webhook_secret=SECRET) as sender,
        Client(sender.url) as client,
    ):
        origin.special["gone.jpg"] = lambda _: (404, b"")
        urls = [origin.url(name) for name in ("1.jpg", "2.jpg", "gone.jpg")]
        csv = shop.write_csv(tmp_path / "products.csv", urls)
        hook = f"{receiver.url}/api/webhook"
        events = ("request.processing", Event.COMPLETED)
        request_id = client.upload(csv, webhook_url=hook, webhook_events=events).request_id
        status = sender.finished(request_id)
        found = {receipt["message"]["type"]: receipt for receipt in receipts(receiver, 2)}
        assert set(found) == {"request.processing", "request.completed"}

        message = found["request.completed"]["message"]
        for name in ("requestId", "status", "totalImages", "processedImages", "failedImages"):
            assert message[name] == status[name]
        assert message["products"] == status["products"]
        assert message["statusUrl"] == f"{sender.url}/api/status/{request_id}"
        assert sender.get(message["downloadUrl"].removeprefix(sender.url)).status_code == 200

        log = delivered(client, request_id)
        assert {sent.delivery_id for sent in log} == {
            receipt["webhookId"] for receipt in found.values()
        }
        assert {sent.state for sent in log} == {"delivered"}
        assert [attempt.http_status for sent in log for attempt in sent.attempts] == [204, 204]

        assert client.replay(log[0].delivery_id).state == "pending"
        again = delivered(client, request_id)[0]
        assert [attempt.http_status for attempt in again.attempts] == [204, 204]
        assert len(receipts(receiver, 2)) == 2


def test_a_receiver_with_another_secret_believes_nothing(tmp_path: Path) -> None:
    with (
        serving(tmp_path / "receiver") as receiver,
        serving(tmp_path / "sender", webhook_secret=SECRET) as sender,
    ):
        csv = shop.write_csv(tmp_path / "products.csv", ["https://shop.example/1.jpg"])
        hook = f"{receiver.url}/api/webhook"
        request_id = submitted(csv, sender, "--webhook-url", hook, "--webhook-events", CANCELLED)
        sender.call("POST", f"/api/requests/{request_id}/cancel")
        deadline = time.monotonic() + DEADLINE
        attempts: list[dict[str, Any]] = []
        while not attempts:
            assert time.monotonic() < deadline, sender.said()
            log = sender.get(f"/api/requests/{request_id}/deliveries").json()["deliveries"]
            attempts = [attempt for sent in log for attempt in sent["attempts"]]
            time.sleep(0.1)
        assert attempts[0]["httpStatus"] == 401
        assert receipts(receiver, 0) == []

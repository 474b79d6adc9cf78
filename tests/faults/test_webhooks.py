"""Webhooks of real services: nothing lost, nothing told twice, whichever processes die."""

from __future__ import annotations

import io
import os
import signal
import sqlite3
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path

import pytest

from pixmill import wiring
from pixmill.core.events import USUAL_EVENTS, Event, Webhook
from pixmill.core.model import SheetRules
from pixmill.core.options import Options
from pixmill.core.sheets import SheetLimits
from pixmill.core.webhooks import DeliveryState, secret_text
from pixmill.settings import Settings
from pixmill.steps.submit import Order, submit_csv
from tests import service as services
from tests import shop as shops
from tests.receivers import SECRET, Message, Receiver, Reply, receiving
from tests.shop import Shop, children_of

SECRET_TEXT = secret_text(SECRET)


def submit(
    data: Path,
    shop: Shop,
    webhook: Webhook,
    *,
    requests: int = 1,
    images: int = 1,
) -> list[str]:
    """Accept requests as an upload would, in the store of a service that may be running."""
    settings = Settings(data_dir=data)
    accepted = []
    with closing(wiring.open_store(settings)) as store:
        for number in range(requests):
            lines = ["Serial Number,Product Name,Input Image Urls"]
            lines += [
                f"{image},Product {image},{shop.url(f'{image}.jpg?request={number}')}"
                for image in range(images)
            ]
            order = Order("products.csv", Options(), SheetRules(), webhook=webhook)
            csv = io.BytesIO("\n".join(lines).encode())
            blobs = wiring.open_blobs(settings)
            request, _ = submit_csv(store, blobs, csv, order, SheetLimits(), time.time)
            accepted.append(request.id)
    return accepted


def wait_until_all_are_delivered(data: Path, timeout: float = 90) -> None:
    """Wait until all deliveries are over, and well."""
    deadline = time.monotonic() + timeout
    with closing(sqlite3.connect(data / "pixmill.db")) as db:
        while True:
            states = Counter(row[0] for row in db.execute("SELECT state FROM deliveries"))
            if states.keys() == {"delivered"}:
                return
            assert time.monotonic() < deadline, f"not delivered: {states}"
            time.sleep(0.05)


def test_a_worker_killed_between_a_post_and_its_record_is_followed_by_one_that_posts_it_again(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    killed: list[int] = []
    with (
        shops.open_shop() as shop,
        services.serving(data, webhook_secret=SECRET_TEXT) as service,
    ):

        def reply(_message: Message) -> Reply:
            if len(killed) < 2:
                (worker,) = children_of(service.process.pid, named="worker")
                killed.append(worker)
                os.kill(worker, signal.SIGKILL)  # it never hears our answer
            return 204, {}

        with receiving(reply) as receiver:
            (request_id,) = submit(data, shop, Webhook(receiver.url(), USUAL_EVENTS))
            messages = receiver.wait_for(3)
            wait_until_all_are_delivered(data)
    assert len(set(killed)) == 2
    assert len({message.id for message in messages}) == 1
    assert len({message.body for message in messages}) == 1
    for message in messages:
        assert message.verified()["requestId"] == request_id
        assert message.verified()["type"] == "request.completed"
    with closing(wiring.open_outbox(Settings(data_dir=data))) as outbox:
        (delivery,) = outbox.deliveries(request_id)
        assert (delivery.state, delivery.attempts) == (DeliveryState.DELIVERED, 1)


@pytest.mark.slow
def test_200_requests_that_finish_together_tell_of_exactly_one_completion_each(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    with shops.open_shop() as shop, receiving() as receiver:
        requests = submit(data, shop, Webhook(receiver.url(), USUAL_EVENTS), requests=200)
        with services.serving(data, workers=2, webhook_secret=SECRET_TEXT) as service:
            receiver.wait_for(200, timeout=120)
            wait_until_all_are_delivered(data)
            assert service.stop() == 0
    told = [message.verified() for message in receiver.messages]
    assert Counter(body["requestId"] for body in told) == Counter(requests)
    assert {body["type"] for body in told} == {"request.completed"}
    assert len({message.id for message in receiver.messages}) == 200


@pytest.mark.slow
def test_no_event_is_lost_or_doubled_when_everything_is_killed_again_and_again(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    with shops.open_shop(delay=0.03) as shop, receiving() as receiver:
        webhook = Webhook(receiver.url(), tuple(Event))
        requests = submit(data, shop, webhook, requests=3, images=60)
        for _ in range(4):
            with services.serving(data, lease_seconds=1, webhook_secret=SECRET_TEXT, threads=4) as (
                service
            ):
                seen = len(receiver.messages)
                with suppress(AssertionError):  # nothing may be left to tell
                    receiver.wait_for(seen + 2, timeout=5)
                service.kill()
        with closing(wiring.open_store(Settings(data_dir=data))) as store:
            store.expire_leases()  # nobody lives; else what was in hand would take a minute more
        with services.serving(data, lease_seconds=1, webhook_secret=SECRET_TEXT) as service:
            for request_id in requests:
                service.finished(request_id)
            wait_until_all_are_delivered(data)
    for request_id in requests:
        check_story(receiver, request_id)


def check_story(receiver: Receiver, request_id: str) -> None:
    """One event of each step, whatever the number of messages."""
    told = {}
    for message in receiver.messages:
        body = message.verified()
        if body["requestId"] == request_id:
            assert told.setdefault(message.id, body) == body, "one id says one thing"
    kinds = Counter(body["type"] for body in told.values())
    assert kinds["request.processing"] == kinds["request.completed"] == 1
    steps = [
        (body["processedImages"] + body["failedImages"]) * 10 // body["totalImages"]
        for body in told.values()
        if body["type"] == "request.progress"
    ]
    assert len(steps) == len(set(steps)), "no step is told of twice"


def test_links_in_a_webhook_lead_to_the_service_and_its_images(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with (
        shops.open_shop() as shop,
        receiving() as receiver,
        services.serving(data, webhook_secret=SECRET_TEXT) as service,
    ):
        submit(data, shop, Webhook(receiver.url()))
        told = receiver.wait_for(1)[0].verified()
        assert told["statusUrl"].startswith(service.url)
        assert service.get(told["statusUrl"].removeprefix(service.url)).status_code == 200
        assert service.get(told["downloadUrl"].removeprefix(service.url)).status_code == 200
        (image,) = told["products"][0]["outputImageUrls"]
        assert service.get(image.removeprefix(service.url)).content[:2] == b"\xff\xd8"


def test_links_lead_to_where_the_settings_say(tmp_path: Path) -> None:
    data = tmp_path / "data"
    elsewhere = "https://images.shop.example"
    with (
        shops.open_shop() as shop,
        receiving() as receiver,
        services.serving(data, webhook_secret=SECRET_TEXT, url=elsewhere) as service,
    ):
        submit(data, shop, Webhook(receiver.url()))
        told = receiver.wait_for(1)[0].verified()
        assert told["statusUrl"] == f"{elsewhere}/api/status/{told['requestId']}"
        assert SECRET_TEXT not in service.said()


def test_a_service_that_is_told_to_stop_does_not_wait_for_an_endpoint_that_hangs(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"

    def reply(_message: Message) -> Reply:
        receiver.closing.wait(60)
        return 204, {}

    with shops.open_shop() as shop, receiving(reply) as receiver:
        with services.serving(data, grace_seconds=1, webhook_secret=SECRET_TEXT) as service:
            submit(data, shop, Webhook(receiver.url()))
            receiver.wait_for(1)
            started = time.monotonic()
            assert service.stop() == 0
            assert time.monotonic() - started < 10
        receiver.reply = lambda _: (204, {})
        with services.serving(data, webhook_secret=SECRET_TEXT):
            messages = receiver.wait_for(2, timeout=20)
            wait_until_all_are_delivered(data)
    assert messages[0].id == messages[1].id

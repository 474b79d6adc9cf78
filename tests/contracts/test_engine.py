"""What every engine promises: whatever the store offers gets done, whoever dies or is not told."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pixmill.core.events import Event, Webhook
from pixmill.core.model import Request, SheetRules
from pixmill.core.options import Options
from pixmill.core.webhooks import DELAYS
from pixmill.steps.submit import Order, submit_csv
from tests.contracts.crews import Crew
from tests.receivers import Receiver
from tests.shop import Shop, write_csv

pytestmark = pytest.mark.slow

IMAGES = 40
"""Enough for several shards."""


@pytest.fixture
def submit(crew: Crew, shop: Shop, tmp_path: Path) -> Callable[..., Request]:
    """Accepts a CSV of so many images of the shop, as the service does."""

    def accept(name: str = "a", images: int = IMAGES, webhook: Webhook | None = None) -> Request:
        urls = [shop.url(f"{number}.jpg?{name}") for number in range(images)]
        csv = write_csv(tmp_path / f"{name}.csv", urls)
        order = Order(csv.name, Options(), SheetRules(), webhook=webhook)
        with csv.open("rb") as raw:
            request, _ = submit_csv(crew.store, crew.blobs, raw, order, crew.limits, time.time)
        return request

    return accept


def test_what_was_accepted_is_done_once_the_engine_is_woken(
    crew: Crew, shop: Shop, submit: Callable[..., Request]
) -> None:
    crew.start(workers=2)
    crew.finished(submit("first"))  # the workers are up
    request = submit("second")
    crew.engine.wake()
    done = crew.finished(request)
    assert (done.status, done.processed_images, done.failed_images) == ("COMPLETED", IMAGES, 0)
    assert set(shop.asked.values()) == {1}, "each image was fetched once"
    assert crew.engine.look() is None


def test_what_nobody_was_told_of_is_done_as_well(
    crew: Crew, submit: Callable[..., Request]
) -> None:
    before = submit("before")  # accepted by somebody who died before waking anyone
    crew.start(workers=1)
    crew.finished(before)
    crew.finished(submit("after"))


def test_several_engines_on_one_store_finish_a_request_once(
    crew: Crew, shop: Shop, submit: Callable[..., Request], receiver: Receiver
) -> None:
    crew.start(workers=1)
    other = crew.another()
    other.start(workers=1)
    hook = Webhook(receiver.url(), (Event.COMPLETED,))
    requests = [submit(f"r{number}", 16, hook) for number in range(6)]
    for _ in range(20):
        crew.engine.wake()
        other.engine.wake()
    for request in requests:
        assert crew.finished(request).processed_images == 16
    receiver.wait_for(len(requests))
    time.sleep(1)  # for what must not come
    told = [message.verified()["requestId"] for message in receiver.messages]
    assert sorted(told) == sorted(request.id for request in requests)
    assert set(shop.asked.values()) == {1}


def test_a_worker_that_is_killed_costs_no_image_and_work_goes_on(
    crew: Crew, shop: Shop, submit: Callable[..., Request]
) -> None:
    shop.delay = 0.2
    crew.start(workers=2)
    request = submit(images=120)
    crew.engine.wake()
    crew.wait_until(lambda: shop.served.total() > 10, "work begins")
    crew.kill_a_worker()
    done = crew.finished(request)
    assert (done.processed_images, done.failed_images) == (120, 0)
    crew.finished(submit("after"))
    assert crew.engine.look() is None


def test_workers_that_are_stopped_hand_back_what_they_have_in_hand(
    crew: Crew, shop: Shop, submit: Callable[..., Request]
) -> None:
    shop.delay = 0.3
    crew.start(workers=1)
    request = submit(images=100)
    crew.engine.wake()
    crew.wait_until(lambda: shop.served.total() > 10, "work begins")
    crew.stop_workers()
    assert not crew.store.lost_leases(now=time.time() + 3600), "nothing is held any more"
    assert not crew.store.request(request.id).status.terminal
    crew.start(workers=1)
    assert crew.finished(request).processed_images == 100
    assert set(shop.asked.values()) == {1}, "what was in hand had time to end"


def test_a_retry_a_cancel_and_a_deletion_are_seen_to(
    crew: Crew, shop: Shop, submit: Callable[..., Request], receiver: Receiver
) -> None:
    shop.special["0.jpg"] = lambda _port: (404, b"")
    crew.start(workers=1)
    request = submit(webhook=Webhook(receiver.url(), (Event.CANCELLED,)))
    crew.engine.wake()
    assert crew.finished(request).failed_images == 1
    del shop.special["0.jpg"]
    crew.store.retry_failed(request.id, now=time.time())
    crew.engine.wake()
    assert crew.finished(request).failed_images == 0

    shop.delay = 1.0
    slow = submit("slow", webhook=Webhook(receiver.url(), (Event.CANCELLED,)))
    crew.engine.wake()
    crew.wait_until(lambda: crew.store.request(slow.id).status == "PROCESSING", "it is ingested")
    crew.store.cancel_request(slow.id, now=time.time())
    crew.engine.wake()
    assert receiver.wait_for(1)[0].verified()["requestId"] == slow.id

    crew.store.delete_request(request.id, now=time.time(), purge_at=time.time())
    crew.engine.wake()
    folder = crew.data / "images" / request.id
    crew.wait_until(lambda: not folder.exists(), "its files are purged")


def test_a_webhook_that_failed_is_sent_again_when_it_is_due(
    crew: Crew, submit: Callable[..., Request], receiver: Receiver
) -> None:
    receiver.reply = lambda _: (500 if len(receiver.messages) == 1 else 204, {})
    crew.start(workers=1)
    request = submit(webhook=Webhook(receiver.url(), (Event.COMPLETED,)))
    crew.engine.wake()
    crew.finished(request)
    first, second = receiver.wait_for(2)
    assert first.id == second.id
    assert second.at - first.at > DELAYS[1] - 1

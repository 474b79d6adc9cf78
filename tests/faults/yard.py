"""A fleet to be ill-treated, and what is asked of it after a fault: each thing was done once."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from pixmill.core.webhooks import secret_text
from tests.faults.history import Moment, moment, told_since
from tests.fleet import Fleet, fleet, wait_until
from tests.receivers import SECRET, Receiver, receiving
from tests.service import PROGRAM, Serving
from tests.shop import Shop, open_shop, write_csv


@dataclass
class Yard:
    """A service, its workers, the shop that they fetch from, and who hears of what is finished."""

    shop: Shop
    receiver: Receiver
    service: Serving
    fleet: Fleet
    store: str
    since: Moment

    def csv(self, images: int, name: str = "p") -> bytes:
        """A CSV of so many images, which no other name shares."""
        urls = [self.shop.url(f"{number}.jpg?of={name}") for number in range(images)]
        return write_csv(self.fleet.log.with_suffix(".csv"), urls).read_bytes()

    def submit(self, images: int, name: str = "p") -> str:
        """Hand over a request of so many images; return its id."""
        return self.service.accepted(self.csv(images, name), webhookUrl=self.receiver.url())

    def processed(self, request_id: str) -> int:
        """How many images have succeeded so far."""
        return int(self.service.status(request_id)["processedImages"])

    def wait_for(self, request_id: str, processed: int, timeout: float = 60) -> None:
        """Wait until so many images have succeeded."""
        wait_until(lambda: self.processed(request_id) >= processed, timeout, self.fleet.said)

    def holders(self) -> set[str]:
        """The names of workers that hold work."""
        with MongoClient[dict[str, Any]](self.store) as client:
            work = client.get_default_database()["work"]
            return {str(name) for name in work.distinct("worker", {"state": "leased"})}

    def idle(self) -> None:
        """Wait until no work is held or open any more."""
        with MongoClient[dict[str, Any]](self.store) as client:
            work = client.get_default_database()["work"]
            wait_until(lambda: not work.count_documents({"state": {"$ne": "done"}}))

    def report(self) -> str:
        """What is known of a service that is not ready, and of its workers."""
        return "\n".join(
            [
                self.service.get("/ready").text,
                self.service.said()[-5000:],
                self.fleet.said()[-5000:],
            ]
        )

    def check(self, requests: dict[str, int], timeout: float = 90) -> None:
        """Make sure that requests of so many images each are done, and everything just once."""
        for request_id, images in requests.items():
            status = self.service.finished(request_id, timeout)
            assert status["status"] == "COMPLETED", status
            assert (status["processedImages"], status["failedImages"]) == (images, 0)
            self._check_sheet(request_id, images)
        self._check_history(requests)
        self._check_webhooks(requests)

    def _check_sheet(self, request_id: str, images: int) -> None:
        """Each image has an output of its own, and it is there, whole."""
        answer = self.service.get(f"/api/download/{request_id}")
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        assert len({row["Output Image Urls"] for row in rows}) == len(rows) == images
        assert all(row["Output Image Urls"] for row in rows)

    def _check_history(self, requests: dict[str, int]) -> None:
        told = told_since(self.store, self.since)
        assert sum(told.outcomes.values()) == sum(requests.values())
        assert set(told.outcomes.values()) == {1}, "an image got a second outcome"
        assert told.finishes == Counter(list(requests))
        completed = {(request_id, "request.completed"): 1 for request_id in requests}
        assert told.deliveries == Counter(completed)

    def _check_webhooks(self, requests: dict[str, int]) -> None:
        """Whatever the number of messages, each request is told of under one id."""
        wait_until(lambda: len(self._ids()) >= len(requests), 90, self.fleet.said)
        bodies = [message.verified() for message in self.receiver.messages]
        assert {body["type"] for body in bodies} == {"request.completed"}
        told = {(body["requestId"], body["processedImages"]) for body in bodies}
        assert told == set(requests.items())
        assert len(self._ids()) == len(requests)

    def _ids(self) -> set[str]:
        return {message.id for message in self.receiver.messages}


@contextmanager
def yard(
    data: Path,
    store: str,
    engine: str,
    workers: int = 2,
    delay: float = 0.0,
    program: Sequence[str] = PROGRAM,
    **settings: object,
) -> Iterator[Yard]:
    """A fleet on this store and this broker until the end of the block."""
    usual = {"threads": 8, "lease_seconds": 5, "webhook_secret": secret_text(SECRET)}
    places = {"store": store, "engine": engine}
    since = moment(store)
    with (
        open_shop(delay) as shop,
        receiving() as receiver,
        fleet(data, workers, program=program, **{**usual, **places, **settings}) as (
            service,
            workers_,
        ),
    ):
        made = Yard(shop, receiver, service, workers_, store, since)
        yield made
        assert "Traceback" not in service.said(), service.said()
        assert "Traceback" not in workers_.said(), workers_.said()


BROKERS = pytest.mark.parametrize("broker", ["redis_url", "rabbitmq_url"], ids=["redis", "rabbit"])
"""For tests that take the fixture of this name by ``request.getfixturevalue``."""

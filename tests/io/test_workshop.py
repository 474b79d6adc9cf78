"""The workshop: whatever ends comes back under its ticket, and sleep never costs a single image."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pixmill.core.addresses import AddressPolicy
from pixmill.core.errors import ImageError, ImageErrorCode
from pixmill.core.model import Fetched, Image, Picture, SheetRules
from pixmill.core.options import Options
from pixmill.io import workshop as workshop_module
from pixmill.io.fetch import Fetcher, FetchLimits
from pixmill.io.local_files import read_local
from pixmill.io.loop import Loop
from pixmill.io.pixel_children import PixelChildren
from pixmill.io.pixels import ChildLimits, PixelLimits
from pixmill.io.workshop import PollingWorkshop
from tests.io import pictures
from tests.io.origins import LOOPBACK, Origin, origin

PHOTO = pictures.jpeg(pictures.photo())
Ended = Fetched | Picture | Exception


@contextmanager
def open_workshop(folder: Path) -> Iterator[PollingWorkshop[int]]:
    """A workshop with one child."""
    loop, limits = Loop(), FetchLimits()
    fetcher: Fetcher[int] = Fetcher(
        AddressPolicy.parse(LOOPBACK), limits, folder, "pixmill-tests/1", loop
    )
    children: PixelChildren[int] = PixelChildren(1, PixelLimits(), ChildLimits(), loop)
    made = PollingWorkshop(
        loop, fetcher, children, lambda url, folder: read_local(url, folder, limits)
    )
    try:
        yield made
    finally:
        made.close()


def all_of(workshop: PollingWorkshop[int], count: int) -> dict[int, Ended]:
    """What ends next, so many times."""
    ended: dict[int, Ended] = {}
    deadline = time.monotonic() + 20
    while len(ended) < count:
        assert time.monotonic() < deadline
        ended.update(workshop.wait(1))
    return ended


def fetch_and_compress(workshop: PollingWorkshop[int], server: Origin, count: int) -> None:
    """Take so many images along their way."""
    for number in range(count):
        workshop.fetch(number, Image("r", number, server.url(f"/{number}.jpg"), 1), SheetRules())
    fetched = all_of(workshop, count)
    for number, source in fetched.items():
        assert isinstance(source, Fetched)
        workshop.compress(number, source, Options())
    pictures = all_of(workshop, count)
    assert all(isinstance(picture, Picture) for picture in pictures.values())


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of every nap."""
    taken: list[float] = []
    sleep = time.sleep

    class Clock:
        monotonic = staticmethod(time.monotonic)

        @staticmethod
        def sleep(seconds: float) -> None:
            taken.append(seconds)
            sleep(seconds)

    monkeypatch.setattr(workshop_module, "time", Clock)
    return taken


def test_it_sleeps_while_the_children_have_enough_and_only_then(
    tmp_path: Path, naps: list[float]
) -> None:
    with (
        origin(lambda visit: visit.respond(PHOTO)) as server,
        open_workshop(tmp_path) as workshop,
    ):
        for _ in range(5):
            fetch_and_compress(workshop, server, 1)
        assert not naps
        fetch_and_compress(workshop, server, 150)
        assert naps
        assert max(naps) <= workshop_module._NAP_SECONDS


def test_errors_come_back_under_their_tickets(tmp_path: Path) -> None:
    with (
        origin(lambda visit: visit.respond(status="404 Not Found")) as server,
        open_workshop(tmp_path) as workshop,
    ):
        workshop.fetch(1, Image("r", 1, server.url(), 1), SheetRules())
        workshop.fetch(2, Image("r", 2, "http://127.0.0.1:99999/", 1), SheetRules())
        workshop.fetch(3, Image("r", 3, "file:nothing.jpg", 1), SheetRules(local_folder="/none"))
        workshop.compress(4, Fetched(b"<html>", 6), Options())
        ended = all_of(workshop, 4)
    codes = {ticket: error.code for ticket, error in ended.items() if isinstance(error, ImageError)}
    assert codes == {
        1: ImageErrorCode.HTTP_ERROR,
        2: ImageErrorCode.INVALID_URL,
        3: ImageErrorCode.INVALID_URL,
        4: ImageErrorCode.NOT_AN_IMAGE,
    }


def test_a_local_file_that_takes_its_time_holds_up_nothing(tmp_path: Path) -> None:
    go_on = threading.Event()

    def read(url: str, _folder: Path) -> Fetched:
        assert go_on.wait(10)
        return Fetched(url.encode(), len(url))

    with origin() as server, open_workshop(tmp_path) as workshop:
        workshop._files._read = read
        workshop.fetch(1, Image("r", 1, "file:slow.jpg", 1), SheetRules(local_folder="/"))
        workshop.fetch(2, Image("r", 2, server.url(), 1), SheetRules())
        assert list(all_of(workshop, 1)) == [2]
        go_on.set()
        assert all_of(workshop, 1) == {1: Fetched(b"file:slow.jpg", 13)}


def test_waking_ends_a_wait_that_has_no_end(tmp_path: Path) -> None:
    with open_workshop(tmp_path) as workshop:
        threading.Timer(0.2, workshop.wake).start()
        begun = time.monotonic()
        assert list(workshop.wait(None)) == []
        assert time.monotonic() - begun < 5
    workshop.wake()  # nobody minds when it is closed

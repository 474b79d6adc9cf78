"""S3 on a bad day: what is stored is whole, what cannot be stored is said, nothing is half."""

from __future__ import annotations

import csv
import io
import os
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import simplejpeg

from pixmill.blobs.s3 import PART, S3Blobs
from pixmill.blobs.s3_place import s3_place
from pixmill.core.errors import NotFound, StoreUnavailable
from tests import service as services
from tests.servers.s3 import S3Server, s3_environment
from tests.servers.troubles import HttpCall, Plan, Trouble, TroubleProxy, trouble_proxy
from tests.shop import open_shop, write_csv

TROUBLES = [trouble for trouble in Trouble if trouble is not Trouble.NONE]
LARGE = os.urandom(256) * (PART * 2 // 256) + b"end"


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[TroubleProxy]:
    """A proxy before the S3 server, without any trouble so far."""
    with trouble_proxy(s3.port) as made:
        yield made


@pytest.fixture
def bucket(s3: S3Server) -> str:
    """The name of an empty bucket."""
    return s3.bucket()


@pytest.fixture
def blobs(proxy: TroubleProxy, bucket: str) -> S3Blobs:
    """Blobs in the bucket, through the proxy."""
    return S3Blobs(s3_place(f"s3://{bucket}", s3_environment(proxy.endpoint)))


@pytest.fixture
def direct(s3: S3Server, bucket: str) -> S3Blobs:
    """The same blobs, without any trouble."""
    return S3Blobs(s3_place(f"s3://{bucket}", s3_environment(s3.endpoint)))


def read(blobs: S3Blobs, key: str) -> bytes:
    with blobs.open(key) as file:
        return file.read()


def uploads(s3: S3Server, bucket: str) -> int:
    """How many uploads in parts were begun and neither completed nor given up."""
    return len(s3.client().list_multipart_uploads(Bucket=bucket).get("Uploads", []))


def now_and_then(share: float, *troubles: Trouble) -> Plan:
    """So large a share of calls meets one of these troubles, the same ones in every run."""
    dice = random.Random(7)
    lock = threading.Lock()

    def plan(_call: HttpCall) -> Trouble:
        with lock:
            return dice.choice(troubles) if dice.random() < share else Trouble.NONE

    return plan


@pytest.mark.parametrize(
    "plan",
    [now_and_then(0.3, Trouble.REFUSED), now_and_then(0.3, *TROUBLES)],
    ids=["500", "any"],
)
def test_with_trouble_in_a_third_of_all_calls_everything_ends_right(
    blobs: S3Blobs, direct: S3Blobs, proxy: TroubleProxy, plan: Plan
) -> None:
    proxy.plan = plan
    files = {f"images/req_a/{number}.jpg": os.urandom(2_000) for number in range(100)}
    blobs.put_all(files)
    blobs.put("images/req_a/large", io.BytesIO(LARGE))
    assert len(proxy.calls) > len(files) + 20, "there was no trouble"
    assert {key: read(blobs, key) for key in files} == files
    assert read(blobs, "images/req_a/large") == LARGE
    assert blobs.look("images/req_a/large").size == len(LARGE)
    blobs.delete_all("images/req_a")
    for key in [*files, "images/req_a/large"]:
        with pytest.raises(NotFound):
            direct.look(key)


VERBS: dict[str, Callable[[S3Blobs], object]] = {
    "put": lambda blobs: blobs.put("images/a", b"after" * 1000),
    "put_all": lambda blobs: blobs.put_all({"images/a": b"after" * 1000, "images/b": b"b"}),
    "put large": lambda blobs: blobs.put("images/large", io.BytesIO(LARGE)),
    "open": lambda blobs: read(blobs, "images/kept"),
    "open large": lambda blobs: read(blobs, "images/kept-large"),
    "look": lambda blobs: blobs.look("images/kept"),
    "delete_all": lambda blobs: blobs.delete_all("gone"),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.name)
def test_trouble_with_any_one_call_changes_nothing(
    s3: S3Server,
    bucket: str,
    blobs: S3Blobs,
    direct: S3Blobs,
    proxy: TroubleProxy,
    trouble: Trouble,
    verb: str,
) -> None:
    """Each call that a verb makes meets the trouble once, in a run of its own.

    When the answer to the very first call of an upload in parts is lost, nobody knows its name, so
    that nobody can give it up: for such the bucket has its rules.
    """
    expected = {"images/kept": b"kept" * 100, "images/kept-large": LARGE}
    for key, data in expected.items():
        direct.put(key, data)
    VERBS[verb](direct)
    if verb.startswith("put"):
        expected |= {"images/large": LARGE} if "large" in verb else {"images/a": b"after" * 1000}
    position = 0
    while True:
        proxy.calls.clear()
        direct.put_all({f"gone/{number}": b"x" for number in range(3)})
        proxy.plan = lambda call, at=position: trouble if call.number == at else Trouble.NONE
        VERBS[verb](blobs)
        assert {key: read(direct, key) for key in expected} == expected
        if verb == "delete_all":
            with pytest.raises(NotFound):
                direct.look("gone/1")
        if position >= len(proxy.calls):  # the trouble was for a call that is not made any more
            break
        position += 1
    assert position
    nameless = verb == "put large" and trouble not in {Trouble.REFUSED, Trouble.SLOW_DOWN}
    assert uploads(s3, bucket) == int(nameless)


def test_when_it_goes_away_each_file_is_whole_or_as_it_was(
    bucket: str, direct: S3Blobs, proxy: TroubleProxy
) -> None:
    blobs = S3Blobs(s3_place(f"s3://{bucket}", s3_environment(proxy.endpoint)), patience=1)
    before = {f"images/{number}": b"before" for number in range(60)}
    direct.put_all(before)
    after = {key: os.urandom(50_000) for key in before}
    proxy.plan = lambda call: Trouble.NONE if call.number < 20 else Trouble.CUT_REQUEST
    with pytest.raises(StoreUnavailable):
        blobs.put_all(after)
    found = {key: read(direct, key) for key in before}
    assert all(found[key] in {before[key], after[key]} for key in before)
    assert 0 < sum(found[key] == after[key] for key in before) < 60


def test_a_large_file_that_cannot_be_sent_leaves_nothing(
    s3: S3Server, bucket: str, direct: S3Blobs, proxy: TroubleProxy
) -> None:
    blobs = S3Blobs(s3_place(f"s3://{bucket}", s3_environment(proxy.endpoint)), patience=1)
    proxy.plan = lambda call: Trouble.REFUSED if "partNumber=2" in call.path else Trouble.NONE
    with pytest.raises(StoreUnavailable):
        blobs.put("images/large", io.BytesIO(LARGE))
    with pytest.raises(NotFound):
        direct.look("images/large")
    assert uploads(s3, bucket) == 0


def test_one_that_is_away_for_some_seconds_is_waited_for(
    bucket: str, direct: S3Blobs, proxy: TroubleProxy
) -> None:
    """Longer than obstore itself tries, so that it is the recorder's batch that is tried again."""
    blobs = S3Blobs(s3_place(f"s3://{bucket}", s3_environment(proxy.endpoint)), hiccup=0.2)
    back = threading.Timer(3, lambda: setattr(proxy, "plan", lambda _call: Trouble.NONE))
    proxy.plan = lambda _call: Trouble.SLOW_DOWN
    back.start()
    files = {f"images/{number}": b"x" for number in range(100)}
    blobs.put_all(files)
    back.join()
    assert {key: read(direct, key) for key in files} == files


def test_a_request_ends_right_while_a_third_of_all_calls_meets_trouble(
    bucket: str, proxy: TroubleProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_environment(proxy.endpoint).items():
        monkeypatch.setenv(name, value)
    proxy.plan = now_and_then(0.3, *TROUBLES)
    with (
        open_shop() as shop,
        services.serving(tmp_path / "data", blobs=f"s3://{bucket}/pixmill") as service,
    ):
        urls = [shop.url(f"{number}.jpg") for number in range(100)]
        request_id = service.accepted(write_csv(tmp_path / "products.csv", urls))
        status = service.finished(request_id)
        assert (status["processedImages"], status["failedImages"]) == (100, 0)
        rows = csv.DictReader(io.StringIO(service.get(f"/api/download/{request_id}").text))
        outputs = [row["Output Image Urls"] for row in rows]
        assert len(set(outputs)) == 100
        for url in outputs:
            answer = httpx.get(url, trust_env=False, timeout=60)
            assert simplejpeg.decode_jpeg(answer.content).shape == (120, 160, 3)
    assert len(proxy.calls) > 100 + 100 + 30, "there was no trouble"

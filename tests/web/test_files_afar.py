"""Stored images that are far away: one call there for each, and nobody else waits."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pixmill.settings import Settings
from pixmill.web.service import Service
from tests.servers.s3 import S3Server, s3_environment
from tests.servers.troubles import Trouble, TroubleProxy, trouble_proxy

KEY = "images/req_abcdefghijklmnopqrstuvwxyz/0000001.jpg"
URL = f"/api/files/{KEY}"


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[TroubleProxy]:
    """A proxy before the S3 server, without any trouble so far."""
    with trouble_proxy(s3.port) as made:
        yield made


@pytest.fixture
def settings(
    tmp_path: Path, s3: S3Server, proxy: TroubleProxy, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """A service whose files are in a bucket behind the proxy."""
    for name, value in s3_environment(proxy.endpoint).items():
        monkeypatch.setenv(name, value)
    return Settings(data_dir=tmp_path, public_url="/api/files", blobs=f"s3://{s3.bucket()}")


def asked(proxy: TroubleProxy) -> list[str]:
    """The calls that came by since this was asked last."""
    methods = [call.method for call in proxy.calls]
    proxy.calls.clear()
    return methods


def test_each_answer_costs_one_call(
    service: Service, client: httpx.Client, proxy: TroubleProxy
) -> None:
    service.blobs.put(KEY, b"0123456789")
    proxy.calls.clear()
    got = client.get(URL)
    assert (got.content, asked(proxy)) == (b"0123456789", ["GET"])
    part = client.get(URL, headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content, asked(proxy)) == (206, b"234", ["GET"])
    looked = client.head(URL)
    assert (looked.headers["content-length"], asked(proxy)) == ("10", ["HEAD"])
    same = client.get(URL, headers={"If-None-Match": got.headers["etag"]})
    assert (same.status_code, asked(proxy)) == (304, ["HEAD"])
    assert client.get(URL.replace("1.jpg", "2.jpg")).status_code == 404


def test_a_large_image_comes_whole(service: Service, client: httpx.Client) -> None:
    data = bytes(range(256)) * 40_000
    service.blobs.put(KEY, data)
    assert client.get(URL).content == data


def test_nobody_waits_for_the_images_of_others(
    service: Service, client: httpx.Client, proxy: TroubleProxy
) -> None:
    service.blobs.put(KEY, b"0123456789")
    held, go_on = threading.Event(), threading.Event()

    def hold(_call: object) -> Trouble:
        held.set()
        go_on.wait(60)
        return Trouble.NONE

    proxy.plan = hold
    answers: list[int] = []
    waiting = threading.Thread(target=lambda: answers.append(client.get(URL).status_code))
    waiting.start()
    assert held.wait(30)
    assert httpx.get(client.base_url.join("/health"), trust_env=False).status_code == 200
    assert not answers
    go_on.set()
    waiting.join()
    assert answers == [200]


def test_a_bucket_that_is_away_is_said_to_be(
    client: httpx.Client, proxy: TroubleProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixmill.blobs.s3.READER_SECONDS", 0.1)
    proxy.plan = lambda _call: Trouble.REFUSED
    answer = client.get(URL)
    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
    assert "retry-after" in answer.headers

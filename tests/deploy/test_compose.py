"""The commands of compose.yaml, started as plain processes, do a whole request."""

from __future__ import annotations

import os
import re
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import simplejpeg
import trustme
from pymongo import MongoClient

from tests.deploy.running import Stack, stack
from tests.deploy.stack import DEPLOY, instruction
from tests.servers.ports import free_port
from tests.shop import PHOTOS, Answer, Shop, open_shop, write_csv

CALLER = "127.9.9.9"
"""An address that is nobody's but the caller's."""


@pytest.fixture(autouse=True)
def _no_settings_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("PIXMILL_", "AWS_"))]:
        monkeypatch.delenv(name)


@pytest.mark.slow
def test_the_compose_file_serves_from_the_first_start(tmp_path: Path) -> None:
    site = f"localhost:{free_port()}"
    certificates = "/certificates/chain.pem /certificates/key.pem"
    secrets = {"S3_ACCESS_KEY": "shopfiles", "S3_SECRET_KEY": "not so secret, for a test"}
    with stack({"SITE": site, "TLS": certificates, **secrets}) as running, open_shop() as shop:
        trust = write_certificates(running.folder / "certificates")
        running.more = {"PIXMILL_ALLOWED_ADDRESSES": "127.0.0.0/8"}
        start_stores(running)
        key = first_key(running)
        running.configure_proxy(free_port())
        for service in ("api", "worker", "proxy"):
            running.start(service)
        with calling(f"https://{site}", key, trust) as client:
            wait_until_ready(running, client)
            check_health(running)
            request_id = upload(client, shop, tmp_path)
            check_images(client, request_id, f"https://{site}/api/files/")
            check_replacement(running, client)
        # What the proxy says of its callers is believed.
        assert f'"{CALLER}"' in running.log("api").read_text()
        assert (running.stop("worker"), running.stop("api")) == (0, 0)


def start_stores(running: Stack) -> None:
    """Start what the containers of pixmill depend on."""
    for service in ("mongo", "redis", "s3"):
        running.start(service)
    for service in ("mongo", "redis", "s3"):
        running.wait_for(service)
    make_replica_set(running)
    wait_for_s3(running)
    for _start in range(2):  # the next start of all runs it again
        running.run("bucket")
    address = f"http://127.0.0.1:{running.port('s3')}/pixmill"
    assert httpx.get(address, trust_env=False).status_code == 403, "files are open to all"


def make_replica_set(running: Stack) -> None:
    """Do what the health check of mongo does; its shell comes in no wheel."""
    command = running.services["mongo"]["command"]
    name = command[command.index("--replSet") + 1]
    member = {"_id": 0, "host": f"127.0.0.1:{running.port('mongo')}"}
    with MongoClient[dict[str, object]](member["host"], directConnection=True) as client:
        client.admin.command("replSetInitiate", {"_id": name, "members": [member]})
        give_up = time.monotonic() + 30
        while not client.admin.command("hello")["isWritablePrimary"]:
            assert time.monotonic() < give_up
            time.sleep(0.05)


def wait_for_s3(running: Stack) -> None:
    """Wait as the health check of s3 does."""
    url = running.here(running.services["s3"]["healthcheck"]["test"][-1])
    give_up = time.monotonic() + 30
    while httpx.get(url, trust_env=False).status_code != 200:
        assert time.monotonic() < give_up, running.log("s3").read_text()[-3000:]
        time.sleep(0.1)


def first_key(running: Stack) -> str:
    """Make a key as the file says; without any, the API says how to and ends."""
    refused = running.start("api")
    assert refused.wait(30) == 2
    assert "Create a key first: pixmill keys create" in running.log("api").read_text()
    documented = re.search(
        r"docker compose run --rm api (.*)", (DEPLOY / "compose.yaml").read_text()
    )
    assert documented
    return running.run("api", documented[1].split())


def check_health(running: Stack) -> None:
    """Ask as the image's health check does."""
    command = [running.here(word) for word in instruction("HEALTHCHECK")]
    assert running.run("api", command[1:]) == "ok"


def write_certificates(folder: Path) -> ssl.SSLContext:
    """Write a certificate for this machine; whom to trust then."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    for pem in issued.cert_chain_pems:
        pem.write_to_path(str(folder / "chain.pem"), append=True)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    return trust


@contextmanager
def calling(url: str, key: str, trust: ssl.SSLContext) -> Iterator[httpx.Client]:
    """A client that calls from an address of its own."""
    way = httpx.HTTPTransport(verify=trust, local_address=CALLER, trust_env=False)
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=url, transport=way, headers=headers, timeout=30) as client:
        yield client


def wait_until_ready(running: Stack, client: httpx.Client) -> None:
    """Wait until all works, as seen through the proxy."""
    give_up = time.monotonic() + 60
    found = ""
    while time.monotonic() < give_up:
        try:
            answer = client.get("/ready")
            if answer.status_code == 200:
                return
            found = answer.text
        except httpx.TransportError as error:
            found = str(error)
        time.sleep(0.2)
    logs = {name: running.log(name).read_text()[-2000:] for name in ("api", "worker", "proxy")}
    raise AssertionError(f"not ready: {found}\n{logs}")


def upload(client: httpx.Client, shop: Shop, tmp_path: Path) -> str:
    """Hand over a sheet and see it completed; its events come as they happen."""
    held = threading.Event()

    def hold(_port: int) -> Answer:
        held.wait(60)
        return 200, PHOTOS[0]

    shop.special["held.jpg"] = hold
    names = [*(f"{number}.jpg" for number in range(12)), "held.jpg"]
    sheet = write_csv(tmp_path / "products.csv", [shop.url(name) for name in names])
    answer = client.post("/api/upload", files={"csv": ("products.csv", sheet.read_bytes())})
    assert answer.status_code == 202, answer.text
    request_id = str(answer.json()["requestId"])
    with client.stream("GET", f"/api/requests/{request_id}/events") as events:
        lines = events.iter_lines()
        assert next(line for line in lines if line.startswith("data:"))
        held.set()  # the stream has begun while the request cannot end
        assert any('"COMPLETED"' in line for line in lines)
    return request_id


def check_images(client: httpx.Client, request_id: str, base: str) -> None:
    """Fetch each image where the status says that it is: through the proxy, from the bucket."""
    status = client.get(f"/api/status/{request_id}").json()
    assert (status["processedImages"], status["failedImages"]) == (13, 0)
    urls = [url for product in status["products"] for url in product["outputImageUrls"]]
    assert len(urls) == 13
    for url in urls:
        assert url.startswith(base)
        image = client.get(url)
        assert (image.status_code, image.headers["content-type"]) == (200, "image/jpeg")
        assert simplejpeg.decode_jpeg(image.content).shape == (120, 160, 3)
    part = client.get(urls[0], headers={"Range": "bytes=2-5"})
    assert (part.status_code, len(part.content)) == (206, 4)


def check_replacement(running: Stack, client: httpx.Client) -> None:
    """Call while the API is away for a moment: the proxy waits for the next one."""
    assert running.stop("api") == 0
    with ThreadPoolExecutor(1) as caller:
        answer = caller.submit(client.get, "/health")
        time.sleep(1)
        assert not answer.done()
        running.start("api")
        assert answer.result().status_code == 200, running.log("proxy").read_text()[-1500:]

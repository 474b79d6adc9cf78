"""A whole request on a service whose store is MongoDB, and those whom it tells."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from pixmill.core.webhooks import secret_text
from tests.receivers import SECRET, receiving
from tests.service import environment, serving
from tests.shop import open_shop, write_csv

IMAGES = 24


def test_a_request_completes_and_its_webhook_is_told_once_of_each_event(
    mongo_url: str, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    secret = secret_text(SECRET)
    with (
        open_shop() as shop,
        receiving() as receiver,
        serving(data, store=mongo_url, webhook_secret=secret) as service,
    ):
        shop.special["missing.jpg"] = lambda _port: (404, b"")
        urls = [shop.url(f"{number}.jpg") for number in range(IMAGES)] + [shop.url("missing.jpg")]
        request_id = service.accepted(
            write_csv(tmp_path / "products.csv", urls),
            webhookUrl=receiver.url(),
            webhookEvents="request.processing,request.completed",
        )
        status = service.finished(request_id)
        assert (status["status"], status["processedImages"]) == ("COMPLETED", IMAGES)

        told = [message.verified() for message in receiver.wait_for(2)]
        assert {each["type"] for each in told} == {"request.processing", "request.completed"}
        completed = next(each for each in told if each["type"] == "request.completed")
        for name in ("requestId", "status", "totalImages", "processedImages", "failedImages"):
            assert completed[name] == status[name]

        deadline = time.monotonic() + 60
        while True:
            sent = service.get(f"/api/requests/{request_id}/deliveries").json()["deliveries"]
            if all(each["state"] == "delivered" for each in sent):
                break
            assert time.monotonic() < deadline, sent
            time.sleep(0.05)
        assert [len(each["attempts"]) for each in sent] == [1, 1]
        assert len(receiver.messages) == 2

        assert service.call("DELETE", f"/api/requests/{request_id}").status_code == 204
        assert service.get(f"/api/status/{request_id}").status_code == 404
    assert not (data / "pixmill.db").exists()


def test_a_key_that_replaces_another_has_its_requests(mongo_url: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    env = environment(data, store=mongo_url)
    with serving(data, store=mongo_url) as service:
        csv = write_csv(tmp_path / "products.csv", ["https://shop.example/1.jpg"])
        request_id = service.accepted(csv)
        old = new_key(env, "--name", "shop")
        assert service.get(f"/api/status/{request_id}").status_code == 401
        new = new_key(env, "--replaces", old)
        for key, status in ((old, 401), (new, 200)):
            headers = {"Authorization": f"Bearer {key}"}
            answer = service.get(f"/api/status/{request_id}", headers=headers)
            assert answer.status_code == status


def new_key(env: Mapping[str, str], *flags: str) -> str:
    """The text of a key that the command line makes."""
    made = subprocess.run(
        [sys.executable, "-m", "pixmill", "keys", "create", *flags],
        env=dict(env),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    assert "for mongodb://127.0.0.1:" in made.stderr
    return made.stdout.strip()

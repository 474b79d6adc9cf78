"""Schemathesis: thousands of generated calls, none of which may find what the contract lacks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from pixmill.core.access import NOBODY
from pixmill.core.errors import LeaseLost, NotFound
from pixmill.core.events import Webhook
from pixmill.core.leases import Work
from pixmill.settings import Settings
from pixmill.steps.delete import purge_request
from pixmill.web.app import create_app
from pixmill.web.service import Service
from tests.web import life
from tests.web.messages import SECRET
from tests.web.server import new_key, open_service, serving

REQUESTS = 30
"""How many finished requests there are at first; the calls delete some of them."""
HOOK = Webhook("http://127.0.0.1:9/hook")
HOOKS = Path(__file__).with_name("schemathesis_hooks.py")
ROOT = HOOKS.parent.parent.parent
CONFIG = """
hooks = "{hooks}"
continue-on-failure = true
max-stream-events = 5
request-timeout = 60

[headers]
{headers}

[generation]
max-examples = 60
deterministic = true
database = "none"

[checks]
ignored_auth.enabled = {ignored_auth}

[dictionaries.requests]
values = {requests}

[dictionaries.files]
values = {files}

[dictionaries.deliveries]
values = {deliveries}

[parameters]
"path.deliveryId" = {{ dictionary = "deliveries", probability = 0.8 }}
"path.requestId" = {{ dictionary = "requests", probability = 0.8 }}
"path.key" = {{ dictionary = "files", probability = 0.6 }}
"""
"""All checks are on unless told otherwise. The dictionaries let calls reach what there is."""


@contextmanager
def working(service: Service) -> Iterator[None]:
    """A worker beside the service: without fetching, every third image of a request fails."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            lease = service.store.claim("worker", now=service.clock(), lease_seconds=60)
            try:
                if lease is None:
                    stop.wait(0.02)
                elif lease.work is Work.INGEST:
                    life.ingest(service, lease)
                elif lease.work is Work.FINISH:
                    life.finish(service, lease)
                elif lease.work is Work.PURGE:
                    purge_request(service.store, service.blobs, lease)
                else:
                    life.settle(service, lease, failing={3})
                    service.store.complete_shard(lease, now=service.clock())
            except (LeaseLost, NotFound, AssertionError):
                continue  # the request was cancelled or deleted meanwhile

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def requests_of(service: Service, owner: str) -> list[str]:
    """The ids of requests in all states."""
    ids = [
        life.finished(service, 3, failing={3}, owner=owner, webhook=HOOK).id
        for _ in range(REQUESTS)
    ]
    for _ in range(REQUESTS // 3):
        cancelled = life.submitted(service, 3, owner=owner)
        service.store.cancel_request(cancelled.id, now=service.clock())
        pending = life.submitted(service, 3, owner=owner)
        ids += [cancelled.id, pending.id]
    return ids


def generate(folder: Path, url: str, **values: object) -> str:
    """Let Schemathesis loose on the server; return what it says. It must have found nothing."""
    (folder / "schemathesis.toml").write_text(CONFIG.format(hooks=HOOKS, **values))
    command = Path(sys.executable).with_name("schemathesis")
    ran = subprocess.run(
        [command, "run", "openapi.json", "--url", url, "--no-color"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},  # for what the hooks share with the tests
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=170,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    return ran.stdout


def event_by_event(contract: dict[str, Any]) -> dict[str, Any]:
    """The contract without the schema of a stream as a whole, which Schemathesis takes for a list.

    What each event is like stays (`itemSchema`).
    """
    answer = contract["paths"]["/api/requests/{requestId}/events"]["get"]["responses"]["200"]
    assert answer["content"]["text/event-stream"].pop("schema") == {"type": "string"}
    return contract


@pytest.mark.slow
@pytest.mark.parametrize("keyed", [True, False], ids=["with a key", "without"])
def test_no_generated_call_finds_what_the_contract_lacks(tmp_path: Path, *, keyed: bool) -> None:
    """All phases and all checks: examples, coverage of the schema, random data, and links."""
    settings = Settings(
        data_dir=tmp_path / "data",
        public_url="/api/files",
        rate_limit=0,
        rate_limit_per_address=0,
        webhook_secret=SECRET,
        webhook_url=HOOK.url,  # so that events may be named without it
        allowed_addresses="127.0.0.1:9",
    )
    with open_service(settings) as service:
        headers = new_key(service, "admin") if keyed else {}
        ids = requests_of(service, service.access.keys()[0].id if keyed else NOBODY)
        deliveries = [sent.id for name in ids for sent in service.outbox.deliveries(name)]
        with serving(create_app(service)) as url, working(service):
            contract = httpx.get(f"{url}/api/openapi.json").json()
            (tmp_path / "openapi.json").write_text(json.dumps(event_by_event(contract)))
            said = generate(
                tmp_path,
                url,
                headers="\n".join(f"{name} = {json.dumps(text)}" for name, text in headers.items()),
                # While no key exists, the service is meant to let everybody of this machine in.
                ignored_auth=json.dumps(keyed),
                requests=json.dumps(ids),
                deliveries=json.dumps(deliveries),
                files=json.dumps([f"images/{name}/0000001.jpg" for name in ids]),
            )
        assert service.outbox.receipts(), "messages were signed so that they are believed"
    calls = sum(len(methods) for methods in contract["paths"].values())
    assert f"Tested: {calls}\n" in said
    for phase in ("Examples", "Coverage", "Fuzzing", "Stateful"):
        assert f"✅ {phase}\n" in said
    generated = re.search(r"([0-9]+) generated", said)
    assert generated, said
    assert int(generated[1]) >= 1250, said

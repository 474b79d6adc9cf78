"""What was finished long ago goes when it is asked for, and by itself in a running service."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest

from pixmill import wiring
from pixmill.cli import housekeeping
from pixmill.core.leases import Work
from pixmill.core.shards import images_of
from pixmill.ports import Store
from pixmill.settings import load_settings
from pixmill.steps.retention import DAY
from pixmill.web.service import Service
from tests import service as services
from tests.contracts.records import a_request, claimed


def finished(service: Service, request_id: str, days_ago: float) -> None:
    """Add a request that was finished so long ago and has a picture."""
    moment = time.time() - days_ago * DAY
    service.store.add_request(replace(a_request(request_id), filename="shop [eu].csv"))
    service.store.fail_request(claimed(service.store, Work.INGEST), "no", now=moment)
    service.blobs.put(f"{images_of(request_id)}/0000001.jpg", b"x")


def ids(store: Store) -> set[str]:
    return {request.id for request in store.requests("")}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A store with an old and a new request, whose service keeps them for 10 days."""
    settings = load_settings({"data_dir": tmp_path, "retention_days": 10}, {})
    with ExitStack() as opened:
        store = opened.enter_context(closing(wiring.open_store(settings)))
        access = opened.enter_context(closing(wiring.open_access(settings)))
        outbox = opened.enter_context(closing(wiring.open_outbox(settings)))
        made = Service(settings, store, access, outbox, wiring.open_blobs(settings), time.time)
        finished(made, "req_old", days_ago=11)
        finished(made, "req_new", days_ago=9)
        yield made


def test_gc_deletes_what_is_older_and_a_dry_run_only_shows_it(
    service: Service, tmp_path: Path
) -> None:
    env = services.environment(tmp_path)
    code, said = services.refused(env, "gc", "--retention-days", "10", "--dry-run")
    assert (code, said) == (0, f"1 request would be deleted from {tmp_path}.\n")
    assert ids(service.store) == {"req_old", "req_new"}
    code, said = services.refused(env, "gc", "--retention-days", "10")
    assert (code, said) == (0, f"1 request deleted from {tmp_path}.\n")
    assert ids(service.store) == {"req_new"}
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["req_new"]
    assert list((tmp_path / ".pixmill/trash").iterdir()) == [], "the room is free"


def test_gc_makes_no_data_where_there_is_none(tmp_path: Path) -> None:
    env = services.environment(tmp_path / "elsewhere")
    code, said = services.refused(env, "gc", "--retention-days", "10")
    assert code == 2
    assert f"There is no pixmill data in {tmp_path}/elsewhere." in said
    assert "--data-dir FOLDER" in said
    assert list(tmp_path.iterdir()) == []


def test_gc_wants_to_know_how_long_requests_are_kept(tmp_path: Path) -> None:
    code, said = services.refused(services.environment(tmp_path), "gc")
    assert code == 2
    assert "--retention-days 30" in said


def test_a_running_service_deletes_what_is_older(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "FIRST_SECONDS", 0.0)
    over = threading.Event()
    keeping = threading.Thread(target=housekeeping.keep_house, args=(service, over))
    keeping.start()
    deadline = time.monotonic() + 10
    while ids(service.store) != {"req_new"}:
        assert time.monotonic() < deadline, "it was not deleted"
        time.sleep(0.01)
    over.set()
    keeping.join(10)
    assert not keeping.is_alive(), "it ends with the service"


def test_without_a_number_of_days_all_is_kept(service: Service) -> None:
    settings = service.settings.model_copy(update={"retention_days": 0.0})
    housekeeping.delete_what_expired(replace(service, settings=settings), threading.Event())
    assert ids(service.store) == {"req_old", "req_new"}

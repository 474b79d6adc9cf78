"""Engines of each kind with workers that are real processes, on one store."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pixmill import wiring
from pixmill.core.model import Request
from pixmill.core.webhooks import secret_text
from pixmill.ports import Engine
from pixmill.settings import load_settings
from tests import shop as shops
from tests.fleet import Fleet
from tests.receivers import SECRET


class Crew:
    """One engine on a store, and its workers: of this machine, unless a broker is named."""

    def __init__(self, data: Path, broker: str | None) -> None:
        self.data = data
        self._broker = broker
        self._given = {
            "data_dir": data,
            "engine": broker or "local",
            "allowed_addresses": "127.0.0.0/8",
            "webhook_secret": secret_text(SECRET),
            "lease_seconds": 3,
            "threads": 20,
        }
        settings = load_settings(self._given, {})
        self.store = wiring.open_store(settings)
        self.outbox = wiring.open_outbox(settings)
        self.blobs = wiring.open_blobs(settings)
        self.limits = wiring.sheet_limits(settings)
        self._fleet = Fleet(os.environ | settings.to_environment(), data / "workers.log")
        self._engine: Engine | None = None
        self._others: list[Crew] = []
        self._over = threading.Event()

    @property
    def engine(self) -> Engine:
        """The engine, once it was started."""
        assert self._engine
        return self._engine

    def start(self, workers: int) -> None:
        """Start an engine, unless one runs, and so many workers."""
        if self._broker:
            self._fleet.add(workers)
        if self._engine is None:
            settings = load_settings(self._given | {"workers": workers}, {})
            self._engine = wiring.engine(settings, self.store, self.outbox)
            self._engine.start()
            threading.Thread(target=self._look, args=(self._engine,), daemon=True).start()

    def another(self) -> Crew:
        """Another engine on the same store, in this process."""
        self._others.append(Crew(self.data, self._broker))
        return self._others[-1]

    def kill_a_worker(self) -> None:
        """Kill one of the workers without any farewell."""
        if self._broker:
            self._fleet.kill(self._fleet.workers[0])
        else:
            os.kill(shops.children_of(os.getpid(), named="pixmill worker")[0], signal.SIGKILL)

    def stop_workers(self) -> None:
        """Ask all workers to stop, and wait until they have."""
        if not self._broker:
            self.engine.stop(30)
            self._engine = None
        for worker in self._fleet.workers:
            worker.terminate()
        assert [worker.wait(40) for worker in self._fleet.workers] == [0] * len(self._fleet.workers)
        self._fleet.workers.clear()

    def finished(self, request: Request, timeout: float = 90) -> Request:
        """A request once it is terminal."""
        self.wait_until(lambda: self.store.request(request.id).status.terminal, "it ends", timeout)
        return self.store.request(request.id)

    def wait_until(self, holds: Callable[[], bool], what: str, timeout: float = 60) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + timeout
        while not holds():
            assert time.monotonic() < deadline, f"not yet: {what}\n{self._fleet.said()}"
            time.sleep(0.05)

    def close(self) -> None:
        """End everything."""
        for other in self._others:
            other.close()
        self._over.set()
        if self._engine:
            self._engine.stop(10)
        self._fleet.end()
        for kept in (self.store, self.outbox):
            kept.close()

    def _look(self, engine: Engine) -> None:
        while not self._over.wait(0.1) and engine is self._engine:
            engine.look()


@contextmanager
def crew_on(data: Path, broker: str | None) -> Iterator[Crew]:
    """A crew of which nothing is left at the end of the block."""
    crew = Crew(data, broker)
    try:
        yield crew
    finally:
        crew.close()

"""Real servers on loopback for applications, and what their callers need."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import uvicorn
from starlette.types import ASGIApp

from pixmill.core.access import Scope
from pixmill.settings import Settings
from pixmill.steps.keys import create_key
from pixmill.web.connections import GuardedConnection
from pixmill.web.service import Service
from pixmill.wiring import clock, open_access, open_blobs, open_outbox, open_store

CSV = b"Serial Number,Product Name,Input Image Urls\n1,Chair,https://example.com/a.jpg\n"


@contextmanager
def open_service(settings: Settings) -> Iterator[Service]:
    """A service on the store and the blobs that the settings name."""
    with (
        closing(open_store(settings)) as store,
        closing(open_access(settings)) as access,
        closing(open_outbox(settings)) as outbox,
    ):
        yield Service(settings, store, access, outbox, open_blobs(settings), clock)


@contextmanager
def serving(app: ASGIApp, connection: type[GuardedConnection] = GuardedConnection) -> Iterator[str]:
    """Serve an application until the end of the block; yields its base URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            app,
            http=connection,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=5,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        deadline = time.monotonic() + 30
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            assert time.monotonic() < deadline, "the server did not start in time"
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive(), "the server did not stop"


def new_key(service: Service, *scopes: str) -> dict[str, str]:
    """Make a key with these scopes; return the headers that show it."""
    wanted = [Scope(scope) for scope in scopes]
    _, text = create_key(service.access, "test", wanted, service.clock)
    return {"Authorization": f"Bearer {text}"}

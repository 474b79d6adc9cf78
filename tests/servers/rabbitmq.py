"""A RabbitMQ of the tests: one real node, whose state, cookie and name server are its own."""

from __future__ import annotations

import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.servers.ports import START_SECONDS, free_port, wait_until_it_answers
from tests.servers.processes import server_folder, start_process
from tests.servers.programs import program

USER = "guest"

CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{port}
management.tcp.ip = 127.0.0.1
management.tcp.port = {management}
disk_free_limit.absolute = 1MB
"""


class RabbitServer:
    """A node that can be stopped or killed, and started again with what it kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._management = free_port()
        self._names = free_port()
        self._node: subprocess.Popen[bytes] | None = None
        self._name_server: subprocess.Popen[bytes] | None = None

    def url(self, vhost: str = "%2F") -> str:
        """The URL of a virtual host of this server."""
        return f"amqp://{USER}:{USER}@127.0.0.1:{self.port}/{vhost}"

    def start(self) -> None:
        """Start it and wait until it takes calls: that takes about four seconds."""
        node = program("rabbitmq-server")
        self._configure()
        self._start_name_server()
        log = self.folder / "out"
        self._node = start_process([str(node)], log, self._environment())
        wait_until_it_answers(self.port, self._node, log)
        self._wait_until_managed()

    def stop(self) -> None:
        """End it in good order: that takes about six seconds."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, without any farewell."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Let it live, but do nothing."""
        assert self._node
        self._node.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._node
        self._node.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it for good, and what it needs to run."""
        self.kill()
        if self._name_server:
            self._name_server.kill()
            self._name_server.wait()

    @contextmanager
    def vhost(self) -> Iterator[str]:
        """The URL of an empty virtual host, removed at the end if the server still runs."""
        name = f"test-{uuid.uuid4().hex[:12]}"
        with self.admin() as admin:
            admin.put(f"/vhosts/{name}").raise_for_status()
            everything = {"configure": ".*", "write": ".*", "read": ".*"}
            admin.put(f"/permissions/{name}/{USER}", json=everything).raise_for_status()
            yield self.url(name)
            if self._node:
                admin.delete(f"/vhosts/{name}").raise_for_status()

    def admin(self) -> httpx.Client:
        """A client of the management API."""
        api = f"http://127.0.0.1:{self._management}/api"
        # No connection is kept, since the server may be killed and started between two calls.
        limits = httpx.Limits(max_keepalive_connections=0)
        return httpx.Client(base_url=api, auth=(USER, USER), timeout=30, limits=limits)

    def _configure(self) -> None:
        settings = CONFIGURATION.format(port=self.port, management=self._management)
        (self.folder / "rabbitmq.conf").write_text(settings)
        (self.folder / "plugins").write_text("[rabbitmq_management].\n")
        (self.folder / "environment").touch()

    def _start_name_server(self) -> None:
        """Give it an ``epmd`` of its own, which ends with the tests as it does."""
        if self._name_server and self._name_server.poll() is None:
            return
        command = [str(program("epmd")), "-address", "127.0.0.1", "-port", str(self._names)]
        log = self.folder / "names"
        self._name_server = start_process(command, log)
        wait_until_it_answers(self._names, self._name_server, log)

    def _environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.folder),  # where Erlang keeps its cookie
            "ERL_AFLAGS": "-start_epmd false",  # one that Erlang starts by itself is a daemon
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._names),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "environment"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_NODENAME": f"pixmilltests{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            # Its script then becomes the node instead of watching over it: one process to kill.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def _wait_until_managed(self) -> None:
        give_up = time.monotonic() + START_SECONDS
        with self.admin() as admin:
            while True:
                try:
                    admin.get("/overview").raise_for_status()
                except httpx.HTTPError:
                    assert time.monotonic() < give_up, (self.folder / "out").read_text()
                    time.sleep(0.05)
                else:
                    return

    def _end(self, sign: signal.Signals) -> None:
        if self._node:
            self._node.send_signal(sign)
            self._node.wait()
            self._node = None


@contextmanager
def rabbit_server() -> Iterator[RabbitServer]:
    """A server that was not started yet; it, its helpers and its folder are gone at the end."""
    with server_folder("rabbitmq") as folder:
        server = RabbitServer(folder)
        try:
            yield server
        finally:
            server.close()

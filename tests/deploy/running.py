"""The services of compose.yaml as plain processes: their commands are the file's own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.deploy.stack import DEPLOY, compose, image_environment, instruction
from tests.servers.ports import PORTS as PORTS_HERE
from tests.servers.ports import free_port, wait_until_it_answers
from tests.servers.processes import server_folder, start_process
from tests.servers.programs import program

PORTS = {"mongo": 27017, "redis": 6379, "s3": 8333, "api": 8000}
"""Where each container listens."""

INTERNAL = (9333, 8080, 8888)
"""Ports that the parts of the files' server have among themselves."""

FURTHER = 10_000

CONTAINERS = "172.16.0.0/12"
"""A network that the file believes its proxy to be in."""


class Stack:
    """Each container's name means this machine, each port a free one, each volume a folder."""

    def __init__(self, folder: Path, values: Mapping[str, str]) -> None:
        self.folder = folder
        self.ports = {port: _free_pair() for port in (*PORTS.values(), *INTERNAL)}
        self.services: dict[str, Any] = compose(values)["services"]
        self.more: dict[str, str] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def port(self, service: str) -> int:
        """Where a service listens here."""
        return self.ports[PORTS[service]]

    def start(self, service: str) -> subprocess.Popen[bytes]:
        """Start a service by its own command."""
        command = self._command(service, self.services[service]["command"])
        process = start_process(command, self.log(service), self._environment(service))
        self.processes[service] = process
        return process

    def wait_for(self, service: str) -> None:
        """Wait until a service that was started listens."""
        wait_until_it_answers(self.port(service), self.processes[service], self.log(service))

    def run(self, service: str, words: Sequence[str] | None = None) -> str:
        """Run a command in place of a service's own, or that, to its end; what it wrote."""
        command = self._command(service, words or self.services[service]["command"])
        done = subprocess.run(
            command,
            cwd=self.log(service).parent,
            env=os.environ | self._environment(service),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def log(self, service: str) -> Path:
        """What a service has written."""
        (self.folder / service).mkdir(exist_ok=True)
        return self.folder / service / "log"

    def stop(self, service: str) -> int:
        """Stop a service as the file allows it to be stopped; its exit code."""
        seconds = int(self.services[service]["stop_grace_period"].removesuffix("s"))
        self.processes[service].terminate()
        return self.processes[service].wait(seconds)

    def end(self) -> None:
        """Make sure that all processes are gone."""
        for process in reversed(self.processes.values()):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def configure_proxy(self, web_port: int) -> None:
        """Write the proxy's configuration for this machine; who may come in is not changed."""
        here = f"{{\n\thttp_port {web_port}\n\tdefault_bind 127.0.0.1\n"
        text = (DEPLOY / "Caddyfile").read_text().replace("{\n", here, 1)
        (self.folder / "Caddyfile").write_text(self.here(text))

    def here(self, text: str, volumes: Sequence[str] = ()) -> str:
        """A text of the file, with the addresses and folders of this machine."""
        names = "|".join(PORTS)
        text = re.sub(rf"\b({names})(?=:\d)|(?<=-ip=)\w+|\b0\.0\.0\.0\b", "127.0.0.1", text)
        text = text.replace(CONTAINERS, "127.0.0.0/8")
        numbers = "|".join(map(str, self.ports))
        text = re.sub(rf"\b({numbers})\b", lambda found: str(self.ports[int(found[0])]), text)
        for volume in volumes:
            source, _, target = volume.removesuffix(":ro").rpartition(":")
            folder = str(self.folder / (source or "data"))
            text = re.sub(rf"(?<![\w/]){re.escape(target)}(?![\w])", folder, text)
        return text

    def _command(self, service: str, words: Sequence[str]) -> list[str]:
        found = self.services[service]
        if "build" in found:  # then the image is ours
            words = [*instruction("ENTRYPOINT"), *words]
        words = [*found.get("entrypoint", ()), *words]
        return [self.here(word, found.get("volumes", ())) for word in words]

    def _environment(self, service: str) -> dict[str, str]:
        found = self.services[service]
        given = found.get("environment", {})
        if "build" in found:
            given = image_environment() | given
        given = {name: self.here(value, found.get("volumes", ())) for name, value in given.items()}
        home = str(self.log(service).parent)  # so that nothing is written to that of who tests
        image = {"PATH": _path(), "HOME": home, "XDG_DATA_HOME": home, "XDG_CONFIG_HOME": home}
        return image | given | (self.more if "build" in found else {})


@contextmanager
def stack(values: Mapping[str, str]) -> Iterator[Stack]:
    """A stack in which nothing runs yet; nothing is left of it at the end."""
    with server_folder("compose") as folder:
        made = Stack(folder, values)
        for name in ("mongo", "s3", "proxy", "data", "certificates"):
            (folder / name).mkdir()
        try:
            yield made
        finally:
            made.end()


def _free_pair() -> int:
    """A free port, the one that is 10,000 above being free too: SeaweedFS takes that as well."""
    while True:
        port = free_port()
        with socket.socket() as probe, suppress(OSError):
            if port + FURTHER in PORTS_HERE:
                probe.bind(("127.0.0.1", port + FURTHER))
                return port


def _path() -> str:
    """Where the programs of all images are."""
    programs = [program(name) for name in ("mongod", "redis-server", "weed", "caddy")]
    folders = [Path(sys.prefix) / "bin", *(found.parent for found in programs)]
    return os.pathsep.join([*map(str, folders), os.environ["PATH"]])

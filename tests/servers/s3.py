"""An S3 server of the tests: ``moto_server``, which keeps all in its memory."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import trustme

from tests.servers.ports import free_port, wait_until_it_answers
from tests.servers.programs import program

ACCESS_KEY = "pixmilltests"
SECRET_KEY = "notsosecretatall"  # noqa: S105  # of a server that lives as long as the tests

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running server, with TLS or without."""

    port: int
    scheme: str = "http"
    authority: Path | None = None

    @property
    def endpoint(self) -> str:
        """The URL of the server."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def bucket(self) -> str:
        """Make an empty bucket; return its name."""
        name = f"pixmill-{next(_numbers)}"
        self.client().create_bucket(Bucket=name)
        return name

    def client(self) -> Any:
        """A client that is not ours."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
            verify=str(self.authority) if self.authority else None,
        )


def s3_environment(endpoint: str) -> dict[str, str]:
    """The variables by which pixmill finds a server."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": "us-east-1",
    }


@contextmanager
def s3_server(folder: Path, *, tls: bool = False) -> Iterator[S3Server]:
    """Run a server, whose log goes to ``folder``; it is gone at the end."""
    port = free_port()
    server = S3Server(port, "https", folder / "ca.pem") if tls else S3Server(port)
    command = [str(program("moto_server")), "-H", "127.0.0.1", "-p", str(port)]
    if tls:
        command += _certificate(folder)
    with (folder / "s3.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_until_it_answers(port, process, folder / "s3.log")
        yield server
    finally:
        process.kill()
        process.wait()


def _certificate(folder: Path) -> list[str]:
    """Write a certificate of an authority of its own; return the flags that name it."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(str(folder / "server.pem"))
    issued.private_key_pem.write_to_path(str(folder / "server.key"))
    return ["-c", str(folder / "server.pem"), "-k", str(folder / "server.key")]

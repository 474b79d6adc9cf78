"""``pixmill serve`` starts with nothing, says where it is, and refuses what cannot be."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import trustme
from starlette.types import Receive, Scope, Send

from pixmill.cli.serve import BROKEN_OFF
from pixmill.settings import Settings
from tests import service as services
from tests.service import Serving
from tests.web.life import submitted
from tests.web.server import open_service, serving
from tests.web.waiting import wait_until

DATA = "data"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A service behind a proxy, which logs JSON."""
    folder = tmp_path_factory.mktemp("serve") / DATA
    env = services.environment(folder)
    assert services.refused(env, "keys", "create", "--name", "a")[0] == 0
    with services.serving(folder, log_format="json", trusted_proxies="127.0.0.1") as service:
        yield service


def test_it_needs_nothing_and_says_who_is_served_and_how_to_change_that(tmp_path: Path) -> None:
    with services.serving(tmp_path / DATA) as service:
        assert service.get("/health").status_code == 200
        assert service.stop() == 0
        said = service.said()
    assert f"pixmill listens on {service.url}" in said
    assert f"The data is in {tmp_path / DATA}; 1 worker;" in said
    assert "only this machine is served" in said
    assert "Not finished" not in said
    assert "pixmill keys create --name NAME" in said
    assert "INFO pixmill.calls: GET /health 200" in said
    assert "uvicorn" not in said
    assert "Traceback" not in said


def test_ctrl_c_ends_it_and_its_workers(tmp_path: Path) -> None:
    with services.serving(tmp_path / DATA) as service:
        assert service.get("/health").status_code == 200
        os.killpg(service.process.pid, signal.SIGINT)  # a terminal tells the whole group
        assert service.process.wait(30) == 0
        assert "Traceback" not in service.said()
        with pytest.raises(ProcessLookupError):
            os.killpg(service.process.pid, 0)


def test_a_key_ends_the_service_for_all_without_one_at_once(tmp_path: Path) -> None:
    with services.serving(tmp_path / DATA) as service:
        assert service.get("/api/requests").status_code == 200
        env = services.environment(tmp_path / DATA)
        made = subprocess.run(
            [sys.executable, "-m", "pixmill", "keys", "create", "--name", "a"],
            env=env, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert service.get("/api/requests").status_code == 401
        service.headers["Authorization"] = f"Bearer {made.stdout.strip()}"
        assert service.get("/api/requests").status_code == 200


def logged_calls(service: Serving, count: int) -> list[dict[str, object]]:
    """The first so many calls as they were logged, which is after they were answered."""
    deadline = time.monotonic() + 10
    while True:
        lines = [json.loads(line) for line in service.said().splitlines()]
        calls = [line for line in lines if line["logger"] == "pixmill.calls"]
        if len(calls) >= count:
            return calls
        assert time.monotonic() < deadline, "the calls are not logged"
        time.sleep(0.02)


def test_a_call_is_one_log_line_without_what_could_be_secret(served: Serving) -> None:
    secret = "pixmill_aaaaaaaaaaaaa_" + "b" * 52
    served.get(f"/api/requests?token=swordfish&x={secret}", headers={"X-API-Key": secret})
    served.get(f"/api/status/{secret}", headers={"X-Forwarded-For": "203.0.113.7"})
    served.get("/api/status/a%0AERROR%20forged")
    calls = logged_calls(served, 3)
    assert [call["path"] for call in calls[-3:]] == [
        "/api/requests",
        "/api/status/pixmill_aaaaaaaaaaaaa_…",
        "/api/status/a%0AERROR%20forged",
    ]
    assert calls[-2]["address"] == "203.0.113.7", "the proxy is trusted"
    assert calls[-3]["address"] == "127.0.0.1"
    assert {"method", "status", "milliseconds", "key"} <= set(calls[-1])
    assert "swordfish" not in served.said()
    assert "bbbb" not in served.said()


def test_a_proxy_that_is_not_named_is_not_believed(tmp_path: Path) -> None:
    with services.serving(tmp_path / DATA, log_format="json") as service:
        service.get("/health", headers={"X-Forwarded-For": "203.0.113.7"})
        assert logged_calls(service, 1)[0]["address"] == "127.0.0.1"


def test_https_with_a_certificate_of_ones_own(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(chain)
    issued.private_key_pem.write_to_path(key)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    with services.serving(tmp_path / DATA, tls_cert=chain, tls_key=key) as service:
        assert service.url.startswith("https://127.0.0.1:")
        answer = httpx.get(f"{service.url}/health", verify=trust, trust_env=False)
        assert answer.status_code == 200
        assert service.stop() == 0


def test_ipv6_is_named_in_brackets(tmp_path: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        if os.environ.get("CI"):
            pytest.fail("there is no IPv6 loopback")
        pytest.skip("this machine has no IPv6")
    with services.serving(tmp_path / DATA, host="::1") as service:
        assert service.url.startswith("http://[::1]:")
        assert service.get("/health").status_code == 200


def refused(data: Path, *flags: str, **settings: object) -> str:
    """What is said by a service that must not start."""
    code, err = services.refused(services.environment(data, **settings), "serve", *flags)
    assert code == 2, err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1, err
    return err


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_without_a_key_it_does_not_open_to_others(tmp_path: Path, host: str) -> None:
    err = refused(tmp_path / DATA, "--host", host, "--data-dir", str(tmp_path / DATA))
    assert "No API key exists" in err
    assert f"pixmill keys create --name NAME --data-dir {tmp_path / DATA}" in err


def test_without_a_key_it_does_not_open_to_others_through_a_proxy(tmp_path: Path) -> None:
    assert "PIXMILL_TRUSTED_PROXIES" in refused(tmp_path / DATA, trusted_proxies="127.0.0.1")


def test_with_a_key_it_opens_to_all(tmp_path: Path) -> None:
    env = services.environment(tmp_path / DATA)
    assert services.refused(env, "keys", "create", "--name", "a")[0] == 0
    with services.serving(tmp_path / DATA, host="0.0.0.0") as service:
        port = service.url.rpartition(":")[2]
        assert httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).status_code == 200
        assert "only this machine" not in service.said()
        assert "API keys are in use" in service.said()
        hint = f"URLs of stored images begin with {service.url}/api/files: set PIXMILL_PUBLIC_URL"
        assert hint in service.said(), "the name of this machine is a guess"
    env = {"host": "0.0.0.0", "public_url": "https://pixmill.example/api/files"}
    with services.serving(tmp_path / DATA, **env) as service:
        assert "PIXMILL_PUBLIC_URL" not in service.said().rpartition("listens on")[2]


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"listens on 127.0.0.1:{port} already" in refused(tmp_path / DATA, port=port)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"host": "no.such.host.invalid"}, "Cannot listen on 'no.such.host.invalid'"),
        ({"data_dir": "/proc/pixmill"}, "Cannot make the data folder /proc/pixmill: "),
        ({"data_dir": "/etc/hostname"}, "/etc/hostname is a file, not a folder."),
        ({"data_dir": "/etc/hostname/data"}, "/etc/hostname is a file, not a folder."),
        ({"blobs": "file:///proc/pixmill"}, "Cannot store .pixmill/started in /proc/pixmill: "),
        ({"port": 70000}, "PIXMILL_PORT"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_in_a_sentence(
    tmp_path: Path, settings: dict[str, object], said: str
) -> None:
    assert said in refused(tmp_path / DATA, **settings)


def test_what_was_not_finished_is_told_of_at_the_start(tmp_path: Path) -> None:
    with open_service(Settings(data_dir=tmp_path / DATA)) as before:
        submitted(before)
    with services.serving(tmp_path / DATA) as service:
        assert "Not finished yet: 1 request; work goes on." in service.said()


def test_on_a_terminal_a_call_is_a_short_line(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    env = services.environment(tmp_path / DATA)
    process = subprocess.Popen(
        [sys.executable, "-m", "pixmill", "serve"],
        env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout
        url = process.stdout.readline().strip()
        unknown = f"req_abcdef{'a' * 20}"
        assert httpx.get(f"{url}/api/status/{unknown}", trust_env=False).status_code == 404
        said = b""
        deadline = time.monotonic() + 30
        while b"GET /api" not in said or not said.endswith(b"\n"):
            assert time.monotonic() < deadline
            said += os.read(ours, 4096)
    finally:
        services.end(process)
        os.close(ours)
        os.close(theirs)
    call = next(line for line in said.decode().splitlines() if "GET /api" in line)
    line = r"\d\d:\d\d:\d\d GET /api/status/req_abcdef… 404 \d+\.\d ms 127\.0\.0\.1"
    assert re.fullmatch(line, call), call


def test_uploads_are_buffered_beside_the_data(tmp_path: Path) -> None:
    """Where there is room for them; /tmp may be memory."""
    env = services.environment(tmp_path / DATA)
    env.pop("TMPDIR", None)
    process = services.start(env, tmp_path / "log")
    try:
        service = services.wait_until_served(process, tmp_path / "log")
        address = urlsplit(service.url)
        head = (
            "POST /api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000000\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
            '--b\r\nContent-Disposition: form-data; name="csv"; filename="a.csv"\r\n\r\n'
        )
        with socket.create_connection((address.hostname or "", address.port or 0), 30) as half:
            half.sendall(head.encode() + b"x" * 4_000_000)
            wait_until(lambda: any_open(process.pid, tmp_path / DATA / ".pixmill" / "uploads"))
        assert not list((tmp_path / DATA / ".pixmill" / "uploads").iterdir())
    finally:
        services.end(process)


def any_open(pid: int, folder: Path) -> bool:
    """Whether a process has a file open in a folder."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            if link.readlink().is_relative_to(folder):
                return True
    return False


def test_an_answer_that_is_broken_off_is_told_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """uvicorn has words of its own for it, which are left out; this is what it says."""

    async def breaking(scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})

    with serving(breaking) as url, pytest.raises(httpx.RemoteProtocolError):
        httpx.get(url, trust_env=False)
    assert [record.msg for record in caplog.records if "uvicorn" in record.name] == [BROKEN_OFF]

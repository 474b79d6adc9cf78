"""``pixmill webhook``: the secret is shown and rotated; a receiver shows what arrives."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from pixmill import wiring
from pixmill.cli import main
from pixmill.core.webhooks import parse_secret, secret_text
from pixmill.settings import load_settings
from tests.service import environment
from tests.web.messages import OTHER, SECRET, message, signed

Webhook = Callable[..., tuple[int, str, str]]


@pytest.fixture
def webhook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Webhook:
    """``pixmill webhook …`` in this process, on the store in the test's folder."""

    def run(*arguments: str, **settings: str) -> tuple[int, str, str]:
        for name in [name for name in os.environ if name.startswith("PIXMILL_")]:
            monkeypatch.delenv(name)
        for name, value in {"data_dir": str(tmp_path), **settings}.items():
            monkeypatch.setenv(f"PIXMILL_{name.upper()}", value)
        monkeypatch.setattr(sys, "argv", ["pixmill", "webhook", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, captured.out, captured.err

    return run


def live(data: Path) -> list[str]:
    """The secrets that the store says are live, newest first."""
    with closing(wiring.open_outbox(load_settings({"data_dir": data}, {}))) as outbox:
        return [secret_text(secret) for secret in outbox.secrets(now=wiring.clock())]


# --- secret -----------------------------------------------------------------------------------


def test_the_secret_is_made_once_and_is_all_that_stands_on_standard_output(
    tmp_path: Path, webhook: Webhook
) -> None:
    code, out, err = webhook("secret")
    assert code == 0, err
    assert parse_secret(out.strip())
    assert out == f"{live(tmp_path)[0]}\n"
    assert out.strip() not in err
    assert webhook("secret")[1] == out


def test_a_rotated_secret_stays_live_for_as_long_as_is_asked(
    tmp_path: Path, webhook: Webhook
) -> None:
    first = webhook("secret")[1].strip()
    code, out, err = webhook("secret", "--rotate", "--keep-hours", "2")
    second = out.strip()
    assert (code, live(tmp_path)) == (0, [second, first])
    assert "stay live for 2 hours" in err
    assert "1 earlier one" in webhook("secret")[2]
    _, out, err = webhook("secret", "--rotate", "--keep-hours", "0")
    assert live(tmp_path) == [out.strip()]
    assert "are live no more" in err


def test_a_secret_that_is_set_is_the_one_and_is_rotated_where_it_is_set(
    tmp_path: Path, webhook: Webhook
) -> None:
    code, out, err = webhook("secret", webhook_secret=f"{OTHER} {SECRET}")
    assert (code, out) == (0, f"{OTHER}\n")
    assert "PIXMILL_WEBHOOK_SECRET" in err
    code, out, err = webhook("secret", "--rotate", webhook_secret=SECRET)
    assert (code, out) == (2, "")
    (suggested,) = re.findall(r"whsec_\S+", err)
    assert parse_secret(suggested) != parse_secret(SECRET)
    assert live(tmp_path) == []


# --- listen -----------------------------------------------------------------------------------


@dataclass
class Listening:
    """A receiver that runs."""

    process: subprocess.Popen[str]
    url: str
    said: str

    def send(self, body: bytes, headers: dict[str, str]) -> httpx.Response:
        return httpx.post(self.url, content=body, headers=headers, timeout=30, trust_env=False)

    def line(self) -> str:
        """The next line of its standard output."""
        assert self.process.stdout
        return self.process.stdout.readline()

    def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


@contextmanager
def listening(data: Path, *flags: str, **settings: object) -> Iterator[Listening]:
    """A receiver on a free port until the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pixmill", "webhook", "listen", "--port", "0", *flags],
        env=environment(data, **settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stderr
            said = ""
            while "--webhook-url" not in said:
                line = process.stderr.readline()
                assert line, said
                said += line
            found = re.search(r"http://127\.0\.0\.1:\d+/", said)
            assert found, said
            yield Listening(process, found[0], said)
        finally:
            process.kill()


def test_what_arrives_is_shown_with_its_counts_and_whether_it_is_believed(tmp_path: Path) -> None:
    body = message()
    with listening(tmp_path, "--secret", SECRET) as receiver:
        port = receiver.url.rpartition(":")[2].strip("/")
        assert f"PIXMILL_ALLOWED_ADDRESSES=127.0.0.1:{port} pixmill serve" in receiver.said
        assert SECRET not in receiver.said
        assert receiver.send(body, signed(body)).status_code == 204
        first, second = receiver.line(), receiver.line()
        assert "request.completed of req_4c7t2yqm5ghx3vd6w7ze2kbnoa" in first
        assert "COMPLETED, 1 of 2 images done, 1 failed" in first
        assert second.strip() == "verified; answered 204; msg_1"
        answer = receiver.send(body, signed(body, secret=OTHER))
        assert answer.status_code == 401
        assert "Not believed: No signature of the message" in receiver.line()
        assert receiver.line().strip() == "refused; answered 401; msg_1"
        assert receiver.send(b"[]", signed(b"[]")).status_code == 422
        assert "no message of pixmill" in receiver.line()


def test_programs_get_a_line_of_json_for_each_message(tmp_path: Path) -> None:
    body = message()
    with listening(tmp_path, "--json", "--status", "503", webhook_secret=SECRET) as receiver:
        for headers in (signed(body), signed(body, late=400), {}):
            receiver.send(body, headers)
        lines: list[dict[str, Any]] = [json.loads(receiver.line()) for _ in range(3)]
    assert [line["answered"] for line in lines] == [503, 401, 400]
    assert [line["verified"] for line in lines] == [True, False, False]
    assert [line["webhookId"] for line in lines] == ["msg_1", "msg_1", None]
    assert lines[0]["message"] == json.loads(body)
    assert lines[0]["refusal"] is None
    assert lines[1]["message"] is None
    assert "seconds ago" in lines[1]["refusal"]


def test_a_secret_that_is_rotated_meanwhile_is_known_at_once(
    tmp_path: Path, webhook: Webhook
) -> None:
    body = message()
    with listening(tmp_path) as receiver:
        for arguments in ((), ("--rotate", "--keep-hours", "0")):
            secret = webhook("secret", *arguments)[1].strip()
            assert receiver.send(body, signed(body, secret=secret)).status_code == 204


def test_bodies_without_a_length_or_too_long_are_not_read(tmp_path: Path) -> None:
    with listening(tmp_path, "--secret", SECRET) as receiver:
        assert receiver.send(b"x" * 1_000_001, {}).status_code == 413
        assert httpx.post(receiver.url, content=iter([b"x"]), trust_env=False).status_code == 411
        assert httpx.get(receiver.url, trust_env=False).status_code == 405


def test_nothing_that_arrives_can_give_orders_to_the_terminal(tmp_path: Path) -> None:
    body = message(requestId="req_\x1b[2J[bold]")
    with listening(tmp_path, "--secret", SECRET) as receiver:
        receiver.send(body, signed(body))
        line = receiver.line()
        assert "\x1b" not in line
        assert "[bold]" in line


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    with listening(tmp_path) as receiver:
        assert receiver.stop(number) == 0
        assert receiver.process.stderr
        assert receiver.process.stderr.read() == "Stopped.\n"


def test_a_port_that_is_taken_and_a_secret_that_is_none_are_refused(
    tmp_path: Path, webhook: Webhook
) -> None:
    with listening(tmp_path) as receiver:
        port = receiver.url.rpartition(":")[2].strip("/")
        code, _, err = webhook("listen", "--port", port)
        assert (code, "Choose another port with --port" in err) == (2, True)
    code, _, err = webhook("listen", "--port", "0", "--secret", "whsec_nonsense!")
    assert code == 2
    assert "A webhook secret is whsec_" in err
    assert "nonsense" not in err
    assert "Traceback" not in err

"""The commands that talk to a service, as people and scripts use them."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pixmill.cli import main
from pixmill.client import wire
from tests import service, shop
from tests.client import broken
from tests.service import Serving
from tests.shop import Shop


@pytest.fixture(scope="module")
def origin() -> Iterator[Shop]:
    """An open shop."""
    with shop.open_shop() as opened:
        opened.special["gone.jpg"] = lambda _: (404, b"")
        yield opened


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A real service without keys."""
    with service.serving(tmp_path_factory.mktemp("service") / "data") as running:
        yield running


@pytest.fixture
def held(origin: Shop) -> Iterator[threading.Event]:
    """The picture slow.jpg, which comes when the event is set, or at the end of the test."""
    event = threading.Event()

    def hold(_port: int) -> shop.Answer:
        event.wait(60)
        return 200, shop.PHOTOS[0]

    origin.special["slow.jpg"] = hold
    yield event
    event.set()


Pixmill = Callable[..., tuple[int, str, str]]


@pytest.fixture
def pixmill(monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Pixmill:
    """Run a command to its end in this process: exit code, standard output, standard error."""

    def run(url: str, *arguments: str, given: str = "", **settings: str) -> tuple[int, str, str]:
        for name in [name for name in os.environ if name.startswith("PIXMILL_")]:
            monkeypatch.delenv(name)
        for name, value in {"url": url, **settings}.items():
            monkeypatch.setenv(f"PIXMILL_{name.upper()}", value)
        monkeypatch.setattr(sys, "argv", ["pixmill", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsysbinary.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, captured.out.decode(), captured.err.decode()

    monkeypatch.setattr(wire, "FIRST_PAUSE", 0.01)
    return run


def environment(url: str) -> dict[str, str]:
    """The environment of a command that talks to a service."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PIXMILL_")}
    return clean | {"PIXMILL_URL": url}


def sheet(tmp_path: Path, origin: Shop, *names: str) -> Path:
    return shop.write_csv(tmp_path / "products.csv", [origin.url(name) for name in names])


def test_submit_prints_the_id_and_waits_if_asked(
    tmp_path: Path, origin: Shop, serving: Serving, pixmill: Pixmill
) -> None:
    path = sheet(tmp_path, origin, "1.jpg?1", "2.jpg?1")
    code, out, err = pixmill(serving.url, "submit", str(path), "--quality", "30")
    request_id = out.strip()
    assert (code, out) == (0, f"{request_id}\n")
    assert request_id.startswith("req_")
    assert "products.csv was accepted: 2 products, 2 images" in err
    assert f"pixmill status {request_id} --watch" in err

    target = tmp_path / "output.csv"
    code, out, err = pixmill(serving.url, "submit", str(path), "-o", str(target))
    assert (code, out.count("\n")) == (0, 1)
    assert "2 of 2 done" in err
    assert "% saved" in err
    assert str(target) in err
    with target.open(encoding="utf-8-sig") as file:
        assert all("/api/files/images/" in row[-1] for row in list(csv.reader(file))[1:])


def test_some_failed_is_exit_code_1_and_retry_tries_them_again(
    tmp_path: Path, origin: Shop, serving: Serving, pixmill: Pixmill
) -> None:
    origin.special["flaky.jpg"] = lambda _: (404, b"")
    path = sheet(tmp_path, origin, "1.jpg?2", "flaky.jpg")
    code, out, err = pixmill(serving.url, "submit", str(path), "--wait")
    request_id = out.strip()
    assert code == 1
    assert "1 http_error: the server refused or has no such file" in err
    assert f"pixmill retry {request_id} --wait" in err

    code, out, _ = pixmill(serving.url, "download", request_id, "--report", "errors", "-o", "-")
    assert code == 0
    assert "flaky.jpg" in out

    origin.special["flaky.jpg"] = lambda _: (200, shop.PHOTOS[3])
    code, _, err = pixmill(serving.url, "retry", request_id, "--wait")
    assert code == 0
    assert "1 image will be tried again" in err
    code, _, err = pixmill(serving.url, "retry", request_id)
    assert (code, "nothing to try again" in err) == (0, True)


def test_a_refused_csv_is_told_like_pixmill_run_does(
    tmp_path: Path, serving: Serving, pixmill: Pixmill
) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("Serial Number,Product Name,Input Image Urls\n1,,https://shop.example/a.jpg\n")
    code, out, err = pixmill(serving.url, "submit", str(path))
    assert (code, out) == (2, "")
    assert err.startswith("bad.csv was not accepted: 1 problem.\n  line 2, column Product Name: ")
    lines = path.read_text() + "2,B,https://127.0.0.1:1/b.jpg\n"
    code, out, err = pixmill(
        serving.url, "submit", "-", "--invalid-rows", "skip", "--idempotency-key", "k1", given=lines
    )
    assert code == 0
    assert "Left out, because of what is wrong with them: 1 row." in err
    again = pixmill(
        serving.url, "submit", "-", "--invalid-rows", "skip", "--idempotency-key", "k1", given=lines
    )
    assert again[1] == out


def test_status_shows_one_request_or_lists_them(
    tmp_path: Path, origin: Shop, serving: Serving, pixmill: Pixmill
) -> None:
    path = sheet(tmp_path, origin, "1.jpg?3", "gone.jpg?3")
    request_id = pixmill(serving.url, "submit", str(path), "--wait")[1].strip()
    code, out, _ = pixmill(serving.url, "status", request_id)
    assert code == 0
    for words in (request_id, "products.csv", "COMPLETED, 100 %", "1 of 2 done", "1 http_error"):
        assert words in out
    code, out, _ = pixmill(serving.url, "status", request_id, "--json")
    assert (code, json.loads(out)["failedImages"]) == (0, 1)
    code, out, _ = pixmill(serving.url, "status", request_id, "--watch", "--json")
    assert (code, [json.loads(line)["status"] for line in out.splitlines()]) == (1, ["COMPLETED"])
    code, out, _ = pixmill(serving.url, "status")
    assert (code, out.splitlines()[1].split()[:3]) == (0, [request_id, "COMPLETED", "100"])
    listed = json.loads(pixmill(serving.url, "status", "--json")[1])
    assert listed[0]["requestId"] == request_id


def test_a_download_before_the_end_says_how_far_it_is(
    tmp_path: Path, origin: Shop, serving: Serving, held: threading.Event, pixmill: Pixmill
) -> None:
    path = sheet(tmp_path, origin, "1.jpg?4", "slow.jpg?4")
    request_id = pixmill(serving.url, "submit", str(path))[1].strip()
    target = tmp_path / "output.csv"
    code, _, err = pixmill(serving.url, "download", request_id, "-o", str(target))
    assert code == 2
    assert f"{request_id} has not finished" in err
    assert "of 2 images" in err
    assert f"pixmill status {request_id} --watch" in err
    assert "--partial" in err
    assert not target.exists()
    assert pixmill(serving.url, "download", request_id, "-o", str(target), "--partial")[0] == 0
    assert target.exists()
    code, _, err = pixmill(serving.url, "cancel", request_id)
    assert code == 0
    assert f"{request_id} is cancelled" in err
    code, _, err = pixmill(serving.url, "cancel", request_id)
    assert (code, "nothing to cancel" in err) == (2, True)
    held.set()
    archive = tmp_path / "images.zip"
    code, out, _ = pixmill(serving.url, "download", request_id, "--images", "-o", str(archive))
    assert (code, out) == (0, f"{archive}\n")
    assert archive.read_bytes().startswith(b"PK")


def test_delete_asks_or_wants_a_yes(
    tmp_path: Path, origin: Shop, serving: Serving, pixmill: Pixmill
) -> None:
    path = sheet(tmp_path, origin, "1.jpg?5")
    request_id = pixmill(serving.url, "submit", str(path), "--wait")[1].strip()
    code, _, err = pixmill(serving.url, "delete", request_id)
    assert (code, "--yes" in err) == (2, True)
    assert pixmill(serving.url, "status", request_id)[0] == 0
    assert pixmill(serving.url, "delete", request_id, "--yes")[0] == 0
    code, _, err = pixmill(serving.url, "status", request_id)
    assert code == 2
    assert f"There is no request '{request_id}'. `pixmill status` lists your requests." in err


def test_ctrl_c_while_waiting_leaves_the_request_running(
    tmp_path: Path, origin: Shop, serving: Serving, held: threading.Event
) -> None:
    path = sheet(tmp_path, origin, "1.jpg?6", "slow.jpg?6")
    process = subprocess.Popen(
        [sys.executable, "-m", "pixmill", "submit", str(path), "--wait", "--url", serving.url],
        env=environment("http://unused"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    request_id = process.stdout.readline().strip()
    assert process.stderr
    assert "was accepted" in process.stderr.readline()
    assert "images" in process.stderr.readline()  # it waits by now
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    again = f"pixmill status {request_id} --watch --url {serving.url}"
    assert f"{request_id} goes on without you. Watch it with: {again}" in err
    assert "Traceback" not in err
    held.set()
    assert serving.finished(request_id)["processedImages"] == 2


def test_a_terminal_gets_a_bar(tmp_path: Path, origin: Shop, serving: Serving) -> None:
    path = sheet(tmp_path, origin, *[f"{number}.jpg?7" for number in range(12)])
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pixmill", "submit", str(path), "--wait"],
        env=environment(serving.url) | {"TERM": "xterm", "COLUMNS": "100"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end has closed: the way of terminals
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    assert process.wait(60) == 0
    assert "━" in shown.decode()
    assert b"12/12" in shown
    assert b"12 of 12 done" in shown


@pytest.mark.parametrize(
    "arguments", [("status",), ("download", "req_1"), ("cancel", "req_1")], ids=lambda a: a[0]
)
def test_a_service_that_is_away_is_said_with_what_to_do(
    arguments: tuple[str, ...], pixmill: Pixmill
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    code, out, err = pixmill(f"http://127.0.0.1:{port}", *arguments)
    assert (code, out) == (2, "")
    assert err == (
        f"pixmill: No pixmill service answers at http://127.0.0.1:{port}: the connection was"
        " refused. Is `pixmill serve` running there? Another address can be given as PIXMILL_URL"
        " or --url.\n"
    )


def test_something_else_that_answers_is_told_apart(pixmill: Pixmill) -> None:
    page = broken.answer("200 OK", "<h1>Hello</h1>", "text/html")
    with broken.server(page) as other:
        code, _, err = pixmill(other.url, "status")
    assert (code, "is not a pixmill service" in err) == (2, True)


def test_a_missing_a_wrong_and_a_weak_key_are_told_apart(
    tmp_path: Path, origin: Shop, pixmill: Pixmill
) -> None:
    data = tmp_path / "data"
    keys = {}
    for scope in ("read", "submit"):
        done = subprocess.run(
            [sys.executable, "-m", "pixmill", "keys", "create", "--name", scope, "--scope", scope],
            env=service.environment(data),
            capture_output=True,
            text=True,
            check=True,
        )
        keys[scope] = done.stdout.strip().splitlines()[-1]
    path = str(sheet(tmp_path, origin, "1.jpg"))
    with service.serving(data) as running:
        for settings, words in (
            ({}, "wants an API key. Set PIXMILL_API_KEY"),
            ({"api_key": f"{keys['submit'][:-1]}!"}, "does not accept this API key"),
            ({"api_key": keys["read"]}, "needs a key with the scope 'submit'"),
        ):
            code, out, err = pixmill(running.url, "submit", path, **settings)
            assert (code, out) == (2, "")
            assert words in err
            assert not any(key in err for key in keys.values())
        code, out, err = pixmill(running.url, "submit", path, api_key=keys["submit"])
        assert (code, out.startswith("req_")) == (0, True), err


def test_a_key_sent_in_plain_text_over_the_network_is_warned_of(pixmill: Pixmill) -> None:
    """A name that leads nowhere is no loopback address, as far as anybody can tell."""
    code, _, err = pixmill("http://pixmill.invalid", "cancel", "req_1", api_key="pixmill_a_b")
    assert code == 2
    assert "Warning: The API key goes over the network in plain text" in err
    assert "pixmill_a_b" not in err
    _, _, err = pixmill("http://127.0.0.1:1", "cancel", "req_1", api_key="pixmill_a_b")
    assert "Warning" not in err


def test_what_cannot_work_is_refused_before_anything_is_sent(
    tmp_path: Path, origin: Shop, pixmill: Pixmill
) -> None:
    path = str(sheet(tmp_path, origin, "1.jpg"))
    nobody = "http://127.0.0.1:1"
    for arguments, words in (
        (("submit", path, "-o", path), "would be overwritten"),
        (("submit", path, "-o", str(tmp_path / "no" / "o.csv")), "There is no folder"),
        (("submit", path, "--quality", "0"), "'quality' must be a whole number"),
        (("submit", str(tmp_path / "none.csv")), "does not exist"),
        (("status", "--watch"), "--watch needs the ID"),
        (("download", "req_1", "--images", "--report", "errors"), "Choose one"),
    ):
        code, _, err = pixmill(nobody, *arguments)
        assert (code, words in err) == (2, True), err
        assert "No pixmill service" not in err

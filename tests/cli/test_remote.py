"""The commands that talk to a service, as people and scripts use them."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pixmill.cli import main
from pixmill.cli.handover import Handover
from pixmill.client import wire
from pixmill.core.advice import ADVICE
from pixmill.core.errors import ImageErrorCode
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
        (("status", "req"), "begins with req_. `pixmill status` lists your requests."),
        (("delete", "req_1"), "confirm it with --yes"),
        (("gc",), "Requests are kept for ever"),
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
        assert ("Usage:" in err) == ("--watch" in err or "Choose" in err or "not exist" in err)


def on_a_terminal(
    env: dict[str, str], *arguments: str, columns: int = 80, until: str = "", then: object = None
) -> tuple[int, str]:
    """Exit code of a command on a terminal, and all that it wrote.

    Once it has written ``until``, ``then`` is called.
    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pixmill", *arguments],
        env=env | {"TERM": "xterm", "COLUMNS": str(columns)},
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
        if callable(then) and until.encode() in shown:
            then()
            then = None
    os.close(ours)
    return process.wait(60), re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())


STEPS = {
    "requestId": "req_1",
    "status": "PROCESSING",
    "processedImages": 1,
    "failedImages": 0,
    "totalImages": 4,
    "completionPercentage": 25,
    "updatedAt": "2026-11-22T06:00:00Z",
    "filename": f"{'spring-catalogue-' * 8}.csv",
    "totalProducts": 4,
    "errorMessage": None,
    "createdAt": "2026-11-22T06:00:00Z",
    "finishedAt": None,
    "products": [],
    "nextCursor": None,
}


@pytest.mark.parametrize("terminal", [True, False])
def test_a_service_that_goes_away_is_said_while_it_is_waited_for(*, terminal: bool) -> None:
    standing = broken.answer("200 OK", json.dumps(STEPS))
    gone = broken.answer("404 Not Found")
    with broken.server(gone, standing, *[broken.cut] * 6, gone) as away:
        env = environment(away.url)
        if terminal:
            code, shown = on_a_terminal(env, "status", "req_1", "--watch")
        else:
            code, shown = service.refused(env, "status", "req_1", "--watch")
    assert code == 2
    assert "service away, trying again (" in shown
    drawn = [line for line in shown.replace("\r", "\n").splitlines() if "service away" in line]
    assert not any("images/s" in line or "-:--" in line for line in drawn)
    assert all(len(line) <= 80 for line in drawn)


def test_the_list_fits_on_a_terminal_and_is_whole_elsewhere(pixmill: Pixmill) -> None:
    one = {name: value for name, value in STEPS.items() if name not in {"products", "nextCursor"}}
    one |= {"requestId": f"req_{'a' * 26}", "totalImages": 1_000_000, "failedImages": 123_456}
    page = broken.answer("200 OK", json.dumps({"requests": [one], "nextCursor": None}))
    with broken.server(page) as other:
        code, shown = on_a_terminal(environment(other.url), "status")
        whole = pixmill(other.url, "status")[1]
    assert code == 0
    lines = shown.splitlines()
    assert len(lines) == 2
    assert all(len(line) <= 80 for line in lines)
    assert str(one["requestId"]) in lines[1]
    assert "spr" in lines[1]
    assert whole.splitlines()[1].endswith(str(one["filename"]))
    assert "2026-11-22" in whole


def test_a_large_csv_on_its_way_shows_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixmill: Pixmill
) -> None:
    """The service takes its time to read, and then to answer."""
    sheet = tmp_path / "large.csv"
    with sheet.open("wb") as file:
        file.truncate(1_000_000)
    told = threading.Event()

    def ponder(connection: socket.socket) -> None:
        told.wait(20)
        connection.sendall(broken.answer("401 No"))

    with broken.server(ponder) as slow:
        code, shown = on_a_terminal(
            environment(slow.url),
            "submit",
            str(sheet),
            until="is being checked (1 s",
            then=told.set,
        )
        assert code == 2
        assert "large.csv is being checked (1 s)" in shown
    monkeypatch.setattr("pixmill.cli.handover.LINE_SECONDS", 0.2)
    told.clear()
    threading.Timer(2, told.set).start()
    with broken.server(ponder) as slow:
        err = pixmill(slow.url, "submit", str(sheet))[2]
    way = Handover("large.csv")
    way.sent(10_000_000, 40_000_000)
    assert way.words == "Handing over large.csv: 10.0 MB of 40.0 MB (25 %)"
    assert "large.csv is being checked (1 s)" in err.splitlines()


def test_what_the_service_calls_a_form_field_is_a_flag_here(
    tmp_path: Path, serving: Serving, pixmill: Pixmill
) -> None:
    path = tmp_path / "odd.csv"
    path.write_text("Bild,Text\nhttps://shop.example/a.jpg,A\n")
    code, _, err = pixmill(serving.url, "submit", str(path))
    assert code == 2
    assert "--serial-col" in err
    assert "form field" not in err
    path.write_text("Serial Number,Product Name,Input Image Urls\n1,A,/srv/a.jpg\n")
    _, _, err = pixmill(serving.url, "submit", str(path))
    assert "with `pixmill run` only" in err
    refusal = {"type": "x", "title": "No", "status": 400, "code": "invalid_call"}
    refusal["detail"] = "The form field 'urlSeparator' may have 100 characters."
    with broken.server(broken.answer("400 No", json.dumps(refusal))) as other:
        _, _, err = pixmill(other.url, "submit", str(path))
    assert err == "pixmill: --url-separator may have 100 characters.\n"


def test_what_is_wrong_with_many_rows_alike_is_said_once(
    tmp_path: Path, serving: Serving, pixmill: Pixmill
) -> None:
    path = tmp_path / "many.csv"
    rows = [",,https://shop.example/a.jpg"] * 300
    path.write_text("\n".join(["Serial Number,Product Name,Input Image Urls", *rows]) + "\n")
    _, _, err = pixmill(serving.url, "submit", str(path))
    assert pixmill(serving.url, "run", str(path), "-o", str(tmp_path / "out"))[2] == err
    lines = err.splitlines()
    assert len(lines) == 4
    assert lines[1].startswith("  50 rows, column ")
    assert lines[1].endswith(" (lines 2, 3, 4, 5, 6, …)")
    assert lines[3] == "  … and 500 more."


def test_failures_come_with_advice_and_retry_is_offered_only_where_it_can_help(
    tmp_path: Path, origin: Shop, serving: Serving, pixmill: Pixmill
) -> None:
    origin.special["page.jpg"] = lambda _: (200, b"<!doctype html><title>Sign in</title>")
    code, _, err = pixmill(
        serving.url, "submit", str(sheet(tmp_path, origin, "page.jpg?8")), "--wait"
    )
    assert (code, "Use the address of the picture itself" in err) == (1, True)
    assert "pixmill retry" not in err
    assert "speed" not in err, "nothing was done"
    code, out, err = pixmill(
        serving.url, "submit", str(sheet(tmp_path, origin, "gone.jpg?8", "1.jpg?8")), "--wait"
    )
    assert f"        {ADVICE[ImageErrorCode.HTTP_ERROR].what_to_do}\n" in err
    shown = on_a_terminal(environment(serving.url), "status", out.strip())[1]
    advice = shown.partition("http_error")[2].partition("size ")[0].splitlines()[1:]
    assert len(advice) == 2, "folded"
    assert all(line.startswith("        ") and len(line) <= 80 for line in advice)
    assert f"pixmill retry {out.strip()} --wait" in err
    assert "speed" in err
    _, _, err = pixmill(serving.url, "retry", out.strip(), "--wait")
    assert "speed" not in err, "it would count from the first submit"


def test_a_download_is_told_in_one_line_and_a_script_gets_the_path(
    tmp_path: Path, origin: Shop, serving: Serving, pixmill: Pixmill
) -> None:
    path = sheet(tmp_path, origin, "1.jpg?9")
    request_id = pixmill(serving.url, "submit", str(path), "--wait")[1].strip()
    target = str(tmp_path / "output.csv")
    code, out, err = pixmill(serving.url, "download", request_id, "-o", target)
    assert (code, out) == (0, f"{target}\n")
    assert re.fullmatch(rf"saved {target}, [0-9]+ B\n", err)
    _, shown = on_a_terminal(
        environment(serving.url), "download", request_id, "-o", target, columns=200
    )
    assert re.sub(r"Fetching …|[^\x20-\x7e\n]", "", shown).strip().startswith("saved ")
    assert shown.count(target) == 1

"""``pixmill health``: what a container's health check sees."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests import service
from tests.client import broken


def health(url: str, *flags: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of the command."""
    done = subprocess.run(
        [sys.executable, "-m", "pixmill", "health", "--url", url, *flags],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.strip(), done.stderr.strip()


def test_a_service_is_healthy_and_ready_until_it_is_gone(tmp_path: Path) -> None:
    with service.serving(tmp_path / "data") as serving:
        assert health(serving.url) == (0, "ok", "")
        assert health(serving.url, "--ready") == (0, "ok", "")
    code, out, err = health(serving.url)
    assert (code, out) == (1, "")
    assert "the connection was refused" in err


def test_a_service_that_lives_but_cannot_work_is_not_ready() -> None:
    body = '{"status": "unavailable", "checks": {"store": "It is away.", "blobs": "ok"}}'
    with broken.server(broken.answer("503 Service Unavailable", body)) as unready:
        assert health(unready.url, "--ready") == (1, "unavailable", "store: It is away.")
        assert unready.paths() == ["GET /ready"]


def test_what_is_no_pixmill_is_not_healthy() -> None:
    with broken.server(broken.answer("200 OK", "<html>", "text/html")) as other:
        code, out, err = health(other.url)
    assert (code, out) == (1, "")
    assert "is not a pixmill service" in err
    with broken.server(broken.answer("404 Not Found")) as other:
        code, _, err = health(other.url)
    assert code == 1
    assert "it answers 404 to /health" in err

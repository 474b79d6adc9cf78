"""The README tells the truth: its walk through the life of a request is executed as it stands."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from tests.service import end, serving, wait_until_served
from tests.shop import PHOTOS, open_shop, write_csv

README = Path(__file__).parent.parent / "README.md"
EXAMPLE = README.parent / "examples" / "serve_catalogue.py"
WRITTEN_URL = "http://127.0.0.1:8000"


def walk() -> list[str]:
    """The shell commands of the section on the service, without those that start it."""
    section = README.read_text().split("\n## Run it as a service\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    assert blocks[0].strip() == "make serve-sample"
    assert blocks[1].strip() == ". .venv/bin/activate && cd sample"
    return blocks[2:]


class Lost:
    """A picture that is missing when it is asked for first; later it comes, but slowly."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, _port: int) -> tuple[int, bytes]:
        self.asked += 1
        if self.asked == 1:
            return 404, b""
        time.sleep(1)  # so that there is a retry to be cancelled
        return 200, PHOTOS[0]


@pytest.mark.skipif(shutil.which("curl") is None, reason="the walk-through is written for curl")
def test_the_walk_through_works_as_it_is_written(tmp_path: Path) -> None:
    data, here = tmp_path / "data", tmp_path / "here"
    here.mkdir()
    with open_shop() as shop, serving(data) as service:
        shop.special["lost.jpg"] = Lost()
        write_csv(here / "products.csv", [shop.url(f"{n}.jpg") for n in range(4)])
        with (here / "products.csv").open("a") as csv:
            csv.write(f"99,Lost,{shop.url('lost.jpg')}\n")
        script = "\n".join(["set -euo pipefail", *walk()]).replace(WRITTEN_URL, service.url)
        script = script.replace("curl -fsS", "curl --noproxy '*' -fsS")
        script = script.replace("curl -sS", "curl -sS --fail-with-body --noproxy '*' -w '\\n'")
        (here / "walk.sh").write_text(script)
        env = {name: text for name, text in os.environ.items() if not name.startswith("PIXMILL_")}
        env |= {"PIXMILL_DATA_DIR": str(data), "PIXMILL_URL": service.url}
        env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
        done = subprocess.run(
            ["bash", "walk.sh"],
            cwd=here,
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert len(zipfile.ZipFile(here / "images.zip").namelist()) == 6, "all images and the CSV"
    assert (here / "output.csv").read_text().count("/api/files/") == 5
    assert "lost.jpg,http_error," in (here / "errors.csv").read_text()
    assert (here / "0000001.jpg").read_bytes().startswith(b"\xff\xd8")


def test_the_sample_service_may_fetch_the_pictures_of_its_own_sheet(tmp_path: Path) -> None:
    env = {name: text for name, text in os.environ.items() if not name.startswith("PIXMILL_")}
    log, folder = tmp_path / "log", tmp_path / "sample"
    with log.open("w") as said:
        process = subprocess.Popen(
            [sys.executable, EXAMPLE, "--folder", folder, "--port", "0", "--workers", "1"],
            env=env,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            start_new_session=True,
        )
    try:
        assert process.stdout
        assert "products.csv names the pictures" in process.stdout.readline()
        service = wait_until_served(process, log)
        request = service.finished(service.accepted(folder / "products.csv"))
        assert (request["status"], request["failedImages"]) == ("COMPLETED", 3)
        assert (folder / "pixmill-data" / "pixmill.db").exists(), "where `pixmill keys` looks"
    finally:
        end(process)
    assert process.returncode == 0, "Ctrl-C and SIGTERM reach the service"

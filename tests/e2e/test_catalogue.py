"""The sample catalogue, from its CSV to the report: what we promise, on real photographs."""

from __future__ import annotations

import csv
import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
import simplejpeg
from numpy.typing import NDArray

from tests.io.pictures import pixels
from tests.shop import check_database

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "run_catalogue.py"
CATALOGUE = ROOT / "examples" / "catalogue"
SHOP = "http://127.0.0.1:8188/"
FAILURES = {
    "board-underside.jpg": "http_error",
    "bricks-garbage.jpg": "corrupt_image",
    "gravel-sign-in.jpg": "not_an_image",
}
NOTICES = {
    "cushion-thumb.jpg": "kept_original",
    "gravel-spin.gif": "first_frame_only",
    "tripod-cut-short.jpg": "damaged",
}
# SMPTE EG 432-1 and IEC 61966-2-1: light in P3 primaries to light in those of sRGB, both D65.
P3_TO_SRGB = np.array(
    [[1.2249, -0.2249, 0.0], [-0.0420, 1.0420, 0.0], [-0.0197, -0.0786, 1.0983]],
)


@dataclass(frozen=True)
class Run:
    """A finished run of the script: its exit code, what it wrote, and its folder."""

    code: int
    said: str
    out: Path

    @property
    def rows(self) -> list[list[str]]:
        """The rows of the output CSV, with the URLs as the sample has them."""
        return [
            [re.sub(r"http://127\.0\.0\.1:\d+/", SHOP, cell) for cell in row]
            for row in read(self.out / "output.csv")
        ]

    @property
    def output_of(self) -> dict[str, str]:
        """The output URL of each picture, by the name of its source; blank if it failed."""
        return {
            url.rpartition("/")[2]: output
            for row in self.rows[1:]
            for url, output in zip(links(row[4]), row[5].split(","), strict=True)
        }

    def result(self, name: str) -> bytes:
        """The stored picture of a source."""
        return (self.out / self.output_of[name]).read_bytes()

    def facts(self, columns: str) -> dict[str, Any]:
        """Columns of the images' records, by the name of the source."""
        db = check_database(self.out)
        found = db.execute(f"SELECT url, {columns} FROM images").fetchall()  # noqa: S608  # ours
        db.close()
        return {url.rpartition("/")[2]: values for url, *values in found}


def read(path: Path) -> list[list[str]]:
    """The rows of a CSV."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.reader(file))


def links(cell: str) -> list[str]:
    """The URLs of a cell; a comma belongs to the URL unless another one follows it."""
    return re.split(r",(?=http)", cell)


def source(name: str) -> bytes:
    """A picture of the catalogue."""
    return next((CATALOGUE / "images").rglob(name)).read_bytes()


def start(out: Path, *flags: str) -> subprocess.Popen[str]:
    """Start the script as a terminal would: in a process group of its own."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PIXMILL_")}
    out.parent.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), "--out", str(out), *flags],
        cwd=out.parent,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], out: Path) -> Run:
    """Wait for the script."""
    try:
        said, _ = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return Run(process.returncode, said, out)


def play(out: Path, *flags: str) -> Run:
    """The script from start to end."""
    return finish(start(out, *flags), out)


@contextmanager
def the_only_shop() -> Iterator[None]:
    """Keep test runs beside this one off the sample shop's port until the end of the block."""
    path = Path(tempfile.gettempdir()) / f"pixmill-sample-shop-{os.getuid()}.lock"
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One run that most tests look at."""
    with the_only_shop():
        return play(tmp_path_factory.mktemp("catalogue") / "out")


@pytest.fixture
def alone() -> Iterator[None]:
    """For tests that run the script themselves."""
    with the_only_shop():
        yield


def difference(one: NDArray[Any], other: NDArray[Any]) -> float:
    """How far two pictures are apart, in steps of 8 bits, on average."""
    assert one.shape == other.shape
    return float(np.abs(one.astype(float) - other.astype(float)).mean())


def encoded(light: NDArray[Any]) -> NDArray[Any]:
    """Linear light (0 to 1) as 8-bit sRGB (IEC 61966-2-1)."""
    light = light.clip(0, 1)
    curved = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(255 * curved)


def linear(values: NDArray[Any]) -> NDArray[Any]:
    """8-bit values under the sRGB curve as linear light."""
    share = values / 255.0
    return np.asarray(np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4))


# ---- the catalogue itself


def test_the_sample_names_only_the_sample_shop() -> None:
    """No path of anybody's machine is in the sheet, and every row is as long as the header."""
    rows = read(CATALOGUE / "products.csv")
    urls = [url for row in rows[1:] for url in links(row[4])]
    assert rows[0] == ["Serial Number", "Product Name", "Category", "Price", "Input Image Urls"]
    assert {len(row) for row in rows} == {5}
    assert all(url.startswith(SHOP) for url in urls)
    assert len(rows) > 12
    assert len(urls) >= 30


def test_notice_names_the_origin_of_every_picture() -> None:
    """Each file of the catalogue belongs to a family of names that NOTICE credits."""
    credited = set(re.findall(r"(\w+)-\*", (ROOT / "NOTICE").read_text()))
    names = [path.name for path in (CATALOGUE / "images").rglob("*") if path.is_file()]
    assert {name.partition("-")[0] for name in names} == credited


# ---- the run and its sheets


def test_the_broken_pictures_do_not_fail_the_sample(ran: Run) -> None:
    """The script ends well and says why some images failed."""
    assert ran.code == 0, ran.said
    assert "3 images failed, as they should" in ran.said
    assert "Traceback" not in ran.said


def test_the_output_has_every_row_and_column_in_order(ran: Run) -> None:
    """The output CSV is the input with one more column."""
    assert ran.rows[0][-1] == "Output Image Urls"
    assert [row[:-1] for row in ran.rows] == read(CATALOGUE / "products.csv")


def test_output_positions_match_the_input_and_are_blank_where_an_image_failed(ran: Run) -> None:
    """A blank stands at the place of each failure and nowhere else."""
    for row in ran.rows[1:]:
        names = [url.rpartition("/")[2] for url in links(row[4])]
        outputs = row[5].split(",")
        assert len(outputs) == len(names)
        for name, output in zip(names, outputs, strict=True):
            assert (output == "") == (name in FAILURES)
            assert not output or (ran.out / output).is_file()


def test_each_failure_is_listed_with_its_code(ran: Run) -> None:
    """errors.csv has the missing, the garbage and the web page, and nothing else."""
    header, *lines = read(ran.out / "errors.csv")
    found = [dict(zip(header, line, strict=True)) for line in lines]
    codes = {line["Input Image Url"].rpartition("/")[2]: line["Error Code"] for line in found}
    assert len(found) == len(FAILURES)
    assert codes == FAILURES
    assert all(line["Error Message"] for line in found)
    assert {line["Attempts"] for line in found} == {"1"}


def test_a_picture_of_several_products_is_fetched_once(ran: Run) -> None:
    """The shop was asked for each distinct URL once, and both products name one output."""
    urls = [url for row in ran.rows[1:] for url in links(row[4])]
    assert len(set(urls)) < len(urls)
    assert f"asked for {len(set(urls))} files" in ran.said
    outputs: dict[str, set[str]] = {}
    for row in ran.rows[1:]:
        for url, output in zip(links(row[4]), row[5].split(","), strict=True):
            outputs.setdefault(url, set()).add(output)
    assert all(len(named) == 1 for named in outputs.values())


def test_a_url_with_commas_in_its_path_stays_whole(ran: Run) -> None:
    """The comma of /w_600,h_900/ separates nothing."""
    assert f"{SHOP}images/w_600,h_900/shuttle-side.jpg" in links(ran.rows[11][4])
    assert pixels(ran.result("shuttle-side.jpg")).shape == (900, 600, 3)


# ---- the pictures


def test_every_output_is_a_jpeg_of_the_source_s_size(ran: Run) -> None:
    """All stored pictures decode, with as many pixels as their source has upright."""
    sizes = ran.facts("source_width, source_height, width, height")
    for name, output in ran.output_of.items():
        if output:
            height, width = simplejpeg.decode_jpeg(ran.result(name)).shape[:2]
            assert sizes[name] == [width, height, width, height]


def test_no_jpeg_becomes_larger(ran: Run) -> None:
    """Compressing a JPEG gives at most its own size, and much less over the catalogue."""
    sizes = {name: len(ran.result(name)) for name, output in ran.output_of.items() if output}
    jpegs = [name for name in sizes if name.endswith(".jpg")]
    assert all(sizes[name] <= len(source(name)) for name in jpegs)
    assert sum(sizes[name] for name in jpegs) < 0.6 * sum(len(source(name)) for name in jpegs)


def test_notices_say_what_was_special(ran: Run) -> None:
    """The kept original, the animation and the damaged file say so; no other picture does."""
    found = {name: notices for name, (notices,) in ran.facts("notices").items() if notices}
    assert found == NOTICES


def test_a_tiny_jpeg_is_kept_as_it_is(ran: Run) -> None:
    """The bytes are the source's own where compressing would have added some."""
    assert ran.result("cushion-thumb.jpg") == source("cushion-thumb.jpg")


def test_a_picture_stored_sideways_comes_out_upright(ran: Run) -> None:
    """Orientation 6 is applied to the pixels, and the EXIF with its position is gone."""
    stored = source("cushion-phone.jpg")
    result = ran.result("cushion-phone.jpg")
    upright = np.rot90(simplejpeg.decode_jpeg(stored), k=-1)  # simplejpeg knows no EXIF
    assert difference(simplejpeg.decode_jpeg(result), upright) < 6
    assert b"Exif" in stored
    assert b"Exif" not in result


def test_transparency_becomes_white(ran: Run) -> None:
    """Clear pixels are white, covered ones keep their colour, edges lie between."""
    sticker = pixels(source("horse-sticker.png")).astype(float)
    share = sticker[:, :, 3:] / 255
    assert ((share > 0.1) & (share < 0.9)).sum() > 500  # its edge is soft
    wanted = sticker[:, :, :3] * share + 255 * (1 - share)
    result = simplejpeg.decode_jpeg(ran.result("horse-sticker.png"))
    assert difference(result, wanted) < 2
    far_from_edges = share[::40, ::40, 0] == 0
    assert result[::40, ::40][far_from_edges].mean() > 254


def test_a_wide_gamut_keeps_its_colours(ran: Run) -> None:
    """P3 pixels are converted to sRGB: right by the standards' own numbers, not just relabelled."""
    raw = simplejpeg.decode_jpeg(source("launch-vivid.jpg"))
    wanted = encoded(linear(raw) @ P3_TO_SRGB.T)
    result = simplejpeg.decode_jpeg(ran.result("launch-vivid.jpg"))
    # Means of blocks, so that what remains is colour and not what compression does to details.
    result, wanted, raw = blocks(result), blocks(wanted), blocks(raw)
    vivid = np.abs(wanted - raw).max(axis=2) > 5
    assert vivid.sum() > 100
    assert difference(result, wanted) < 1.5
    assert difference(result[vivid], wanted[vivid]) < 1.5
    assert difference(result[vivid], raw[vivid]) > 5
    assert b"ICC_PROFILE" not in ran.result("launch-vivid.jpg")


def blocks(picture: NDArray[Any], side: int = 16) -> NDArray[Any]:
    """The means of square blocks."""
    height, width = (length // side * side for length in picture.shape[:2])
    cut = picture[:height, :width].astype(float)
    tiles = cut.reshape(height // side, side, width // side, side, -1)
    return np.asarray(tiles.mean(axis=(1, 3)))


@pytest.mark.parametrize(
    ("separated", "original"),
    [("suit-press.jpg", "suit-front.jpg"), ("launch-press.jpg", "launch-print.jpg")],
)
def test_inks_become_the_picture_that_was_separated(
    ran: Run, separated: str, original: str
) -> None:
    """CMYK, with its profile or without one, shows the same picture as the RGB file beside it."""
    result = pyvips.Image.new_from_buffer(ran.result(separated), "")
    assert result.bands == 3
    beside = pyvips.Image.new_from_buffer(source(original), "")
    if original == "launch-print.jpg":
        part = (0.3 * beside.width, 0.2 * beside.height, 0.5 * beside.width, 0.8 * beside.height)
        beside = beside.crop(*(round(side) for side in part))
    small = [image.thumbnail_image(40, height=40, size="force") for image in (result, beside)]
    one, other = (image.numpy().astype(float) for image in small)
    # Without a profile nobody knows the inks' colours, so that one is only roughly right.
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > (0.99 if "suit" in separated else 0.9)
    assert difference(one, other) < (8 if "suit" in separated else 25)


def test_sixteen_bits_become_eight(ran: Run) -> None:
    """A deep PNG keeps its brightness."""
    deep = pixels(source("stars-scan.png"))
    assert deep.dtype == np.uint16
    result = simplejpeg.decode_jpeg(ran.result("stars-scan.png"))
    assert difference(blocks(result), blocks(deep / 257.0)) < 2


def test_an_animation_gives_its_first_frame(ran: Run) -> None:
    """The output shows what the animation begins with, once."""
    frames = pyvips.Image.new_from_buffer(source("gravel-spin.gif"), "", n=-1)
    assert frames.get_n_pages() > 1
    first = pixels(source("gravel-spin.gif"))[:, :, :3]
    result = simplejpeg.decode_jpeg(ran.result("gravel-spin.gif"))
    first = np.broadcast_to(first, (*first.shape[:2], 3))
    assert difference(blocks(result), blocks(first)) < 2


# ---- the report


class _Loads(HTMLParser):
    """Collects what a page makes a browser load; a link to click on is none of it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            loads = name in {"src", "srcset", "poster", "data", "background", "xlink:href"}
            if loads or (name == "href" and tag not in {"a", "area"}):
                self.found.append(value or "")


def test_the_report_stands_alone(ran: Run) -> None:
    """report.html shows pictures and loads nothing from anywhere."""
    page = (ran.out / "report.html").read_text(encoding="utf-8")
    loads = _Loads()
    loads.feed(page)
    assert any(value.startswith("data:image/") for value in loads.found)
    assert [value[:80] for value in loads.found if not value.startswith(("data:", "#"))] == []
    styles = "".join(re.findall(r"(?s)<style.*?</style>|style=\"[^\"]*\"", page))
    assert re.findall(r"url\((?!['\"]?(?:data:|#))|@import", styles) == []


def test_the_report_names_every_failure(ran: Run) -> None:
    """Each broken picture and its code can be found in the report."""
    page = (ran.out / "report.html").read_text(encoding="utf-8")
    for name, code in FAILURES.items():
        assert name in page
        assert code in page


# ---- running it again, and otherwise


@pytest.mark.usefixtures("alone")
def test_a_second_run_finds_the_work_done(ran: Run) -> None:
    """Nothing is fetched or written anew, and the results are the same."""

    def stored() -> dict[Path, int]:
        return {p: p.stat().st_mtime_ns for p in (ran.out / "images").rglob("*") if p.is_file()}

    before, sheet = stored(), (ran.out / "output.csv").read_bytes()
    again = play(ran.out)
    assert again.code == 0, again.said
    assert "asked for 0 files" in again.said
    assert stored() == before
    assert (ran.out / "output.csv").read_bytes() == sheet


@pytest.fixture
def usual_port_taken(alone: None) -> Iterator[None]:  # noqa: ARG001  # only for its order
    """Somebody else listens on the sample shop's port."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # somebody does already
            taken.bind(("127.0.0.1", 8188))
            taken.listen()
        yield


@pytest.mark.usefixtures("usual_port_taken")
def test_another_port_does_as_well_and_a_second_run_still_goes_on(tmp_path: Path) -> None:
    """The copy of the sheet names a free port, and leaves nothing behind."""
    first = play(tmp_path / "out")
    again = play(tmp_path / "out")
    assert (first.code, again.code) == (0, 0), first.said + again.said
    assert "127.0.0.1:8188" not in (tmp_path / "out" / "output.csv").read_text()
    assert [row[:-1] for row in again.rows] == read(CATALOGUE / "products.csv")
    assert "asked for 0 files" in again.said
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.usefixtures("alone")
def test_ctrl_c_stops_it_and_the_next_run_ends_the_work(tmp_path: Path) -> None:
    """The interrupt of a terminal reaches both processes; the exit code says so."""
    out = tmp_path / "out"
    process = start(out)
    deadline = time.monotonic() + 60
    while not (out / "pixmill.db").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)
    stopped = finish(process, out)
    assert stopped.code == 130, stopped.said
    assert "Traceback" not in stopped.said
    assert play(out).code == 0


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("flags", "code"),
    [(["--quality", "999"], 2), (["--max-src-file-size", "1000"], 1)],
    ids=["refused", "good pictures failed"],
)
def test_other_endings_are_passed_on(tmp_path: Path, flags: list[str], code: int) -> None:
    """Flags reach pixmill, and only the failures that are meant to be are forgiven."""
    run = play(tmp_path / "out", *flags)
    assert run.code == code, run.said
    assert "as they should" not in run.said

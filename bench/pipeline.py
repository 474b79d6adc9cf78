"""How much of the codec's speed the whole pipeline keeps, with every outcome durable.

Each case runs ``pixmill run`` against a loopback server. Before and after it, in the same minutes,
the codec alone is measured on all cores with the images in memory; their mean is the limit. Where
the server answers late, the politeness towards each host is a limit too: so many downloads at once
from so many addresses, each taking at least the delay; the lower of both counts. Rates of different
machines, or of another hour on this one, say little; the ratio is what counts.
"""

from __future__ import annotations

import argparse
import math
import os
import sqlite3
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from codec import codec_limit
from origin import ADDRESSES, PORT, running, url
from pictures import LARGE, SMALL, Size, make_pictures
from pixmill.settings import Settings
from plot import Row, plot

OUT = Path(__file__).parent / "out"
LIMIT_SECONDS = 6.0


@dataclass(frozen=True, slots=True)
class Case:
    """A case: which pictures, how late the server answers, and the ratio to reach."""

    name: str
    size: Size
    images: int
    delay: float
    floor: float


CASES = [
    Case(SMALL.name, SMALL, 30_000, 0.0, 0.75),
    Case(LARGE.name, LARGE, 6_000, 0.0, 0.85),
    Case(f"{SMALL.name}, answered after 200 ms", SMALL, 20_000, 0.2, 0.70),
]


def main() -> None:
    """Measure all cases; write a table and a plot; exit with 1 if a floor is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="fewer or more images")
    scale = parser.parse_args().scale
    OUT.mkdir(exist_ok=True)
    rows = []
    # Made and removed together: ext4 searches long for free inodes after many were freed lately.
    with tempfile.TemporaryDirectory(dir=OUT) as folder:
        for number, case in enumerate(CASES):
            print(f"{case.name} …", flush=True)
            rows.append(measure(case, int(case.images * scale), Path(folder) / str(number)))
            print(f"  {_line(rows[-1])}", flush=True)
    table = _table(rows)
    (OUT / "pipeline.md").write_text(table)
    plot(rows, OUT / "pipeline.png")
    print(f"\n{table}\nWritten to {OUT / 'pipeline.md'} and {OUT / 'pipeline.png'}.")
    sys.exit(any(row.ratio < row.floor for row in rows))


def measure(case: Case, images: int, folder: Path) -> Row:
    """Measure one case, the limit before and after it."""
    source = OUT / f"{case.size.width}x{case.size.height}"
    pictures = make_pictures(source, case.size)
    folder.mkdir()
    sheet = folder / "products.csv"
    with sheet.open("w") as file:
        file.write("Serial Number,Product Name,Input Image Urls\n")
        file.writelines(f"{n},Product {n},{url(n, pictures)}\n" for n in range(images))
    before = codec_limit(pictures, LIMIT_SECONDS)
    with running(source, case.delay):
        rate = pipeline_rate(sheet, folder / "out", images)
    after = codec_limit(pictures, LIMIT_SECONDS)
    return Row(case.name, images, (before + after) / 2, polite_limit(case), rate, case.floor)


def polite_limit(case: Case) -> float:
    """Images a second that the cap on downloads per host lets through; infinite without a delay."""
    at_once = Settings().max_downloads_per_host * len(ADDRESSES)
    return at_once / case.delay if case.delay else math.inf


def pipeline_rate(sheet: Path, out: Path, images: int) -> float:
    """Images a second from the accepted request to its end, workers' start and all included."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PIXMILL_")}
    environment = clean | {"PIXMILL_ALLOWED_ADDRESSES": f"127.0.0.0/8:{PORT}"}
    command = [sys.executable, "-m", "pixmill", "run", str(sheet), "-o", str(out)]
    with (out.parent / "log").open("w") as log:
        subprocess.run(command, env=environment, stdout=log, stderr=log, check=True)
    database = sqlite3.connect(out / "pixmill.db")
    done, seconds = database.execute(
        "SELECT processed_images, finished_at - created_at FROM requests"
    ).fetchone()
    database.close()
    if done != images:
        sys.exit(f"Only {done} of {images} images were done; see {out}.")
    return float(images / seconds)


def _line(row: Row) -> str:
    verdict = "reached" if row.ratio >= row.floor else "MISSED"
    return (
        f"codec {row.codec:,.0f}/s, pipeline {row.pipeline:,.0f}/s:"
        f" {row.ratio:.2f} (floor {row.floor:.2f} {verdict})"
    )


def _table(rows: list[Row]) -> str:
    lines = [
        "| case | images | codec alone | host cap | pipeline | of the lower limit | floor |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        polite = "" if math.isinf(row.polite) else f"{row.polite:,.0f}"
        lines.append(
            f"| {row.case} | {row.images:,} | {row.codec:,.0f} | {polite}"
            f" | {row.pipeline:,.0f} | {row.ratio:.2f} | {row.floor:.2f} |"
        )
    return "\n".join([*lines, "", "Rates are images a second.", ""])


if __name__ == "__main__":
    main()

"""``pixmill run``: the whole job on one machine."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

import click

from pixmill import wiring
from pixmill.cli.exit_codes import ALL_DONE, INTERRUPTED, REFUSED, SOME_FAILED
from pixmill.cli.flags import (
    SERVICE_SETTINGS,
    option_flags,
    setting_flags,
    sheet_flags,
    taken_options,
    taken_rules,
)
from pixmill.cli.folder_lock import locked
from pixmill.cli.logs import set_up_logging
from pixmill.cli.progress import follow, waiting
from pixmill.cli.results import Results
from pixmill.cli.words import show_problems, show_reading, show_summary
from pixmill.core.errors import SheetRejected
from pixmill.core.model import Request, SheetRules
from pixmill.core.options import Options
from pixmill.core.shards import PRIVATE
from pixmill.engines.local import LocalEngine
from pixmill.settings import Settings, load_settings
from pixmill.steps.submit import Order, digest, submit_csv

SAMPLES = 12
GRACE_SECONDS = 5.0


@click.command(short_help="Compress all images that a CSV names.")
@click.argument("csv", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o",
    "--output-folder",
    "folder",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where everything goes: images/, output.csv, errors.csv, report.html, pixmill.db.",
)
@click.option(
    "--retry-failed", is_flag=True, help="Try images that failed in an earlier run again."
)
@sheet_flags
@option_flags
@setting_flags("data_dir", "store", "blobs", "engine", *SERVICE_SETTINGS)
def run(csv: Path, folder: Path, *, retry_failed: bool, **given: Any) -> int:
    """Compress all images that CSV names and write the results into a folder.

    Running the same command again goes on where the last run stopped. Image cells may also name
    files, relative to the CSV.

    Exit code: 0 all images done, 1 some failed, 2 refused, 130 interrupted.
    """
    options = taken_options(given)
    rules = taken_rules(given, local_folder=str(csv.absolute().parent))
    settings = _settings(folder, given)
    set_up_logging(settings)
    signal.signal(signal.SIGTERM, _interrupt)
    if csv.resolve() in {(folder / name).resolve() for name in ("output.csv", "errors.csv")}:
        raise click.UsageError(f"{csv} would be overwritten by the results; choose another folder.")
    with locked(folder, folder / PRIVATE / "lock"), _opened(csv) as raw:
        return _Run(settings, folder).go(raw, csv.name, options, rules, retry_failed=retry_failed)


@contextmanager
def _opened(csv: Path) -> Iterator[BinaryIO]:
    """The CSV as a file that can be read several times; a pipe is copied first."""
    with csv.open("rb") as raw:
        if raw.seekable():
            yield raw
            return
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(raw, copy)
            copy.seek(0)
            yield copy


def _settings(folder: Path, given: dict[str, Any]) -> Settings:
    """The settings of a run: store and blobs are in its folder, whatever the environment says."""
    place = {"data_dir": folder, "store": "", "blobs": ""}  # the defaults below the folder
    usual = {"samples": SAMPLES, "grace_seconds": GRACE_SECONDS}
    given = {name: value for name, value in given.items() if value is not None}
    return load_settings(usual | given | place, os.environ)


class _Run:
    """One run in its folder, which nobody else uses meanwhile."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._store = wiring.open_store(settings)
        self._blobs = wiring.open_blobs(settings)
        self._interrupted = False
        self._failure: str | None = None

    def go(
        self,
        raw: BinaryIO,
        filename: str,
        options: Options,
        rules: SheetRules,
        *,
        retry_failed: bool,
    ) -> int:
        """Do the job, or the rest of it; return the exit code."""
        self._clear_up()
        request = self._store.latest_request(digest(raw, options, rules))
        if request and request.error:  # its CSV could not be ingested: start anew
            request = None
        if request and request.status.terminal and retry_failed:
            self._store.retry_failed(request.id, now=wiring.clock())
            request = self._store.request(request.id)
        before = self._store.totals(request.id).images if request else 0
        started = time.monotonic()
        try:
            if request is None or not request.status.terminal:
                with self._workers() as engine:  # they start up while the CSV is read
                    request = request or self._submit(raw, filename, options, rules)
                    follow(self._store, engine, request)
        except SheetRejected as rejected:
            show_problems(filename, rejected)
            return REFUSED
        if request is None or self._interrupted or self._failure:
            return self._stopped(request)
        return self._finish(self._store.request(request.id), before, time.monotonic() - started)

    def _submit(self, raw: BinaryIO, filename: str, options: Options, rules: SheetRules) -> Request:
        with waiting(f"Reading {filename}"):
            request, summary = submit_csv(
                self._store,
                self._blobs,
                raw,
                Order(filename, options, rules),
                wiring.sheet_limits(self._settings),
                wiring.clock,
            )
        show_reading(filename, summary)
        if (self._folder / "output.csv").exists():
            click.echo(
                "This CSV, or how it is to be processed, is not what was run here before: all of "
                "it is done anew. Earlier images stay where they are.",
                err=True,
            )
        return request

    def _finish(self, request: Request, before: int, seconds: float) -> int:
        """Write what people want to have, and say how it went."""
        if request.error:
            click.echo(f"pixmill: {request.error}", err=True)
            return REFUSED
        totals = self._store.totals(request.id)
        results = Results(self._folder, self._store, self._blobs, request, totals)
        with waiting("Writing the report"), closing(wiring.comparer(self._settings)) as comparer:
            results.write(wiring.url_of(self._settings), comparer)
        show_summary(results, seconds=seconds, images=totals.images - before)
        return SOME_FAILED if request.failed_images else ALL_DONE

    def _clear_up(self) -> None:
        """Nobody else works here, so what a killed run held or left half-written is free."""
        self._store.expire_leases()
        self._blobs.clean()
        shutil.rmtree(self._folder / PRIVATE / "spill", ignore_errors=True)

    @contextmanager
    def _workers(self) -> Iterator[LocalEngine]:
        """Workers that run during the block; Ctrl-C ends the block, and them."""
        log_file = self._folder / PRIVATE / "workers.log"
        engine = wiring.local_engine(
            self._settings, self._store, f"run-{os.getpid()}", log_file=log_file
        )
        try:
            engine.start()
            yield engine
        except KeyboardInterrupt:
            self._interrupted = True
            click.echo("Stopping; images in hand end first. Ctrl-C again stops at once.", err=True)
        finally:
            self._stop(engine)
        self._failure = engine.failure

    def _stop(self, engine: LocalEngine) -> None:
        try:
            engine.stop(self._settings.grace_seconds + 5)
        except KeyboardInterrupt:
            self._interrupted = True
            engine.stop(0)

    def _stopped(self, request: Request | None) -> int:
        """Say where the run stands and how it goes on."""
        if self._failure:
            click.echo(f"pixmill: {self._failure}", err=True)
        if request:
            request = self._store.request(request.id)
            failed = f", {request.failed_images:,} failed" if request.failed_images else ""
            done = f"{request.processed_images:,} of {request.total_images:,} images are done"
            click.echo(f"{done}{failed}.", err=True)
        click.echo("Run the same command again to go on.", err=True)
        return INTERRUPTED if self._interrupted else REFUSED


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """Treat a request to terminate like Ctrl-C."""
    raise KeyboardInterrupt

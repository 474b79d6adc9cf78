"""Progress of a request: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from pixmill.core.model import Request
from pixmill.engines.local import LocalEngine
from pixmill.ports import Store
from pixmill.web import schemas

Standing = Request | schemas.Progress
"""How far a request is: from the store, or from a service."""

LOOK_SECONDS = 0.1
LINE_SECONDS = 5.0

console = Console(stderr=True)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show a spinner while something takes a moment; nothing where there is no terminal."""
    if console.is_terminal:
        with console.status(f"{what} …"):
            yield
    else:
        yield


def follow(store: Store, engine: LocalEngine, request: Request) -> None:
    """Show how far a request is until it is terminal or its workers cannot go on."""
    show(_steps(store, engine, request))


def show(steps: Iterator[Standing]) -> None:
    """Show how far a request is, step by step."""
    draw = _bar if console.is_terminal else _lines
    draw(steps)


def _steps(store: Store, engine: LocalEngine, request: Request) -> Iterator[Request]:
    while engine.failure is None:
        request = store.request(request.id)
        yield request
        if request.status.terminal:
            return
        time.sleep(LOOK_SECONDS)
        engine.check()


def _bar(steps: Iterator[Standing]) -> None:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("[progress.percentage]{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[rate]}"),
        TextColumn("[red]{task.fields[failed]}"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, expand=True) as progress:
        task = progress.add_task("Reading the CSV", total=None, rate="", failed="")
        first: tuple[float, int] | None = None
        for request in steps:
            settled = request.processed_images + request.failed_images
            first = first or (time.monotonic(), settled)
            _draw(progress, task, request, _rate(first, settled))


def _draw(progress: Progress, task: TaskID, request: Standing, rate: str) -> None:
    settled = request.processed_images + request.failed_images
    progress.update(
        task,
        description="Compressing" if settled else "Starting",
        total=request.total_images,
        completed=settled,
        rate=rate,
        failed=f"{request.failed_images:,} failed" if request.failed_images else "",
    )


def _rate(first: tuple[float, int], settled: int) -> str:
    seconds = time.monotonic() - first[0]
    return f"{(settled - first[1]) / seconds:,.0f} images/s" if seconds > 1 else ""


def _lines(steps: Iterator[Standing]) -> None:
    last = -LINE_SECONDS
    for request in steps:
        if time.monotonic() - last >= LINE_SECONDS or request.status.terminal:
            last = time.monotonic()
            settled = request.processed_images + request.failed_images
            failed = f", {request.failed_images:,} failed" if request.failed_images else ""
            console.print(
                f"{settled:,} of {request.total_images:,} images"
                f" ({request.completion_percentage:.0f} %){failed}",
                highlight=False,
            )

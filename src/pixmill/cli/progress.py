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
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from pixmill.core.model import Request
from pixmill.engines.local import LocalEngine
from pixmill.ports import Store
from pixmill.web import schemas

Standing = Request | schemas.Progress
"""How far a request is: from the store, or from a service."""

LOOK_SECONDS = 0.1
LINE_SECONDS = 5.0

console = Console(stderr=True)


class Outage:
    """Whether the service that is asked is away, for those who look at the progress."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._told = -LINE_SECONDS

    @property
    def words(self) -> str:
        """That it is away, and for how long it has been; nothing if it is not."""
        since = self._since
        if since is None:
            return ""
        return f"service away, trying again ({time.monotonic() - since:.0f} s)"

    def lasts(self, seconds: float) -> None:
        """The service was asked in vain; it has been away for so long."""
        self._since = time.monotonic() - seconds
        if not console.is_terminal and time.monotonic() - self._told >= LINE_SECONDS:
            self._told = time.monotonic()
            console.print(self.words, highlight=False)

    def over(self) -> None:
        """The service has answered."""
        self._since = None


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


def show(steps: Iterator[Standing], outage: Outage | None = None) -> None:
    """Show how far a request is, step by step."""
    draw = _bar if console.is_terminal else _lines
    draw(steps, outage or Outage())


def _steps(store: Store, engine: LocalEngine, request: Request) -> Iterator[Request]:
    while engine.failure is None:
        request = store.request(request.id)
        yield request
        if request.status.terminal:
            return
        time.sleep(LOOK_SECONDS)
        engine.check()


class _Pace(ProgressColumn):
    """How fast it goes and when it will be done; or that the service is away."""

    def __init__(self, outage: Outage) -> None:
        super().__init__(Column(no_wrap=True))
        self._outage = outage
        self._left = TimeRemainingColumn(compact=True)

    def render(self, task: Task) -> Text:
        """The words of this moment."""
        if away := self._outage.words:
            return Text(away, style="yellow")
        return Text(f"{task.fields['rate']} ") + self._left.render(task)


def _bar(steps: Iterator[Standing], outage: Outage) -> None:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("[progress.percentage]{task.percentage:>3.0f}%"),
        TextColumn("[red]{task.fields[failed]}"),
        _Pace(outage),
    )
    with Progress(*columns, console=console, expand=True) as progress:
        task = progress.add_task("Reading the CSV", total=None, rate="", failed="")
        first: tuple[float, int] | None = None
        for request in steps:
            outage.over()
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


def _lines(steps: Iterator[Standing], outage: Outage) -> None:
    last = -LINE_SECONDS
    for request in steps:
        outage.over()
        if time.monotonic() - last >= LINE_SECONDS or request.status.terminal:
            last = time.monotonic()
            settled = request.processed_images + request.failed_images
            failed = f", {request.failed_images:,} failed" if request.failed_images else ""
            console.print(
                f"{settled:,} of {request.total_images:,} images"
                f" ({request.completion_percentage:.0f} %){failed}",
                highlight=False,
            )

"""Shows a CSV on its way to a service: bytes sent, then that the service checks it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from pixmill.cli.numbers import size
from pixmill.cli.progress import LINE_SECONDS, console


class Handover:
    """How far a CSV is on its way. ``sent`` is for the client, which knows."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._sent = self._total = 0
        self._checked_since: float | None = None

    def sent(self, sent: int, total: int) -> None:
        """So much of the file has been sent."""
        self._sent, self._total = sent, total
        self._checked_since = time.monotonic() if sent >= total else None

    @property
    def words(self) -> str:
        """How far it is, in words."""
        if self._checked_since is not None:
            seconds = time.monotonic() - self._checked_since
            return f"{self._name} is being checked ({seconds:.0f} s)"
        if not self._total:
            return f"Handing over {self._name}"
        share = f"{size(self._sent)} of {size(self._total)}"
        return f"Handing over {self._name}: {share} ({100 * self._sent // self._total} %)"

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show it during the block: in one line of a terminal, else in a line now and then."""
        over = threading.Event()
        watcher = threading.Thread(
            target=self._bar if console.is_terminal else self._lines, args=(over,), daemon=True
        )
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()

    def _bar(self, over: threading.Event) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(20))
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task(self.words, total=None)
            while not over.wait(0.1):
                self._draw(progress, task)

    def _draw(self, progress: Progress, task: TaskID) -> None:
        whole = self._total if self._checked_since is None else None
        progress.update(task, description=self.words, completed=self._sent, total=whole or None)

    def _lines(self, over: threading.Event) -> None:
        while not over.wait(LINE_SECONDS):
            console.print(self.words, markup=False, highlight=False, soft_wrap=True)

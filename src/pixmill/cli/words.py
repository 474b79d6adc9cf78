"""What a run tells people: problems of the CSV, and the summary at the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from pixmill.cli.numbers import duration, percent, plural, size
from pixmill.cli.progress import Standing
from pixmill.cli.results import Results
from pixmill.core.advice import ADVICE
from pixmill.core.errors import ImageErrorCode, Problem, SheetRejected
from pixmill.core.sheets.check import SheetSummary

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

MOST_SHOWN = 20
MOST_LINES = 5
MARGIN = 8


def show_problems(filename: str, rejected: SheetRejected) -> None:
    """Say everything that is wrong with a CSV."""
    many = plural(rejected.total, "problem")
    err.print(Text(f"{filename} was not accepted: {many}.", style="bold red"))
    _list(rejected.problems, rejected.total)


def show_reading(filename: str, summary: SheetSummary) -> None:
    """Say how a CSV was read, and what is odd about it."""
    layout = summary.layout
    read_as = f"{layout.encoding}, {DELIMITERS.get(layout.delimiter, layout.delimiter)}"
    err.print(
        f"{filename}: {plural(summary.total_products, 'product')},"
        f" {plural(summary.total_images, 'image')}"
        f" ({layout.source} columns, {read_as})"
    )
    show_oddities(summary.skipped_rows, summary.warnings)


def show_oddities(skipped_rows: int, warnings: Sequence[Problem]) -> None:
    """Say what was odd about a CSV that was accepted."""
    if skipped_rows:
        rows = plural(skipped_rows, "row")
        err.print(Text(f"Left out, because of what is wrong with them: {rows}.", style="yellow"))
    _list(warnings, len(warnings))


def show_summary(results: Results, *, seconds: float, images: int) -> None:
    """Say how a run ended: ``images`` is how many it did in ``seconds``."""
    request, totals = results.request, results.totals
    show_outcomes(request, totals.failures, totals.bytes_in, totals.bytes_out)
    if totals.kept:
        show_line("", f"{plural(totals.kept, 'original')} kept: compressing saved nothing")
    if totals.damaged:
        damaged = plural(totals.damaged, "damaged source")
        show_line("", f"{damaged}: parts of the picture may be missing", style="yellow")
    if images:
        show_line("speed", f"{images / seconds:,.1f} images/s ({images:,} in {duration(seconds)})")
    else:
        show_line("speed", "nothing left to do: every image had its outcome already")
    for name, path in results.files.items():
        show_line(name, str(path))
    if request.failed_images:
        out.print("errors.csv and report.html name each image that failed.")


def show_outcomes(
    request: Standing,
    failures: Mapping[ImageErrorCode, int],
    bytes_in: int,
    bytes_out: int,
    console: Console = out,
) -> None:
    """Say what became of a request's images so far, and of their bytes."""
    done = f"{request.processed_images:,} of {request.total_images:,} done"
    show_line("images", done, console=console)
    for code, count in failures.items():
        show_line("failed", f"{count:,} {code}: {ADVICE[code].title}", "red", console)
        _show_aside(ADVICE[code].what_to_do, console)
    show_line("size", _sizes(bytes_in, bytes_out), console=console)


def show_line(label: str, text: str, style: str = "", console: Console = out) -> None:
    """Say one fact."""
    console.print(Text(f"{label:<{MARGIN}}", style="dim") + Text(text, style=style))


def _show_aside(text: str, console: Console) -> None:
    """Say what belongs to the line before, folded where there is a screen to be narrow."""
    aside = Text(text, style="dim")
    if console.is_terminal:
        console.print(Padding(aside, (0, 0, 0, MARGIN), expand=False), soft_wrap=False)
    else:
        console.print(Text(" " * MARGIN) + aside)


def _sizes(before: int, after: int) -> str:
    if not before:
        return "nothing was stored"
    change = "saved" if after <= before else "more"
    return (
        f"{size(before)} in, {size(after)} out: {percent(abs(before - after), before)} % {change}"
    )


def _list(problems: Sequence[Problem], total: int) -> None:
    """Say what is wrong; what is wrong with many rows alike is said once."""
    alike: dict[tuple[str | None, str], list[int | None]] = defaultdict(list)
    for problem in problems:
        alike[problem.column, problem.message].append(problem.line)
    told = 0
    for (column, message), lines in list(alike.items())[:MOST_SHOWN]:
        told += len(lines)
        where = ", ".join(part for part in (_rows(lines), column and f"column {column}") if part)
        err.print(Text(f"  {where}: {message}{_at(lines)}" if where else f"  {message}"))
    if total > told:
        err.print(f"  … and {total - told:,} more.")


def _rows(lines: list[int | None]) -> str:
    if len(lines) > 1:
        return f"{len(lines):,} rows"
    return f"line {lines[0]}" if lines[0] else ""


def _at(lines: list[int | None]) -> str:
    """Where several rows are that have the same problem."""
    if len(lines) < 2:
        return ""
    more = ", …" if len(lines) > MOST_LINES else ""
    return f" (lines {', '.join(map(str, lines[:MOST_LINES]))}{more})"


DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "pipes"}

"""Write the reference pages of settings, error codes, CSV problems and the command line from code.

``make docs`` writes them; a test fails when a page is not what this would write.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from pixmill.cli import pixmill
from pixmill.cli.flags import IMG2DATASET_NAMES
from pixmill.core.advice import ADVICE
from pixmill.core.errors import ImageErrorCode
from pixmill.settings import PREFIX, Settings

FOLDER = Path(__file__).parent
NOTE = "<!-- Written by docs/make.py from the code: run `make docs` after a change. -->\n\n"


def pages() -> dict[str, str]:
    """Every generated page by its file name."""
    return {
        "settings.md": NOTE + settings_page(),
        "errors.md": NOTE + errors_page(),
        "cli.md": NOTE + cli_page(),
    }


def settings_page() -> str:
    """A table of all settings."""
    lines = [
        "# Settings",
        "",
        "A setting is an environment variable, a line of a `.env` file in the working directory,",
        "or a flag (`PIXMILL_WORKERS` is `--workers`). Flags win over the environment, that over",
        "`.env`. An unknown `PIXMILL_…` name is an error.",
        "",
        "| setting | default | meaning |",
        "| --- | --- | --- |",
    ]
    for name, field in Settings.model_fields.items():
        default = "" if field.default_factory else field.default
        shown = f"`{default}`" if default not in ("", None) else ""
        also = "".join(f" (also `{alias}`)" for alias in IMG2DATASET_NAMES.get(name, []))
        lines.append(f"| `{PREFIX}{name.upper()}` | {shown} | {field.description}{also} |")
    return "\n".join(lines) + "\n"


def errors_page() -> str:
    """What each error code of an image means and what to do about it."""
    lines = [
        "# Error codes of an image",
        "",
        "One bad image never fails its neighbours. `errors.csv` has one line for each failed",
        "reference, with one of these codes. Network trouble and the HTTP statuses 408, 425, 429",
        "and 5xx get three attempts; everything else is final at once.",
        "",
        "| code | meaning | what to do |",
        "| --- | --- | --- |",
    ]
    lines += [
        f"| `{code}` | {ADVICE[code].title} | {ADVICE[code].what_to_do} |"
        for code in ImageErrorCode
    ]
    return "\n".join(lines) + "\n"


def cli_page() -> str:
    """The help of every command."""
    parts = ["# Command line\n"]
    for title, command in _commands("pixmill", pixmill):
        context = click.Context(
            command,
            info_name=title,
            terminal_width=100,
            max_content_width=100,
            help_option_names=["-h", "--help"],
        )
        parts.append(f"## `{title}`\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def _commands(title: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """A command and all that are below it, with their full names."""
    yield title, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner:
                yield from _commands(f"{title} {name}", inner)


if __name__ == "__main__":
    for name, text in pages().items():
        (FOLDER / name).write_text(text)
        click.echo(f"wrote {FOLDER / name}")

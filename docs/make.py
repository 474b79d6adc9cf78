"""Write the reference pages of settings, errors, HTTP calls and the command line from the code.

``make docs`` writes them; a test fails when a page is not what this would write.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_type_hints

import click
from fastapi.params import Depends

from pixmill import wiring
from pixmill.cli import pixmill
from pixmill.cli.flags import IMG2DATASET_NAMES
from pixmill.core.advice import ADVICE
from pixmill.core.errors import ImageErrorCode
from pixmill.settings import PREFIX, Settings
from pixmill.web import access
from pixmill.web.app import API, OUTSIDE_API, create_app
from pixmill.web.openapi import contract
from pixmill.web.problems import KINDS
from pixmill.web.service import Service

FOLDER = Path(__file__).parent
NOTE = "<!-- Written by docs/make.py from the code: run `make docs` after a change. -->\n\n"


def pages() -> dict[str, str]:
    """Every generated page by its file name."""
    return {
        "settings.md": NOTE + settings_page(),
        "errors.md": NOTE + errors_page(),
        "cli.md": NOTE + cli_page(),
        "http.md": NOTE + http_page(),
        "openapi.json": json.dumps(openapi(), indent=1, ensure_ascii=False) + "\n",
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


def http_page() -> str:
    """Every call of the HTTP service, and every code of its errors."""
    scopes = dict(_scopes())
    lines = [
        "# HTTP calls",
        "",
        "[openapi.json](openapi.json) has all parameters, bodies and answers. A running service",
        "has it at `/api/openapi.json`. Generate a client from it, or read it in any viewer.",
        "[service.md](service.md) tells how to run the service, and what keys and scopes are.",
        "",
        "| call | key | what it does |",
        "| --- | --- | --- |",
    ]
    for path, calls in openapi()["paths"].items():
        for method, call in calls.items():
            if method != "head":  # as get, without a body
                scope = scopes.get(call["operationId"])
                needed = f"`{scope}`" if scope else "any" if "security" in call else "none"
                lines.append(f"| `{method.upper()} {path}` | {needed} | {call['summary']} |")
    lines += [
        "",
        "## Errors",
        "",
        "Every error is a problem document (RFC 9457, `application/problem+json`) with `type`,",
        "`title`, `status`, `code` and `detail`. The `code` is stable; texts may change. A refused",
        "CSV has `errors`, the first 100 of its problems with line and column, and `totalErrors`.",
        "",
        "| code | status | meaning | what to do |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| `{code}` | {kind.status} | {kind.title} | {kind.what_to_do} |"
        for code, kind in KINDS.items()
    ]
    return "\n".join(lines) + "\n"


def openapi() -> dict[str, Any]:
    """The contract of the HTTP calls."""
    with ExitStack() as opened:
        folder = opened.enter_context(TemporaryDirectory())
        settings = Settings(data_dir=Path(folder), store="", blobs="")
        store = opened.enter_context(closing(wiring.open_store(settings)))
        keys = opened.enter_context(closing(wiring.open_access(settings)))
        outbox = opened.enter_context(closing(wiring.open_outbox(settings)))
        blobs = wiring.open_blobs(settings)
        return contract(create_app(Service(settings, store, keys, outbox, blobs, wiring.clock)))


SCOPES = {access.Submitter: "submit", access.Reader: "read", access.Admin: "admin"}


def _scopes() -> Iterator[tuple[str, str]]:
    """The scope that each call wants."""
    for module in (*API, *OUTSIDE_API):
        for route in module.router.routes:
            for scope in _wanted(route.endpoint):
                yield route.operation_id, scope


def _wanted(function: Callable[..., object]) -> Iterator[str]:
    """The scope that a function, or one that it depends on, wants of its caller."""
    for kind in get_type_hints(function, include_extras=True).values():
        if kind in SCOPES:
            yield SCOPES[kind]
        else:
            for extra in getattr(kind, "__metadata__", ()):
                if isinstance(extra, Depends):
                    yield from _wanted(extra.dependency)


if __name__ == "__main__":
    for name, text in pages().items():
        (FOLDER / name).write_text(text)
        click.echo(f"wrote {FOLDER / name}")

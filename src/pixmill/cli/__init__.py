"""Floor 5: the command line, written for people."""

from __future__ import annotations

import sys
from importlib import import_module

import click

from pixmill.cli.exit_codes import INTERRUPTED, REFUSED
from pixmill.core.errors import PixmillError

COMMANDS = (
    "cancel",
    "delete",
    "download",
    "gc",
    "health",
    "keys",
    "retry",
    "run",
    "serve",
    "status",
    "submit",
    "webhook",
    "worker",
)
"""Each is a function of that name in a module of that name."""


class Commands(click.Group):
    """Loads a command when it is called: a worker has no use for what the web service needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """The names of all commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's signature
        """The command of a name, if there is one."""
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(f"pixmill.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)  # noqa: S101  # for the type checker
        return command


@click.group(
    cls=Commands,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "token_normalize_func": lambda token: token.replace("_", "-"),
    },
)
@click.version_option(None, "-V", "--version", package_name="pixmill")
def pixmill() -> None:
    """Compress the images that a CSV names: fetched, stored, counted and reported.

    Start with: pixmill run products.csv -o out/

    Or as a service: pixmill serve
    """


def main() -> None:
    """Run a command; what went wrong is told in a sentence, never as a stack trace."""
    try:
        code = pixmill.main(prog_name="pixmill", standalone_mode=False)
    except click.exceptions.Abort:
        code = INTERRUPTED
    except click.ClickException as error:
        error.show()
        code = REFUSED
    except PixmillError as error:
        click.echo(f"pixmill: {error.message}", err=True)
        code = REFUSED
    sys.exit(code or 0)

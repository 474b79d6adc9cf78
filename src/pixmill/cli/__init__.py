"""Floor 5: the command line, written for people."""

from __future__ import annotations

import sys

import click

from pixmill.cli.run import INTERRUPTED, REFUSED, run
from pixmill.cli.worker import worker
from pixmill.core.errors import PixmillError


@click.group(
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "token_normalize_func": lambda token: token.replace("_", "-"),
    }
)
@click.version_option(package_name="pixmill")
def pixmill() -> None:
    """Compress the images that a CSV names: fetched, stored, counted and reported.

    Start with: pixmill run products.csv -o out/
    """


pixmill.add_command(run)
pixmill.add_command(worker)


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

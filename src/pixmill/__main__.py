"""``python -m pixmill``: the same as the command ``pixmill``."""

from pixmill.cli import main

main()

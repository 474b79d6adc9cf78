"""Log lines: plain for people, JSON for machines, and never an API key in them."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime

from pixmill.cli import call_log as calls
from pixmill.settings import Settings

_SECRET = re.compile(r"(pixmill_[a-z2-7]{13})_[a-z2-7]{20,}")


class PlainLines(logging.Formatter):
    """Time, level, logger and message, without the secrets of API keys, wherever they came from."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        return without_secrets(super().format(record))


class TerminalLines(logging.Formatter):
    """What somebody wants to see who watches: when, what, and how bad if it is."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        if record.levelno > logging.INFO or record.exc_info:
            return without_secrets(super().format(record))
        if record.name == calls.log.name:
            message = calls.in_short(getattr(record, "fields", {}))
        else:
            message = record.getMessage()
        return without_secrets(f"{self.formatTime(record, self.datefmt)} {message}")


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the error if there is one.

    What a call gives as ``extra={"fields": …}`` is added.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return without_secrets(json.dumps(line, ensure_ascii=False))


def without_secrets(text: str) -> str:
    """The text with the ids of API keys in it, but not their secrets."""
    return _SECRET.sub(r"\1_…", text) if "pixmill_" in text else text


def set_up_logging(settings: Settings) -> None:
    """Send log lines to standard error, as the settings ask."""
    handler = logging.StreamHandler(sys.stderr)
    if settings.log_format == "json":
        handler.setFormatter(JsonLines())
    elif sys.stderr.isatty():
        handler.setFormatter(TerminalLines("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    else:
        form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
        handler.setFormatter(PlainLines(form, "%Y-%m-%d %H:%M:%S"))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)

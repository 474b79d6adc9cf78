"""Each command offers the settings that it uses, and no others."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from pixmill import wiring
from pixmill.cli import pixmill
from pixmill.settings import Settings


def flags(name: str) -> set[str]:
    """The settings that a command has flags for."""
    command = pixmill.get_command(click.Context(pixmill), name)
    assert command
    return {str(option.name) for option in command.params} & set(Settings.model_fields)


def test_serve_offers_all_settings_but_those_of_runs_and_clients() -> None:
    assert flags("serve") == set(Settings.model_fields) - {"samples", "url", "api_key"}


def test_run_offers_none_of_the_service() -> None:
    offered = flags("run")
    assert {"workers", "public_url", "allowed_addresses"} <= offered
    assert not offered & {"host", "port", "tls_cert", "rate_limit", "retention_days", "api_key"}


def test_a_worker_offers_what_it_works_with() -> None:
    """What it does not look at would be given in vain."""
    asked = set(re.findall(r"settings\.(\w+)", Path(wiring.__file__).read_text()))
    of_uploads = {"max_rows", "max_urls_per_cell", "max_url_length"}
    used = (asked & set(Settings.model_fields)) - of_uploads
    assert flags("worker") >= used | {"store", "blobs", "webhook_secret"}
    assert not flags("worker") & {"host", "port", "api_key", "rate_limit", "webhook_url"}


@pytest.mark.parametrize("name", pixmill.list_commands(click.Context(pixmill)))
def test_every_command_is_found_by_its_name_and_says_what_it_does(name: str) -> None:
    command = pixmill.get_command(click.Context(pixmill), name)
    assert command
    assert command.name == name
    assert command.get_short_help_str()


def test_an_unknown_command_is_refused() -> None:
    with pytest.raises(click.UsageError, match="No such command"):
        pixmill.main(["serv"], standalone_mode=False)

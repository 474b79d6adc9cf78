"""Flags that several commands share, made from the settings, the options and the sheet rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import click

from pixmill.core.model import SheetRules
from pixmill.core.options import PUBLIC_NAMES, Effort, Format, Options, parse_options
from pixmill.settings import Settings

CLIENT_SETTINGS = ("url", "api_key")
"""Settings of the commands that talk to a service."""

PLACES = ("data_dir", "store", "blobs")
"""Settings that say where everything lies."""

SERVICE_SETTINGS = (
    "host",
    "port",
    "trusted_proxies",
    "cors_origins",
    "tls_cert",
    "tls_key",
    "rate_limit",
    "rate_limit_per_address",
    "max_upload_size",
    "ready_max_wait",
    "retention_days",
    "webhook_url",
    "webhook_secret",
    *CLIENT_SETTINGS,
)
"""Settings of the service and its clients, which a run without a service has no use for."""

Command = TypeVar("Command", bound=Callable[..., Any])

IMG2DATASET_NAMES = {
    "workers": ["--processes-count"],
    "threads": ["--thread-count"],
    "download_timeout": ["--timeout"],
}
"""Names that users of img2dataset know, where they mean the same."""


def setting_flags(*left_out: str) -> Callable[[Command], Command]:
    """Add a flag for every setting that is not left out."""
    return flags_of(*(name for name in Settings.model_fields if name not in left_out))


def flags_of(*names: str) -> Callable[[Command], Command]:
    """Add a flag for each of these settings."""

    def add(command: Command) -> Command:
        for name, field in reversed(Settings.model_fields.items()):
            if name in names:
                flags = [f"--{name.replace('_', '-')}", *IMG2DATASET_NAMES.get(name, [])]
                kind, metavar = _kind(field.annotation)
                command = click.option(
                    *flags, name, type=kind, metavar=metavar, default=None, help=field.description
                )(command)
        return command

    return add


def option_flags(command: Command) -> Command:
    """Add the flags of the processing options."""
    for decorate in reversed(
        [
            click.option("--quality", "--encode-quality", type=int, help="1 to 100; default 50."),
            click.option(
                "--format",
                "--encode-format",
                type=click.Choice([*(choice.value for choice in Format), "jpg"]),
                help="Default jpeg. auto keeps transparency, keep the input's own format.",
            ),
            click.option(
                "--effort",
                type=click.Choice([choice.value for choice in Effort]),
                help="CPU spent on smaller files; default fast.",
            ),
            click.option("--max-width", type=int, metavar="PIXELS", help="Shrink to this width."),
            click.option("--max-height", type=int, metavar="PIXELS", help="Shrink to this height."),
            click.option(
                "--background", metavar="COLOUR", help="Behind transparency; default #ffffff."
            ),
            click.option(
                "--strip-metadata/--no-strip-metadata",
                default=None,
                help="Remove EXIF, XMP and the like; on by default.",
            ),
            click.option(
                "--keep-copyright/--no-keep-copyright",
                default=None,
                help="Keep copyright and artist when metadata is removed.",
            ),
        ]
    ):
        command = decorate(command)
    return command


def sheet_flags(command: Command) -> Command:
    """Add the flags that say how to read and write the CSV."""
    for decorate in reversed(
        [
            click.option("--serial-col", metavar="HEADER", help="Column of the serial number."),
            click.option("--name-col", metavar="HEADER", help="Column of the product name."),
            click.option(
                "--url-col",
                "url_cols",
                metavar="HEADER",
                multiple=True,
                help="Column of image URLs; may be given several times.",
            ),
            click.option("--encoding", metavar="NAME", help="Encoding, if it is guessed wrong."),
            click.option("--delimiter", metavar="CHAR", help="Delimiter, if it is guessed wrong."),
            click.option(
                "--url-separator",
                metavar="TEXT",
                help="What separates several URLs in a cell, if it is guessed wrong.",
            ),
            click.option(
                "--invalid-rows",
                type=click.Choice(["reject", "skip"]),
                default="reject",
                show_default=True,
                help="Refuse a file with bad rows, or leave these rows out.",
            ),
            click.option(
                "--neutralise-formulas/--no-neutralise-formulas",
                default=True,
                help="Disarm cells of the output CSV that a spreadsheet would run; on by default.",
            ),
        ]
    ):
        command = decorate(command)
    return command


def taken_options(given: dict[str, Any]) -> Options:
    """Take the processing options out of what was given; raises InvalidOption."""
    return parse_options({public: given.pop(name) for name, public in PUBLIC_NAMES.items()})


def taken_rules(given: dict[str, Any], local_folder: str | None) -> SheetRules:
    """Take the sheet rules out of what was given."""
    skip = given.pop("invalid_rows") == "skip"
    names = {field.name for field in fields(SheetRules)} & set(given)
    values: Mapping[str, Any] = {name: given.pop(name) for name in names}
    return SheetRules(**values, skip_invalid_rows=skip, local_folder=local_folder)


def _kind(annotation: object) -> tuple[Any, str | None]:
    if get_origin(annotation) is Literal:
        return click.Choice(get_args(annotation)), None
    if annotation in {int, float}:
        return (int if annotation is int else float), "NUMBER"
    return str, "FILE" if annotation == Path | None else "TEXT"

"""Where things are, as people are told: without what others must not see."""

from __future__ import annotations

from pathlib import Path

import pytest

from pixmill.cli.places import broker_of, places_of
from pixmill.settings import Settings


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://:secret@host/0", "redis://host/0"),
        ("redis://:sec#ret@host/0", "redis://host/0"),
        ("redis://:sec?ret@host/0?ssl_cert_reqs=none", "redis://host/0"),
        ("amqp://u:sec/ret@host/v", "amqp://host/v"),
        ("amqp://u:sec@ret@host/v", "amqp://host/v"),
        ("amqp://u:secret@h1/v;amqp://u:secret2@h2/v", "amqp://h1/v;amqp://h2/v"),
    ],
)
def test_a_broker_is_shown_without_its_password(url: str, shown: str) -> None:
    assert broker_of(Settings(engine=url)) == shown


def test_a_fleets_places_are_shown_without_passwords_and_options(tmp_path: Path) -> None:
    settings = Settings(
        store="mongodb://anna:secret@h1,h2/shop?replicaSet=rs0", data_dir=tmp_path / "a b"
    )
    assert places_of(settings) == f"Requests are in mongodb://h1,h2/shop, files in {tmp_path}/a b"


def test_one_machines_place_is_its_folder(tmp_path: Path) -> None:
    assert places_of(Settings(data_dir=tmp_path)) == f"The data is in {tmp_path}"

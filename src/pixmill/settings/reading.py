"""Where settings come from: flags, the environment, a ``.env`` file."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_args

from annotated_types import Ge, Gt, Le
from dotenv import dotenv_values
from pydantic import ValidationError

from pixmill.core.errors import InvalidSetting
from pixmill.core.model import SheetRules
from pixmill.core.options import Options
from pixmill.settings.fields import DOTENV, PREFIX, Settings


def load_settings(flags: Mapping[str, Any], environment: Mapping[str, str]) -> Settings:
    """Read the settings: flags win over the environment, that over ``.env``, that over defaults.

    Raises InvalidSetting, naming the setting, for unknown names and for values that cannot be.
    """
    places = [
        ("in the environment", environment),
        (f"in {DOTENV}", dotenv_values(DOTENV, encoding="utf-8")),
    ]
    for place, found in places:
        for given in found:
            name = given.upper().removeprefix(PREFIX).lower()
            if given.upper().startswith(PREFIX) and name not in Settings.model_fields:
                raise InvalidSetting(f"There is no setting {given}, as {place}.{_hint(name)}")
    flags = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**flags)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        place = next(
            (place for place, found in places if PREFIX + name.upper() in map(str.upper, found)),
            "as a default",
        )
        place = f"given as --{name.replace('_', '-')}" if name in flags else f"set {place}"
        raise InvalidSetting(
            f"{PREFIX}{name.upper()} must be {_allowed(name)}, not {first['input']!r} ({place})."
        ) from None


def _allowed(name: str) -> str:
    """What a setting may be, in words."""
    field = Settings.model_fields[name]
    if choices := get_args(field.annotation):
        return f"one of {', '.join(map(str, choices))}"
    kinds: dict[Any, str] = {int: "a whole number", float: "a number"}
    words = kinds.get(field.annotation, "a text")
    for bound in field.metadata:
        match bound:
            case Ge(ge=least):
                words += f" from {least}"
            case Gt(gt=least):
                words += f" above {least}"
            case Le(le=most):
                words += f" to {most}"
    return words if " to " in words else words.replace(" from ", " of at least ")


def _hint(name: str) -> str:
    """What may be meant by a setting that does not exist."""
    of_a_request = {field.name for kind in (Options, SheetRules) for field in fields(kind)}
    if name in of_a_request:
        return " That is chosen for each CSV, with a flag or with a field of the upload."
    close = difflib.get_close_matches(name, Settings.model_fields, n=1)
    return f" Did you mean {PREFIX}{close[0].upper()}?" if close else ""

"""What a request may ask of the pixels: quality, format, size, background, metadata."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum

from pixmill.core.errors import InvalidOption

MAX_SIDE = 65_500
"""The largest width or height in pixels of a JPEG file (libjpeg: JPEG_MAX_DIMENSION)."""


class Format(StrEnum):
    """The format asked for. ``auto`` keeps transparency, ``keep`` keeps the input's format."""

    JPEG = "jpeg"
    AUTO = "auto"
    WEBP = "webp"
    AVIF = "avif"
    PNG = "png"
    KEEP = "keep"


class Effort(StrEnum):
    """How much CPU to spend on smaller files."""

    FAST = "fast"
    BALANCED = "balanced"
    MAX = "max"


@dataclass(frozen=True, slots=True)
class Options:
    """Processing options of one request, with the defaults of the HTTP contract.

    ``max_width`` and ``max_height`` are pixels and only ever shrink. ``background`` is ``#rrggbb``
    and is what transparency is flattened onto where the output has none.
    """

    quality: int = 50
    format: Format = Format.JPEG
    effort: Effort = Effort.FAST
    max_width: int | None = None
    max_height: int | None = None
    background: str = "#ffffff"
    strip_metadata: bool = True
    keep_copyright: bool = False

    @property
    def background_rgb(self) -> tuple[int, int, int]:
        """The background as red, green and blue, 0 to 255 each."""
        digits = self.background.removeprefix("#")
        return int(digits[0:2], 16), int(digits[2:4], 16), int(digits[4:6], 16)

    def to_json(self) -> dict[str, object]:
        """The options under their public camelCase names, as the store keeps them."""
        return {PUBLIC_NAMES[name]: value for name, value in asdict(self).items()}


PUBLIC_NAMES = {
    "quality": "quality",
    "format": "format",
    "effort": "effort",
    "max_width": "maxWidth",
    "max_height": "maxHeight",
    "background": "background",
    "strip_metadata": "stripMetadata",
    "keep_copyright": "keepCopyright",
}
_FIELDS = {public: field for field, public in PUBLIC_NAMES.items()}
_NAMED_COLOURS = {"white": "#ffffff", "black": "#000000"}


def parse_options(given: Mapping[str, object]) -> Options:
    """Read options by their public names; what is absent or None keeps its default.

    Raises InvalidOption, naming the option, the value and what is allowed.
    """
    values: dict[str, object] = {}
    for name, value in given.items():
        if name not in _FIELDS:
            raise InvalidOption(f"Unknown option {name!r}. Options are: {', '.join(_FIELDS)}.")
        if value is not None:
            values[_FIELDS[name]] = _parse(name, value)
    return Options(**values)  # type: ignore[arg-type]  # each value was parsed to its field's type


def _parse(name: str, value: object) -> object:
    match name:
        case "quality":
            return _whole_number(name, value, 1, 100)
        case "maxWidth" | "maxHeight":
            return _whole_number(name, value, 1, MAX_SIDE)
        case "format":
            return _one_of(name, value, Format)
        case "effort":
            return _one_of(name, value, Effort)
        case "background":
            return _colour(value)
        case _:
            return _yes_or_no(name, value)


def _whole_number(name: str, value: object, low: int, high: int) -> int:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidOption(
            f"Option {name!r} must be a whole number from {low} to {high}, not {value!r}."
        )
    return value


def _one_of(name: str, value: object, choices: type[Format] | type[Effort]) -> Format | Effort:
    text = str(value).lower()
    if text == "jpg":
        text = "jpeg"
    if text not in list(choices):
        raise InvalidOption(f"Option {name!r} must be one of {', '.join(choices)}, not {value!r}.")
    return choices(text)


def _colour(value: object) -> str:
    text = str(value).strip().lower()
    text = _NAMED_COLOURS.get(text, text)
    digits = text.removeprefix("#")
    if re.fullmatch(r"[0-9a-f]{3}", digits):
        digits = "".join(digit * 2 for digit in digits)
    if not re.fullmatch(r"[0-9a-f]{6}", digits):
        raise InvalidOption(
            f"Option 'background' must be a colour such as '#ffffff' or 'white', not {value!r}."
        )
    return f"#{digits}"


def _yes_or_no(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    if text in {"true", "1", "yes", "on"}:
        return True
    if text in {"false", "0", "no", "off"}:
        return False
    raise InvalidOption(f"Option {name!r} must be true or false, not {value!r}.")

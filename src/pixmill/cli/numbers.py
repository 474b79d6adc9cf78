"""Numbers as people read them, the same on the screen and in the report."""

from __future__ import annotations

UNITS = ("B", "kB", "MB", "GB", "TB")
MINUS = "\u2212"


def size(count: float) -> str:
    """A number of bytes as people read it, in decimal units like those of shops and hosts."""
    unit = 0
    while round(abs(count), 1) >= 1000 and unit < len(UNITS) - 1:
        count /= 1000
        unit += 1
    return f"{count:,.{1 if unit else 0}f} {UNITS[unit]}".replace("-", MINUS)


def duration(seconds: float) -> str:
    """A duration in its two largest units: 4.2 s, 3 min 20 s, 2 h 5 min, 3 d 4 h."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, rest = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {rest} min"
    return f"{hours // 24:,} d {hours % 24} h"


def age(seconds: float) -> str:
    """How long ago something was, in its largest unit: now, 3 min, 2 h, 5 d."""
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds // unit:,.0f} {name}"
    return "now"


def percent(part: float, whole: float) -> str:
    """A share in per cent with one digit; what is neither all nor nothing never looks so."""
    share = 100 * abs(part) / whole if whole else 0.0
    if 0 < share < 100:
        share = min(max(share, 0.1), 99.9)
    return f"{MINUS if part < 0 else ''}{share:,.1f}"


def plural(count: int, thing: str) -> str:
    """So many things: 1 image, 2 images."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"

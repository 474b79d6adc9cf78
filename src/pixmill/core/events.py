"""What a request's webhook tells of, and when its progress is worth telling."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pixmill.core.errors import InvalidOption

PROGRESS_STEP = 10
"""Per cent of the image references between two ``request.progress`` events."""


class Event(StrEnum):
    """What a webhook tells of."""

    PROCESSING = "request.processing"
    PROGRESS = "request.progress"
    COMPLETED = "request.completed"
    FAILED = "request.failed"
    CANCELLED = "request.cancelled"


USUAL_EVENTS = (Event.COMPLETED, Event.FAILED, Event.CANCELLED)


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where a request's events are sent, and which of them."""

    url: str
    events: tuple[Event, ...] = USUAL_EVENTS


def parse_events(text: str) -> tuple[Event, ...]:
    """Read a comma-separated list of events. Raises InvalidOption, naming what there is."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in list(Event):
            raise InvalidOption(f"There is no event {name!r}. Events are: {', '.join(Event)}.")
    if not names:
        raise InvalidOption(f"Name at least one event: {', '.join(Event)}.")
    return tuple(event for event in Event if event in names)


def steps_forward(before: int, after: int, total: int) -> bool:
    """Whether progress from ``before`` to ``after`` of ``total`` passes a step worth telling.

    However many steps it passes, it is one event; arriving at the total is none, since the end of
    the request tells of that.
    """
    if not before < after < total:
        return False
    steps = 100 // PROGRESS_STEP
    return before * steps // total < after * steps // total

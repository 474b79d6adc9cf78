"""Follows a request: its stream of events, and a plain question whenever that breaks off."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass

from pydantic import ValidationError

from pixmill.client.errors import ServiceRefused, ServiceUnreachable, StillRunning
from pixmill.client.troubles import not_pixmill
from pixmill.client.wire import IN_BETWEEN, NOT_NOW, Wire
from pixmill.web.schemas import Progress

PAUSE = 1.0
"""Seconds between two plain questions, and before a stream is opened anew."""

OUTAGE = 60.0
"""Seconds for which a service that has answered before may be away: it may be restarting."""

LONGEST_EVENT = 1_000_000
"""Bytes of one event; ours have some hundreds."""

Away = Callable[[float], object]
"""Is told that a service is away, and for how many seconds it has been."""


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event; ``id`` is empty if it has none."""

    id: str
    data: str


def follow(
    wire: Wire, request_id: str, *, until: float | None = None, away: Away | None = None
) -> Iterator[Progress]:
    """How far a request is, at each change; the last one is terminal.

    With a time ``until`` which to wait (of the monotonic clock), the service is only asked now and
    then, because a stream may be silent for longer; raises StillRunning when the time is over.
    ``away`` is called whenever the service was asked in vain.
    """
    seen: Progress | None = None
    for progress in _steps(wire, request_id, until, away):
        if progress != seen:
            yield progress
        if progress.status.terminal:
            return
        seen = progress
        if until is not None and time.monotonic() >= until:
            raise StillRunning(progress)


def _steps(
    wire: Wire, request_id: str, until: float | None, away: Away | None
) -> Iterator[Progress]:
    """How far it is, again and again, whatever becomes of the connection."""
    last_id = ""
    answered: float | None = None
    while True:
        if until is None:
            with (
                suppress(ServiceUnreachable, ServiceRefused),  # the question below tells why
                closing(_streamed(wire, request_id, last_id)) as events,
            ):
                for event_id, progress in events:
                    last_id, answered = event_id or last_id, time.monotonic()
                    yield progress
        try:
            progress = asked(wire, request_id)
        except (ServiceUnreachable, ServiceRefused) as trouble:
            if not _may_pass(trouble) or answered is None or time.monotonic() - answered > OUTAGE:
                raise
            if away:
                away(time.monotonic() - answered)
        else:
            answered = time.monotonic()
            yield progress
        left = PAUSE if until is None else until - time.monotonic()
        time.sleep(min(PAUSE, max(0.0, left)))


def _may_pass(trouble: ServiceUnreachable | ServiceRefused) -> bool:
    """Whether this is what a service that restarts looks like, behind a proxy or without one."""
    return isinstance(trouble, ServiceUnreachable) or trouble.status in NOT_NOW | IN_BETWEEN


def asked(wire: Wire, request_id: str) -> Progress:
    """How far a request is now. Of a whole status, only what progress has is read."""
    return wire.ask("GET", f"/status/{request_id}", Progress, params={"limit": 1})


def _streamed(
    wire: Wire, request_id: str, last_id: str
) -> Generator[tuple[str, Progress], None, None]:
    """What the stream says until it ends, with the id by which it can be taken up again."""
    headers = {"Accept": "text/event-stream"}
    if last_id:
        headers["Last-Event-ID"] = last_id
    with wire.open("GET", f"/requests/{request_id}/events", tries=1, headers=headers) as response:
        for event in events_of(_lines(wire.url, response.iter_bytes())):
            with suppress(ValidationError):  # an event of a kind that is not known here
                yield event.id, Progress.model_validate_json(event.data)


def _lines(url: str, pieces: Iterable[bytes]) -> Iterator[str]:
    """The lines of a stream, of which none is without an end, nor an event."""
    rest, size = b"", 0
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            text = line.removesuffix(b"\r").decode(errors="replace")
            size = size + len(line) if text else 0
            yield text
        if size + len(rest) > LONGEST_EVENT:
            raise not_pixmill(url, "its events have no end")


def events_of(lines: Iterable[str]) -> Iterator[Event]:
    """Read server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

    An event that is cut short is dropped, as that page demands.
    """
    data: list[str] = []
    last_id = ""
    for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield Event(last_id, "\n".join(data))
            data = []
        elif name == "data":
            data.append(value)
        elif name == "id" and "\0" not in value:
            last_id = value

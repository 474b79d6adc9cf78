"""Leases: what a worker holds while it works, and what follows when it stops holding it.

A lease that runs out is a loss: its worker died, hangs, or was cut off. Most losses have nothing to
do with the images, so the work is simply offered again. Work that is lost again and again may hold
an image that kills its worker; the rules here find that one image and spare its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pixmill.core.errors import ImageErrorCode
from pixmill.core.model import Failure

LOSSES_BEFORE_ALONE = 3
"""A shard lost this often is taken image by image, by a worker that does nothing else meanwhile."""

STRIKES_BEFORE_CRASH = 3
"""An image in hand at this many deaths of a worker that held nothing else is their cause.

Such deaths can be chance (a deployment, an operator, a power cut); three in a row with the same
image in hand, which is tried last after each, cannot.
"""

LOSSES_BEFORE_GIVING_UP = 5
"""An ingest or a finish lost this often fails its request instead of killing workers for ever.

A purge is never given up: what was deleted must go.
"""

MOST_REQUESTS, MOST_TOLD = 32, 16
"""Of how many requests, and how many pieces of each, workers are told before some are claimed.

So few that a broker never holds a backlog: what is told of would be claimed in the order of its
messages, and a new request would wait for all of them.
"""


class Work(StrEnum):
    """The kinds of work that are claimed, in the order in which a worker prefers them."""

    FINISH = "finish"
    INGEST = "ingest"
    PURGE = "purge"
    SHARD = "shard"


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to do one piece of work, until it runs out or is taken back.

    ``number`` tells the shards of a request apart (0 for the other kinds); a shard's images have
    the sequences ``first`` to ``last``. ``alone`` asks for one image at a time and nothing beside
    it. ``token`` is what a write must show: whoever holds an older one is fenced off.
    """

    work: Work
    request_id: str
    number: int
    first: int
    last: int
    alone: bool
    token: str


@dataclass(frozen=True, slots=True)
class Hint:
    """The name of work that can be claimed, as a broker's message tells a worker of it.

    It is no more than a hint: by the time it arrives, the work may be done, or somebody else's.
    """

    work: Work
    request_id: str
    number: int


@dataclass(frozen=True, slots=True)
class LostLease:
    """A lease that ran out: how often its work had been lost before, and the image last in hand.

    ``trying`` is the sequence of that image and ``strikes`` its count, known only for work that
    was done alone.
    """

    lease: Lease
    losses: int
    trying: int | None = None
    strikes: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of lost work: how it is offered again, and the image it is blamed on, if any."""

    alone: bool
    crashed: Failure | None = None
    give_up: str | None = None


def judge(lost: LostLease) -> Verdict:
    """Decide what follows from one more loss."""
    losses = lost.losses + 1
    if lost.lease.work in {Work.INGEST, Work.FINISH} and losses >= LOSSES_BEFORE_GIVING_UP:
        return Verdict(
            alone=False,
            give_up=f"The {lost.lease.work} ended its worker {losses} times; see the workers' log.",
        )
    if lost.trying is not None and lost.strikes + 1 >= STRIKES_BEFORE_CRASH:
        return Verdict(alone=True, crashed=CRASHED)
    return Verdict(alone=lost.lease.work is Work.SHARD and losses >= LOSSES_BEFORE_ALONE)


CRASHED = Failure(
    ImageErrorCode.WORKER_CRASH,
    "Every worker that took this image died of it. Check the file, or leave it out.",
)

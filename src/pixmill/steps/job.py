"""One image on its way through a worker, and how hard a worker works."""

from __future__ import annotations

from dataclasses import dataclass

from pixmill.core.errors import ImageError
from pixmill.core.model import Failure, Fetched, Image, Picture, Request
from pixmill.steps.process import Result, discard, original_of
from pixmill.steps.recorder import OpenShard

OVERLOADED = {429, 503}
"""HTTP statuses by which a host asks for fewer requests (RFC 6585, RFC 9110)."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How hard a worker works.

    At most ``in_hand`` images are on their way at once, ``downloads_per_host`` of them from one
    host. Retries are waited for up to ``longest_wait`` seconds. Of each request, the sources of the
    first ``originals`` images are kept.
    """

    in_hand: int = 80
    downloads_per_host: int = 32
    longest_wait: float = 120.0
    originals: int = 0


@dataclass(eq=False, slots=True)
class Job:
    """An image on its way: the shard it belongs to, and what was spent on it so far.

    ``source`` is what was fetched in the attempt that began at ``started``.
    """

    shard: OpenShard
    image: Image
    request: Request
    host: str
    attempts: int = 0
    seconds: float = 0.0
    started: float = 0.0
    source: Fetched | None = None

    def __str__(self) -> str:
        return f"{self.image.request_id}/{self.image.sequence}"

    def let_go(self) -> None:
        """Remove the source, if there is one."""
        source, self.source = self.source, None
        if source:
            discard(source)

    def result(self, made: Picture | Failure, now: float, *, originals: int) -> Result:
        """What came of it; with its source, if it is one of the first ``originals`` images."""
        original, size = None, 0
        if self.source:
            size = self.source.size
            if isinstance(made, Picture) and self.image.sequence <= originals:
                original = original_of(self.source)
        seconds = self.seconds + now - self.started
        return Result(self.image, made, size, self.attempts, seconds, original)


def plea(ended: object) -> tuple[bool, float | None]:
    """Whether a host asks for fewer requests by how a fetch ended, and for how many seconds."""
    if isinstance(ended, ImageError):
        return ended.http_status in OVERLOADED, ended.retry_after
    return False, None

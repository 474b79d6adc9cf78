"""The pixel children of one thread: images are queued, answers collected, deaths put right."""

from __future__ import annotations

import math
from collections import deque
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from pixmill.core.errors import ImageError, ImageErrorCode, PixelsUnavailable
from pixmill.core.model import Fetched, Notice, Picture
from pixmill.core.options import Options
from pixmill.io.codec.limits import PixelLimits
from pixmill.io.loop import Loop
from pixmill.io.pixel_frames import Frame, pack_header, unpack_header
from pixmill.io.pixel_line import PixelLine, Question
from pixmill.io.pixel_process import ChildLimits, Death

T = TypeVar("T")

_AHEAD_SECONDS = 0.04
"""Work that a child is given ahead, so that it does not idle while its parent sleeps."""

_LEAST_AHEAD, _MOST_AHEAD = 2, 32
"""Images in a child's hands, the one in work included. Few, since they wait behind each other."""

_MOST_DETOURS = 10
"""How often an image may find its child gone through no image's fault. A child that an image ended
does not count: each image ends two at most, and a sheet may hold any number of such images."""

_SPARE_STARTS = 2
"""Starts that may fail in a row beyond one for each child: whoever kills all that are starting, or
lets them starve, ends no worker by it."""

_LOOK_SECONDS = 0.005
"""How often it is looked whether a dying child has ended."""

_CHECK_SECONDS = 1.0
"""How often children with something in their hands are looked at."""

_LONGEST_GAP = 2.0
"""Time that counts between two looks. Beyond it this process was frozen, or starved: its children
may have been too, and what they owe is not overdue for that."""


class Comparison(NamedTuple):
    """The same part of a picture before and after, as two JPEG files."""

    before: bytes
    after: bytes


Ended = tuple[T, Picture | Comparison | Exception]


class PixelChildren(Generic[T]):
    """At most ``count`` processes that decode and encode for one thread, which never waits for any.

    Each image is known by its ticket. The thread turns the loop, then asks for what has ``ended``.
    Children start when there is work. One that dies is replaced; the image it died of is tried once
    more and then fails alone; those that were queued behind it are sent elsewhere.
    """

    def __init__(
        self, count: int, pixel_limits: PixelLimits, child_limits: ChildLimits, loop: Loop
    ) -> None:
        self._count = count
        self._pixel_limits = pixel_limits
        self._child_limits = child_limits
        self._loop = loop
        self._lines: list[PixelLine[T]] = []
        self._dying: list[PixelLine[T]] = []
        self._queue: deque[Question[T]] = deque()
        self._starting: list[PixelLine[T]] = []  # those of the lines that were not ready yet
        self._started_ever = False
        self._failed_starts = 0  # since a child became ready
        self._looked: float | None = None

    def start(self) -> None:
        """Start all children ahead of the work. Raises PixelsUnavailable."""
        while len(self._lines) + len(self._dying) < self._count:
            self._start()

    def compress(self, ticket: T, fetched: Fetched, options: Options) -> None:
        """Queue an image."""
        if isinstance(fetched.body, bytes):
            question = Question(ticket, _compress_header(options), fetched.body)
        else:
            question = Question(ticket, _spilled_header(options, fetched.body), b"")
        self._queue.append(question)

    def compare(self, ticket: T, before: bytes, after: bytes) -> None:
        """Queue a pair of pictures of which the same part is to be shown."""
        header = pack_header({"split": len(before)})
        self._queue.append(Question(ticket, header, before + after))

    def ended(self, now: float) -> list[Ended[T]]:
        """What came of images; then give out new ones. Raises PixelsUnavailable."""
        self._judge(now)
        ended = [
            (question.ticket, self._understood(line, frame))
            for line in self._lines
            for question, frame in _taken(line)
        ]
        for line in [line for line in self._lines if line.gone]:
            self._lines.remove(line)
            self._dying.append(line)
        for line in [line for line in self._dying if line.over(now)]:
            self._dying.remove(line)
            ended += self._buried(line)
        self._give_out(now)
        return ended

    def patience(self, now: float) -> float:
        """Seconds after which to ask for what has ended though nothing happens."""
        if self._dying:
            return _LOOK_SECONDS
        left = min((line.seconds_left(now) for line in self._lines), default=math.inf)
        return left if left == math.inf else min(left, _CHECK_SECONDS)

    def busy_for(self) -> float:
        """Seconds for which every child has work at hand, as far as can be told."""
        spans = [(line.at_hand - 1) * line.seconds_each for line in self._lines]
        return 0.0 if self._dying else max(0.0, min(spans, default=0.0))

    def pids(self) -> list[int]:
        """The process ids of the children."""
        return [line.process.pid for line in self._lines]

    def close(self) -> None:
        """End all children."""
        for line in (*self._lines, *self._dying):
            line.close()
        self._lines.clear()
        self._dying.clear()

    def _judge(self, now: float) -> None:
        """Note who has become ready, and give up on those that take too long."""
        gap = 0.0 if self._looked is None else now - self._looked
        self._looked = now
        for line in self._lines:
            if gap > _LONGEST_GAP:
                line.excuse(gap - _LONGEST_GAP, now)
            if not line.gone and line.seconds_left(now) <= 0:
                line.look()  # it may be this process that is late
                if not line.gone and line.seconds_left(now) <= 0:
                    line.give_up()
        if any(line.ready for line in self._starting):
            self._starting = [line for line in self._starting if not line.ready]
            self._started_ever = True
            self._failed_starts = 0

    def _give_out(self, now: float) -> None:
        """Give each image to the child with the fewest, as long as one has too few."""
        if not self._queue:
            return
        self._start_one(now)
        takers = [line for line in self._lines if line.ready and not line.retiring]
        while self._queue and takers:
            line = min(takers, key=lambda line: len(line.questions))
            if len(line.questions) < _ahead(line):
                line.ask(self._queue.popleft())
            else:
                takers.remove(line)

    def _start(self) -> None:
        line: PixelLine[T] = PixelLine(self._pixel_limits, self._child_limits, self._loop)
        self._lines.append(line)
        self._starting.append(line)

    def _start_one(self, now: float) -> None:
        """Start a child where one is missing: one at a time, to see whether it can start."""
        for line in [line for line in self._lines if line.retiring and not line.questions]:
            line.dismiss()
            self._lines.remove(line)
            self._dying.append(line)
        staying = sum(not line.retiring for line in self._lines)
        if staying + len(self._dying) < self._count and not any(
            line.start_patience(now) for line in self._lines
        ):
            self._start()

    def _buried(self, line: PixelLine[T]) -> list[Ended[T]]:
        """Put right what a child left: blame the first image if need be, move the others."""
        left = line.questions
        failed: list[Ended[T]] = []
        try:
            if not line.ready:
                self._count_failed_start(line)
                return []
            death = line.verdict()
        finally:
            line.close()
        if death is None:
            for question in left or islice(self._queue, 1):  # it was not to reach it
                question.detours += 1
                if question.detours > _MOST_DETOURS:
                    raise PixelsUnavailable(
                        "The processes that handle pixels keep dying before they reach the image."
                    )
        else:
            left[0].deaths += 1
            if death.timed_out or left[0].deaths > 1:
                failed.append((left.popleft().ticket, _blame(death)))
        self._queue.extendleft(reversed(left))
        return failed

    def _count_failed_start(self, line: PixelLine[T]) -> None:
        """Raise PixelsUnavailable unless the next start may well succeed."""
        self._starting.remove(line)
        self._failed_starts += 1
        hopeless = line.refused and not self._started_ever
        if hopeless or self._failed_starts >= self._count + _SPARE_STARTS:
            raise line.failed_start()

    def _understood(self, line: PixelLine[T], frame: Frame) -> Picture | Comparison | Exception:
        try:
            reply = _reply(frame.header)
            if "retire" in reply:
                line.retiring = True
            if "code" in reply:
                return ImageError(ImageErrorCode(reply["code"]), reply["message"])
            if "split" in reply:
                return Comparison(frame.body[: reply["split"]], frame.body[reply["split"] :])
            return Picture(data=frame.body, **reply["picture"])
        except Exception as error:  # an answer without sense must cost its own image only
            return error


def _ahead(line: PixelLine[Any]) -> int:
    wanted = _AHEAD_SECONDS / max(line.seconds_each, 0.000_1)
    return round(min(_MOST_AHEAD, max(_LEAST_AHEAD, wanted)))


def _taken(line: PixelLine[T]) -> list[tuple[Question[T], Frame]]:
    answers, line.answers = line.answers, []
    return answers


@lru_cache(maxsize=64)
def _compress_header(options: Options) -> bytes:
    return pack_header({"options": options.to_json()})


def _spilled_header(options: Options, path: Path) -> bytes:
    return pack_header({"options": options.to_json(), "path": str(path)})


@lru_cache(maxsize=256)  # pictures of one size have the same header; nobody changes it
def _reply(header: bytes) -> dict[str, Any]:
    reply = unpack_header(header)
    if picture := reply.get("picture"):
        picture["notices"] = tuple(map(Notice, picture["notices"]))
    return reply


def _blame(death: Death) -> ImageError:
    if death.timed_out:
        return ImageError(
            ImageErrorCode.PROCESSING_TIMEOUT,
            f"Processing the image {death.reason}, so it was stopped. Make the image smaller or"
            " choose a lower effort.",
        )
    return ImageError(
        ImageErrorCode.WORKER_CRASH,
        f"Processing the image {death.reason}, twice. {death.advice}",
    )

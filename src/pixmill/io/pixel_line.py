"""The line to one pixel child: questions go out, answers come in, and nobody waits for either."""

from __future__ import annotations

import contextlib
import math
import select
import socket
import time
from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from pixmill.core.errors import PixelsUnavailable
from pixmill.io.codec.limits import PixelLimits
from pixmill.io.loop import Loop
from pixmill.io.pixel_frames import Frame, FrameBuffer, frame_parts, unsent
from pixmill.io.pixel_process import ChildLimits, ChildProcess, Death

T = TypeVar("T")

_START_SECONDS = 60.0
_START_ALONE_SECONDS = 5.0
"""How long others wait for a start to succeed before they are started beside it."""

_DYING_SECONDS = 1.0
_SOCKET_BUFFER = 1 << 20
"""Holds queued images and finished ones, so that neither side waits for the other's scheduling.
The kernel caps it (net.core.wmem_max)."""

_FIRST_GUESS = 0.005
"""Seconds that an image is taken to need before one has been seen."""

_NEWEST = 0.2
"""The share of the newest image in what the next is taken to need."""


@dataclass(eq=False, slots=True)
class Question(Generic[T]):
    """What a child is asked about one image, which the ticket names.

    ``deaths`` counts children that died of it, ``detours`` those that died before they reached it.
    """

    ticket: T
    header: bytes
    body: bytes
    deaths: int = 0
    detours: int = 0


class PixelLine(Generic[T]):
    """A child from its start to its end.

    It answers in the order in which it was asked; ``answers`` are taken by who turns the loop.
    Once ``gone`` it answers no more: when it is ``over``, ``verdict`` says whose fault that was.
    """

    def __init__(self, pixels: PixelLimits, limits: ChildLimits, loop: Loop) -> None:
        """Start the child. Raises PixelsUnavailable."""
        self._limits = limits
        self._loop = loop
        self.questions: deque[Question[T]] = deque()
        self.answers: list[tuple[Question[T], Frame]] = []
        self.ready = self.gone = self.retiring = False
        self.seconds_each = _FIRST_GUESS
        self._outgoing: deque[list[bytes | memoryview]] = deque()
        self._full = False  # the socket takes no more at the moment
        self._incoming = FrameBuffer()
        self._since = time.monotonic()  # when the question in work came to its turn
        self._overdue = False
        self._socket, theirs = socket.socketpair()
        for end in (self._socket, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
        self._socket.settimeout(0)
        with theirs:
            try:
                self.process = ChildProcess(pixels, limits, theirs)
            except PixelsUnavailable:
                self._socket.close()
                raise
        self._watch(select.EPOLLIN)

    @property
    def at_hand(self) -> int:
        """Questions that the child has, or can take from its socket without us."""
        return len(self.questions) - len(self._outgoing)

    def ask(self, question: Question[T]) -> None:
        """Queue a question."""
        if not self.questions:
            self._since = time.monotonic()
        self.questions.append(question)
        self._outgoing.append([*frame_parts(question.header, question.body)])
        if not self._full:
            self._push()

    def seconds_left(self, now: float) -> float:
        """How much longer its start, or the image in work, may take."""
        if not self.ready:
            return self._since + _START_SECONDS - now
        if not self.questions:
            return math.inf
        return self._since + self._limits.wall_seconds - now

    def start_patience(self, now: float) -> float:
        """Seconds for which no other child is started, to see first whether this one can."""
        return 0.0 if self.ready else max(0.0, self._since + _START_ALONE_SECONDS - now)

    def excuse(self, seconds: float, now: float) -> None:
        """Do not count time in which this process, and maybe the child, stood still."""
        self._since = min(now, self._since + seconds)

    def look(self) -> None:
        """Take what the child has said since the loop was turned."""
        self._on_event(self._socket.fileno(), select.EPOLLIN)

    def give_up(self) -> None:
        """End the child, which has taken too long."""
        self._overdue = True
        self.process.kill()
        self._leave()

    def dismiss(self) -> None:
        """Let a child go that has nothing in its hands."""
        self._leave()
        with contextlib.suppress(OSError):  # gone already
            self._socket.shutdown(socket.SHUT_RDWR)

    def over(self, now: float) -> bool:
        """Whether the process of a child that is gone has ended; it is helped after a while."""
        if self.process.status is None and now > self._since + _DYING_SECONDS:
            self.process.kill()
        return self.process.status is not None

    def verdict(self) -> Death | None:
        """Why the child ended, if it died of the image in work."""
        status = self.process.status or 0
        if status == 0 or not self.ready or not self.at_hand:
            return None
        return self.process.death(status, overdue=self._overdue)

    @property
    def refused(self) -> bool:
        """Whether a child that never became ready ended by itself: something is missing."""
        return not self.ready and (self.process.status or 0) > 0

    def failed_start(self) -> PixelsUnavailable:
        """Why a child never became ready."""
        return PixelsUnavailable(
            f"The process that handles pixels cannot start ({self.process.last_words()})."
            " Run `pixmill doctor` to see what is missing."
        )

    def close(self) -> None:
        """End the child, which holds nothing that could be lost."""
        self._leave()
        self.process.end()
        self._socket.close()

    def _on_event(self, _descriptor: int, events: int) -> None:
        try:
            if events & ~select.EPOLLOUT:
                self._pull()
        except (EOFError, OSError):
            self._leave()
        else:
            if events & select.EPOLLOUT:
                self._push()

    def _pull(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._incoming.fill(self._socket)
        for frame in self._incoming.frames():
            if self.ready:
                if not self.questions:
                    raise EOFError  # an answer that nobody has asked for: it has lost its mind
                self.answers.append((self.questions.popleft(), frame))
                seconds = frame.microseconds / 1_000_000
                self.seconds_each += (seconds - self.seconds_each) * _NEWEST
            self.ready = True
            self._since = time.monotonic()

    def _push(self) -> None:
        """Send what the socket takes; the loop tells when it takes more."""
        full = False
        try:
            while self._outgoing:
                parts = self._outgoing[0]
                if rest := unsent(parts, self._socket.sendmsg(parts)):
                    self._outgoing[0] = rest
                else:
                    self._outgoing.popleft()
        except BlockingIOError:
            full = True
        except OSError:  # it is dying: its last answers come yet, and then the end
            pass
        if full is not self._full:
            self._full = full
            self._watch(select.EPOLLIN | select.EPOLLOUT if full else select.EPOLLIN)

    def _watch(self, events: int) -> None:
        self._loop.watch(self._socket.fileno(), events, self._on_event)

    def _leave(self) -> None:
        if not self.gone:
            self.gone = True
            self._since = time.monotonic()
            self._loop.unwatch(self._socket.fileno())

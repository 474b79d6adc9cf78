"""The pool of pixel children: images go in from any thread, and no image can harm another."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from pixmill.core.errors import ImageError, ImageErrorCode, PixelsUnavailable
from pixmill.core.model import Fetched, Notice, Picture
from pixmill.core.options import Options
from pixmill.io.codec.limits import PixelLimits
from pixmill.io.pixel_frames import Header, pack_header, unpack_header
from pixmill.io.pixel_process import ChildDied, ChildLimits, ChildProcess, GoElsewhere

__all__ = ["ChildLimits", "PixelLimits", "PixelPool"]

_IN_HANDS = 3
"""Images given to one child at a time: one in work, the others waiting in its socket, so that a
child never idles while its parent's threads get round to the next. With 64 busy threads a child
of 2 ms images idles for a quarter of its time at one, 8 % at two and 3 % at three."""

_MOST_DETOURS = 10
"""How often an image may find its child gone through no image's fault. A child that an image ended
does not count: each image ends two at most, and a sheet may hold any number of such images."""


class PixelPool:
    """``children`` processes that decode and encode. Thread-safe; every call blocks.

    A child that dies is replaced. The image it died of is tried once more in a fresh child and
    then fails alone; the one that was queued behind it is sent elsewhere.
    """

    def __init__(
        self,
        children: int,
        pixel_limits: PixelLimits | None = None,
        child_limits: ChildLimits | None = None,
    ) -> None:
        """Start the children. Raises PixelsUnavailable if they cannot start."""
        pixels, costs = pixel_limits or PixelLimits(), child_limits or ChildLimits()
        self._closed = False
        self._seats: list[_Seat] = []
        self._free = threading.Semaphore(children * _IN_HANDS)
        self._choosing = threading.Lock()
        try:
            for _ in range(children):
                self._seats.append(_Seat(lambda: ChildProcess(pixels, costs)))
            for seat in self._seats:
                seat.child()
        except PixelsUnavailable:
            self.close()
            raise

    def compress(self, fetched: Fetched, options: Options) -> Picture:
        """Compress one image. Raises ImageError, or PixelsUnavailable when no image is to blame."""
        if isinstance(fetched.body, bytes):
            header, body = _compress_header(options), fetched.body
        else:
            header, body = _spilled_header(options, fetched.body), b""
        reply, data = self._ask(header, body)
        seen = reply["picture"]
        seen["notices"] = tuple(map(Notice, seen["notices"]))
        return Picture(data=data, **seen)

    def compare(self, before: bytes, after: bytes) -> tuple[bytes, bytes]:
        """The same part of both pictures, as two JPEG files to look at. Raises like compress()."""
        reply, data = self._ask(pack_header({"split": len(before)}), before + after)
        return data[: reply["split"]], data[reply["split"] :]

    def close(self) -> None:
        """End all children. Calls that still wait raise PixelsUnavailable."""
        self._closed = True
        for seat in self._seats:
            seat.clear()

    def _ask(self, header: bytes, body: bytes) -> tuple[Header, bytes]:
        deaths = detours = 0
        while True:
            try:
                reply, data = self._ask_once(header, body)
            except GoElsewhere as gone:
                detours += not gone.blamed
                if detours > _MOST_DETOURS:
                    raise PixelsUnavailable(
                        "The processes that handle pixels keep dying before they reach the image."
                    ) from None
            except ChildDied as death:
                deaths += 1
                if death.timed_out or deaths > 1:
                    raise _blame(death) from death
            else:
                break
        if "code" in reply:
            raise ImageError(ImageErrorCode(reply["code"]), reply["message"])
        return reply, data

    def _ask_once(self, header: bytes, body: bytes) -> tuple[Header, bytes]:
        with self._free:
            with self._choosing:
                seat = min(self._seats, key=lambda seat: seat.load)
                seat.load += 1
            try:
                if self._closed:
                    raise PixelsUnavailable("The pool of pixel processes was closed.")
                child = seat.child()
                packed, data = child.ask(header, body)
            finally:
                with self._choosing:
                    seat.load -= 1
        reply = unpack_header(packed)
        if "retire" in reply:
            child.retire()
        return reply, data


class _Seat:
    """The place of one child in the pool, filled anew when its child is gone."""

    def __init__(self, start: Callable[[], ChildProcess]) -> None:
        self.load = 0
        self._start = start
        self._filling = threading.Lock()
        self._cleared = False
        self._child = start()
        self._ready = False

    def child(self) -> ChildProcess:
        """A child that can be asked. Raises PixelsUnavailable."""
        with self._filling:
            if self._cleared:
                raise PixelsUnavailable("The pool of pixel processes was closed.")
            if self._child.gone or self._child.retiring:
                self._child, self._ready = self._start(), False
            if not self._ready:
                self._child.wait_until_ready()
                self._ready = True
            return self._child

    def clear(self) -> None:
        """End the child and never seat another."""
        with self._filling:
            self._cleared = True
            self._child.end()


@lru_cache(maxsize=64)
def _compress_header(options: Options) -> bytes:
    return pack_header({"options": options.to_json()})


def _spilled_header(options: Options, path: Path) -> bytes:
    return pack_header({"options": options.to_json(), "path": str(path)})


def _blame(death: ChildDied) -> ImageError:
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

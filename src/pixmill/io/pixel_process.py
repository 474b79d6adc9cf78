"""One pixel child as its parent sees it: a process, a socket, and the images in its hands."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections import deque
from dataclasses import dataclass
from typing import IO

from pixmill.core.errors import PixelsUnavailable
from pixmill.io.codec.limits import PixelLimits
from pixmill.io.pixel_frames import OUT_OF_MEMORY, FrameReader, send_frame


@dataclass(frozen=True, slots=True)
class ChildLimits:
    """What one image may cost: CPU and wall-clock seconds, and its process's bytes of data.

    50 megapixels need 0.2 to 0.7 GB as JPEG, 1 GB as WebP with transparency and 1.5 GB as AVIF;
    only AVIF with transparency needs more than the default allows (2.3 GB at 50 megapixels).
    Every ``check_after`` images a child that holds ``most_growth`` bytes more than at its start
    makes way for a fresh one.
    """

    cpu_seconds: float = 20.0
    wall_seconds: float = 60.0
    memory_bytes: int = 2048 * 1024 * 1024
    check_after: int = 2_000
    most_growth: int = 256 * 1024 * 1024


class ChildDied(Exception):
    """The child died of the image in its hands. ``timed_out``: it was ended for taking too long."""

    def __init__(
        self,
        reason: str,
        *,
        timed_out: bool = False,
        advice: str = "The file may be damaged or made to do harm.",
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.timed_out = timed_out
        self.advice = advice


class GoElsewhere(Exception):
    """The child is gone, for no fault of this image. ``blamed``: another image was its end."""

    def __init__(self, *, blamed: bool = False) -> None:
        super().__init__()
        self.blamed = blamed


# Only what a Python process needs to start: a child that reads hostile bytes has no use for
# credentials. libvips reads its own variables at import.
_INHERITED = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "TMPDIR", "LANG", "LC_ALL")
_ENVIRONMENT = {
    "VIPS_CONCURRENCY": "1",  # one child per core is all the parallelism there is
    "VIPS_BLOCK_UNTRUSTED": "1",
    "OPENBLAS_NUM_THREADS": "1",  # or importing numpy reserves a stack and a heap per core
    "MALLOC_ARENA_MAX": "2",
    # Memory of one image serves the next instead of going back to the kernel in between.
    "MALLOC_MMAP_THRESHOLD_": str(16 * 1024 * 1024),
    "MALLOC_TRIM_THRESHOLD_": str(64 * 1024 * 1024),
}
_START_SECONDS = 60.0
_DYING_SECONDS = 1.0
_SOCKET_BUFFER = 1 << 20
"""Holds a queued image and a finished one, so that neither side waits for the other's scheduling.
The kernel caps it (net.core.wmem_max)."""


class ChildProcess:
    """A living child. Any thread may ask; answers come in the order of the questions."""

    def __init__(self, pixel_limits: PixelLimits, limits: ChildLimits) -> None:
        self._limits = limits
        self._sending = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()
        self._bookkeeping = threading.Lock()
        self.gone = False
        self.retiring = False
        self._blamed = False
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed once ready
        self._socket, theirs = socket.socketpair()
        self._answers = FrameReader(self._socket)  # read by whoever's turn it is
        for end in (self._socket, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
        try:
            self._process = _start(pixel_limits, limits, theirs, self._errors)
        except OSError as error:
            self._socket.close()
            self._errors.close()
            raise PixelsUnavailable(
                f"The process that handles pixels cannot start ({error.strerror})."
            ) from error
        finally:
            theirs.close()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def wait_until_ready(self) -> None:
        """Return when the child can take images. Raises PixelsUnavailable if it cannot start."""
        try:
            self._set_timeout(socket.SO_RCVTIMEO, _START_SECONDS)
            self._answers.read()
        except (EOFError, OSError) as error:
            self._reap(_DYING_SECONDS)
            self._errors.seek(0)
            last = self._errors.read().decode(errors="replace").strip().splitlines()[-1:]
            self.end()
            raise PixelsUnavailable(
                f"The process that handles pixels cannot start ({''.join(last) or 'no reason'})."
                " Run `pixmill doctor` to see what is missing."
            ) from error
        self._errors.close()
        # The kernel keeps the time: a thread that waits for its answer needs no other timer.
        self._set_timeout(socket.SO_RCVTIMEO, self._limits.wall_seconds)
        # A sender may first have to wait for the images before its own.
        self._set_timeout(socket.SO_SNDTIMEO, 3 * self._limits.wall_seconds)

    def ask(self, header: bytes, body: bytes) -> tuple[bytes, bytes]:
        """Send a question, wait for its turn, return the answer. Raises ChildDied, GoElsewhere."""
        turn = threading.Lock()
        with self._sending:
            sent = self._send(turn, header, body)
        turn.acquire()
        try:
            if self.gone:
                raise GoElsewhere(blamed=self._blamed)
            return self._answers.read()
        except (EOFError, OSError) as error:
            overdue = isinstance(error, BlockingIOError)
            closed_by_us = self.gone
            self.gone = True
            status = self._reap(0 if overdue else _DYING_SECONDS)
            if closed_by_us or not sent or status == 0:
                raise GoElsewhere from error
            self._blamed = True
            raise self._diagnose(status, overdue=overdue) from error
        finally:
            self._pass_on()

    def retire(self) -> None:
        """Take no more questions; go when those in hand are answered."""
        with self._bookkeeping:
            self.retiring = True
            idle = not self._waiting
        if idle:
            self.end()

    def end(self) -> None:
        """End the process, which holds nothing that could be lost.

        Whoever still waits for an answer is told to go elsewhere.
        """
        with self._bookkeeping:
            self.gone = True
            idle = not self._waiting
        with contextlib.suppress(OSError):  # closed already
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reap(0)
        if idle:
            self._socket.close()
            self._errors.close()

    def _send(self, turn: threading.Lock, header: bytes, body: bytes) -> bool:
        with self._bookkeeping:
            if self.gone or self.retiring:
                raise GoElsewhere(blamed=self._blamed)
            if self._waiting:
                turn.acquire()  # the one before releases it
            self._waiting.append(turn)
        try:
            send_frame(self._socket, header, body)
        except OSError:
            return False  # whose fault it is shows when the answers before this one are read
        return True

    def _pass_on(self) -> None:
        with self._bookkeeping:
            self._waiting.popleft()
            if self._waiting:
                self._waiting[0].release()
                return
            finished = self.gone or self.retiring
        if finished:
            self.end()

    def _reap(self, grace: float) -> int:
        try:
            return self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _set_timeout(self, direction: int, seconds: float) -> None:
        timeval = struct.pack("@ll", int(seconds), int(seconds % 1 * 1_000_000))
        self._socket.setsockopt(socket.SOL_SOCKET, direction, timeval)

    def _diagnose(self, status: int, *, overdue: bool) -> ChildDied:
        limits = self._limits
        if overdue:
            return ChildDied(f"took longer than {limits.wall_seconds:g} seconds", timed_out=True)
        if status == -signal.SIGPROF:
            return ChildDied(
                f"took more than {limits.cpu_seconds:g} seconds of CPU", timed_out=True
            )
        if status == OUT_OF_MEMORY:
            return ChildDied(
                f"needed more than {limits.memory_bytes / 2**20:,.0f} MiB of memory",
                advice="Make the image smaller first.",
            )
        if status < 0:
            return ChildDied(f"ended its process with {signal.Signals(-status).name}")
        return ChildDied(f"ended its process with status {status}")


def _start(
    pixels: PixelLimits, limits: ChildLimits, theirs: socket.socket, errors: IO[bytes]
) -> subprocess.Popen[bytes]:
    arguments = {
        "--socket": theirs.fileno(),
        "--cpu-seconds": limits.cpu_seconds,
        "--memory-bytes": limits.memory_bytes,
        "--max-pixels": pixels.max_pixels,
        "--max-side": pixels.max_side,
        "--check-after": limits.check_after,
        "--most-growth": limits.most_growth,
    }
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    # -P: the working directory is no place to import from.
    command = [sys.executable, "-P", "-m", "pixmill.io.pixel_child"]
    return subprocess.Popen(
        [*command, *(f"{name}={value}" for name, value in arguments.items())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        pass_fds=[theirs.fileno()],
        process_group=0,  # Ctrl-C in a terminal reaches the parent alone
        env=inherited | _ENVIRONMENT,
    )

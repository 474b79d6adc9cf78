"""The process of one pixel child: how it starts, and what its end says."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass

from pixmill.core.errors import PixelsUnavailable
from pixmill.io.codec.limits import PixelLimits
from pixmill.io.pixel_frames import OUT_OF_MEMORY


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


@dataclass(frozen=True, slots=True)
class Death:
    """A child died of the image in its hands. ``timed_out``: it was ended for taking too long."""

    reason: str
    timed_out: bool = False
    advice: str = "The file may be damaged or made to do harm."


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


class ChildProcess:
    """A process that speaks through a socket. Nothing here waits for it, ``end`` excepted."""

    def __init__(self, pixels: PixelLimits, limits: ChildLimits, theirs: socket.socket) -> None:
        """Start it with its end of the socket. Raises PixelsUnavailable."""
        self._limits = limits
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        try:
            self._process = self._start(pixels, theirs)
        except OSError as error:
            self._errors.close()
            raise PixelsUnavailable(
                f"The process that handles pixels cannot start ({error.strerror})."
            ) from error

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status, a signal's number below zero; None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """Let it end now."""
        self._process.kill()

    def end(self) -> None:
        """Kill it, see it off, and let go of all that was its."""
        self._process.kill()
        self._process.wait()
        self._errors.close()

    def last_words(self) -> str:
        """The last line that it wrote before it was ready, or what ended it without one."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        if lines:
            return lines[-1]
        status = self.status or 0
        return f"ended with {signal.Signals(-status).name}" if status < 0 else "no reason"

    def death(self, status: int, *, overdue: bool) -> Death:
        """Why it ended, if the image in work is to blame for it."""
        limits = self._limits
        if overdue:
            return Death(f"took longer than {limits.wall_seconds:g} seconds", timed_out=True)
        if status == -signal.SIGPROF:
            return Death(f"took more than {limits.cpu_seconds:g} seconds of CPU", timed_out=True)
        if status == OUT_OF_MEMORY:
            return Death(
                f"needed more than {limits.memory_bytes / 2**20:,.0f} MiB of memory",
                advice="Make the image smaller first.",
            )
        if status < 0:
            return Death(f"ended its process with {signal.Signals(-status).name}")
        return Death(f"ended its process with status {status}")

    def _start(self, pixels: PixelLimits, theirs: socket.socket) -> subprocess.Popen[bytes]:
        limits = self._limits
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
            stderr=self._errors,
            pass_fds=[theirs.fileno()],
            process_group=0,  # Ctrl-C in a terminal reaches the parent alone
            env=inherited | _ENVIRONMENT,
        )

"""A pixel child: takes one image after the other from its parent, within its own caps."""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import resource
import signal
import socket
import sys
from dataclasses import fields
from functools import lru_cache
from pathlib import Path

import pyvips

from pixmill.core.errors import ImageError, ImageErrorCode
from pixmill.core.model import Picture
from pixmill.core.options import Options, parse_options
from pixmill.io.codec.compress import PixelLimits, compare, compress
from pixmill.io.pixel_frames import (
    OUT_OF_MEMORY,
    FrameReader,
    Header,
    pack_header,
    send_frame,
    unpack_header,
)

_PICTURE_FIELDS = [field.name for field in fields(Picture) if field.name != "data"]


def main() -> None:
    """Serve images until the parent closes its end, then go without ceremony."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, kind in (
        ("--socket", int),
        ("--cpu-seconds", float),
        ("--memory-bytes", int),
        ("--max-pixels", int),
        ("--max-side", int),
        ("--check-after", int),
        ("--most-growth", int),
    ):
        parser.add_argument(name, type=kind, required=True)
    arguments = parser.parse_args()
    _keep_to_ourselves(arguments.memory_bytes)
    connection = socket.socket(fileno=arguments.socket)
    with contextlib.suppress(EOFError, ConnectionError):
        _serve(connection, arguments)
    os._exit(0)  # no destructors: nothing is held that the kernel does not take back


def _keep_to_ourselves(memory_bytes: int) -> None:
    """Set what cannot be undone by an image: limits, and signals that are the parent's affair."""
    # Ctrl-C and a stop of the whole group reach the parent too, which ends us when it is ready.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # DATA counts what may be written to; AS would also count libraries and file mappings.
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))


def _serve(connection: socket.socket, arguments: argparse.Namespace) -> None:
    pyvips.cache_set_max(0)  # no two images are alike
    limits = PixelLimits(arguments.max_pixels, arguments.max_side)
    send_frame(connection, pack_header({"ready": True}), b"")
    _silence_stderr()
    questions = FrameReader(connection)
    gc.freeze()  # what is loaded by now stays: no need to look at it again and again
    images = 0
    start = _memory_in_use()
    while True:
        header, body = questions.read()
        # Counts the CPU of all our threads, and ends us when it is used up.
        signal.setitimer(signal.ITIMER_PROF, arguments.cpu_seconds)
        reply, result = _answer(unpack_header(header), body, limits)
        signal.setitimer(signal.ITIMER_PROF, 0)
        del body
        images += 1
        if images % arguments.check_after == 0:
            grown = _memory_in_use() - start
            if grown > arguments.most_growth:
                reply["retire"] = True
        send_frame(connection, pack_header(reply), result)


def _answer(header: Header, body: bytes, limits: PixelLimits) -> tuple[Header, bytes]:
    try:
        if "split" in header:
            return _compare(body[: header["split"]], body[header["split"] :])
        if "path" in header:
            body = Path(header["path"]).read_bytes()
        return _compress(body, _options(pack_header(header["options"])), limits)
    except ImageError as error:
        return {"code": error.code, "message": error.message}, b""
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except Exception as error:  # our own fault must cost one image, not a worker
        message = f"The image met an unexpected fault ({type(error).__name__}). Please report it."
        return {"code": ImageErrorCode.WORKER_CRASH, "message": message}, b""


def _compress(body: bytes, options: Options, limits: PixelLimits) -> tuple[Header, bytes]:
    picture = compress(body, options, limits)
    return {"picture": {name: getattr(picture, name) for name in _PICTURE_FIELDS}}, picture.data


def _compare(before: bytes, after: bytes) -> tuple[Header, bytes]:
    first, second = compare(before, after)
    return {"split": len(first)}, first + second


@lru_cache(maxsize=32)
def _options(packed: bytes) -> Options:
    return parse_options(unpack_header(packed))


def _silence_stderr() -> None:
    """Codecs print warnings that nobody could tell apart; a full pipe would even stop us."""
    sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _memory_in_use() -> int:
    """Resident bytes (the second field of statm is in pages)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    main()

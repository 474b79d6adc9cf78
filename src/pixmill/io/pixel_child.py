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
import time
from dataclasses import fields
from functools import lru_cache
from itertools import count
from operator import attrgetter
from pathlib import Path

import pyvips

from pixmill.core.errors import ImageError, ImageErrorCode
from pixmill.core.model import Picture
from pixmill.core.options import Options, parse_options
from pixmill.io.codec.compress import PixelLimits, compare, compress
from pixmill.io.pixel_frames import (
    OUT_OF_MEMORY,
    pack_header,
    read_frame,
    send_frame,
    unpack_header,
)

_SEEN = [field.name for field in fields(Picture) if field.name != "data"]
_seen_of = attrgetter(*_SEEN)


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
    send_frame(connection, pack_header({"ready": True}), b"", 0)
    _silence_stderr()
    gc.freeze()  # what is loaded by now stays: no need to look at it again and again
    start = _memory_in_use()
    for images in count(1):
        header, body = read_frame(connection)
        began = time.perf_counter()
        # Counts the CPU of all our threads, and ends us when it is used up.
        signal.setitimer(signal.ITIMER_PROF, arguments.cpu_seconds)
        reply, result = _answer(header, body, limits)
        signal.setitimer(signal.ITIMER_PROF, 0)
        del body
        if images % arguments.check_after == 0:
            grown = _memory_in_use() - start
            if grown > arguments.most_growth:
                reply = pack_header(unpack_header(reply) | {"retire": True})
        microseconds = min(int((time.perf_counter() - began) * 1_000_000), 0xFFFF_FFFF)
        send_frame(connection, reply, result, microseconds)


def _answer(header: bytes, body: bytes, limits: PixelLimits) -> tuple[bytes, bytes]:
    try:
        if options := _options(header):
            return _compress(body, options, limits)
        question = unpack_header(header)
        if "split" in question:
            return _compare(body[: question["split"]], body[question["split"] :])
        return _compress(
            Path(question["path"]).read_bytes(), parse_options(question["options"]), limits
        )
    except ImageError as error:
        return pack_header({"code": error.code, "message": error.message}), b""
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except Exception as error:  # our own fault must cost one image, not a worker
        message = f"The image met an unexpected fault ({type(error).__name__}). Please report it."
        return pack_header({"code": ImageErrorCode.WORKER_CRASH, "message": message}), b""


def _compress(body: bytes, options: Options, limits: PixelLimits) -> tuple[bytes, bytes]:
    picture = compress(body, options, limits)
    return _seen(_seen_of(picture)), picture.data


def _compare(before: bytes, after: bytes) -> tuple[bytes, bytes]:
    first, second = compare(before, after)
    return pack_header({"split": len(first)}), first + second


# Headers are the same for image after image: what they mean is worked out once.


@lru_cache(maxsize=32)
def _options(header: bytes) -> Options | None:
    """The options of a question that has nothing else in its header."""
    question = unpack_header(header)
    return parse_options(question["options"]) if question.keys() == {"options"} else None


@lru_cache(maxsize=256)
def _seen(values: tuple[object, ...]) -> bytes:
    return pack_header({"picture": dict(zip(_SEEN, values, strict=True))})


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

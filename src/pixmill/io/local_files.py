"""Source images that are files of this machine: what ``pixmill run`` may read beside its CSV."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from urllib.parse import unquote

from pixmill.core.errors import ImageError, ImageErrorCode
from pixmill.core.model import Fetched
from pixmill.io.body import Body
from pixmill.io.limits import FetchLimits

_CHUNK = 2**20


def read_local(
    url: str, folder: Path, limits: FetchLimits, spill_folder: Path | None = None
) -> Fetched:
    """The image that a ``file:`` URL names; a relative one (``file:a.jpg``) is within ``folder``.

    A big file is copied to a temporary one in ``spill_folder`` (the system's, if None), since who
    gets a Path deletes it. Raises ImageError (``invalid_url``) for what is no readable file.
    """
    path = folder / _path_of(url)
    body = Body(limits, spill_folder)
    try:
        with os.fdopen(_open(path), "rb", buffering=0) as source:
            while (data := source.read(_CHUNK)) and body.write(data) is None:
                pass
    except OSError as problem:
        body.discard()
        shown = os.path.relpath(path, folder)
        reason = f"The file {shown} cannot be read: {problem.strerror}."
        raise _invalid(f"{reason} A web address must begin with https://.") from problem
    if body.failure is not None:
        body.discard()
        raise body.failure
    if not body.size:
        raise ImageError(ImageErrorCode.EMPTY, f"The file {path.name} is empty.")
    return body.taken()


def _path_of(url: str) -> str:
    """The path of a ``file:`` URL (RFC 8089)."""
    scheme, _, rest = url.partition(":")
    if scheme.lower() != "file":
        raise _invalid("This is not the URL of a local file: it must begin with file:.")
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        if host.lower() not in {"", "localhost"}:
            raise _invalid(f"The file URL names another machine, {host[:100]!r}.")
        rest = slash + path
    path = unquote(rest)
    if not path or "\0" in path:
        raise _invalid("The file URL names no file.")
    return path


def _open(path: Path) -> int:
    """Open a regular file, and nothing else: a device may act on being opened, a FIFO waits."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise _not_a_file(path)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # exchanged since
        os.close(descriptor)
        raise _not_a_file(path)
    return descriptor


def _not_a_file(path: Path) -> ImageError:
    return _invalid(f"{path.name or path} is not a file.")


def _invalid(message: str) -> ImageError:
    return ImageError(ImageErrorCode.INVALID_URL, message)

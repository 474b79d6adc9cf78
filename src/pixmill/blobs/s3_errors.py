"""What goes wrong with S3, told in our words, and for how long it is worth trying again.

obstore's own messages hold addresses, and answers in which some servers repeat keys and what was
signed. So nothing of them is passed on but the status and S3's name for the error.
"""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable
from typing import TypeVar

from obstore.exceptions import (
    BaseError,
    InvalidPathError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from pixmill.core.errors import NotFound, PixmillError, StorageFailure, StoreUnavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

FOREIGN = (BaseError, FileNotFoundError, OSError, ValueError)
"""What obstore raises."""

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 5.0

WORTH_A_RETRY = {408, 425, 429}
"""Statuses below 500 that pass by themselves."""

_STATUS = re.compile(r"status code: (\d{3})")
_NAME = re.compile(r"<Code>([A-Za-z0-9]{1,60})</Code>")


class Patience:
    """Tries again while S3 is away, until nothing has worked for so many seconds.

    obstore has tried a call several times within some seconds before it comes here. ``reading``
    says that what is not there was asked for, and may not be.
    """

    def __init__(self, seconds: float, *, reading: bool = False) -> None:
        self._seconds = seconds
        self._reading = reading
        self._give_up = time.monotonic() + seconds

    def worked(self) -> None:
        """Note that something worked just now."""
        self._give_up = time.monotonic() + self._seconds

    def over(self, pause: float) -> bool:
        """Whether another attempt after such a pause would come too late."""
        return time.monotonic() + pause > self._give_up

    def call(self, what: str, do: Callable[[], T]) -> T:
        """Do something with S3; ``what`` completes the sentence "Cannot …"."""
        pause = FIRST_PAUSE
        while True:
            try:
                done = do()
            except FOREIGN as error:
                told = translated(what, error, reading=self._reading)
                wait = pause * random.uniform(0.5, 1.0)  # noqa: S311  # spreads retries, no secret
                if not isinstance(told, StoreUnavailable) or self.over(wait):
                    raise told from None
                log.warning("%s It is tried again.", told.message)
            else:
                self.worked()
                return done
            time.sleep(wait)
            pause = min(LONGEST_PAUSE, pause * 2)


def translated(what: str, error: Exception, *, reading: bool) -> PixmillError:
    """What an error of obstore means. StoreUnavailable passes by itself, the others do not."""
    text = str(error)
    if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
        return StorageFailure(f"Cannot {what}: what is to be stored cannot be read.")
    found = _NAME.search(text)
    name = found[1] if found else ""
    said = f" ({name})" if name else ""
    if name == "NoSuchBucket":
        return StorageFailure(f"Cannot {what}: there is no such bucket.")
    if name == "NoSuchUpload":  # its parts were put together, but the answer was lost
        return StoreUnavailable(f"Cannot {what}: the upload is gone.")
    if isinstance(error, FileNotFoundError):
        kind = NotFound if reading else StorageFailure
        return kind(f"Cannot {what}: it is not there.")
    if isinstance(error, PreconditionError):
        return StorageFailure(f"Cannot {what}: it was stored anew meanwhile.")
    if isinstance(error, InvalidPathError | ValueError):
        return StorageFailure(f"Cannot {what}: S3 cannot have such a key.")
    if "169.254.169.254" in text or "169.254.170.2" in text:
        return StorageFailure(
            f"Cannot {what}: there are no credentials. Set AWS_ACCESS_KEY_ID and"
            " AWS_SECRET_ACCESS_KEY, or give this machine a role."
        )
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return StorageFailure(f"Cannot {what}: S3 does not allow it{said}.")
    return _by_status(what, text, said)


def _by_status(what: str, text: str, said: str) -> PixmillError:
    found = _STATUS.search(text)
    status = int(found[1]) if found else None
    if status and status < 500 and status not in WORTH_A_RETRY:
        return StorageFailure(f"Cannot {what}: S3 answers {status}{said}.")
    if status:
        return StoreUnavailable(f"Cannot {what}: S3 answers {status}{said}.")
    if "non-partial response" in text:
        return StorageFailure(f"Cannot {what}: this S3 service cannot send parts of a file.")
    if "redirect without LOCATION" in text:
        return StorageFailure(f"Cannot {what}: the bucket is in another region; see AWS_REGION.")
    if "InvalidCertificate" in text:
        return StorageFailure(
            f"Cannot {what}: the certificate of S3 is not trusted. AWS_CA_BUNDLE can name a file of"
            " authorities."
        )
    return StoreUnavailable(f"Cannot {what}: S3 cannot be reached, or the connection broke.")

"""What the steps need of the place where images and sheets lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO, Protocol


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """What is known of a stored file: bytes, a tag that changes with its content, its time."""

    size: int
    etag: str
    modified: float


class Blobs(Protocol):
    """Where images and sheets lie, under keys such as ``images/<request>/0000001.jpg``.

    Raises StorageFailure when something cannot be stored or read, and StoreUnavailable when the
    place is away for a moment, and has been for longer than a short while of trying again.
    """

    @property
    def near(self) -> bool:
        """Whether opening a file costs less than handing that to a thread would."""

    def put(self, key: str, data: bytes | BinaryIO) -> None:
        """Store a whole file durably, in place of any earlier one, or leave things as they were."""

    def put_all(self, files: Mapping[str, bytes]) -> None:
        """Store several whole files; when this returns, all of them survive a power cut.

        Much cheaper than one ``put`` after the other. If it fails, each file is whole or as it was.
        """

    def open(self, key: str) -> BinaryIO:
        """Open a stored file for reading and seeking; raises NotFound."""

    def open_known(self, key: str) -> tuple[BlobInfo, BinaryIO]:
        """Open a stored file and return what is known of this very file; raises NotFound.

        Where files are far away, this costs one way there and back; ``look`` and ``open`` cost two,
        between which the file may be replaced.
        """

    def look(self, key: str) -> BlobInfo:
        """Return what is known of a stored file; raises NotFound."""

    def delete_all(self, folder: str) -> None:
        """Delete all files whose keys begin with ``folder`` and a slash; none is no error.

        They are out of reach, durably. The room that they take may stay taken until ``free_room``,
        where that makes this quick however many they are.
        """

    def free_room(self) -> None:
        """Remove for good what was deleted, which may take a while; others may do the same."""

    def clean(self, *, idle_seconds: float = 0.0) -> None:
        """Remove what killed processes left half-written, and for good what was deleted.

        Others may be writing if ``idle_seconds`` says for how long none of them lets a file be.
        """

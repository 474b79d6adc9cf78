"""What the pump needs of the floor where bytes move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from pixmill.core.model import Fetched, Image, Picture, SheetRules
from pixmill.core.options import Options

T = TypeVar("T")


class Workshop(Protocol[T]):
    """Where images are fetched and compressed, many at once, for one thread that never waits.

    That thread begins things, each under a ticket, and takes from ``wait`` what has ended. A
    protocol, since the steps must not see the sockets below.
    """

    def fetch(self, ticket: T, image: Image, rules: SheetRules) -> None:
        """Begin to get an image's source, as its request's rules allow."""

    def compress(self, ticket: T, fetched: Fetched, options: Options) -> None:
        """Begin to make a picture of a source, which stays the caller's."""

    def wait(self, seconds: float | None) -> Sequence[tuple[T, Fetched | Picture | Exception]]:
        """Return what has ended, waiting up to so long for the first; a temporary file is yours.

        An exception is what went wrong with one image, an ImageError unless it is our mistake.
        Raises PixmillError when nothing can go on, whatever the image.
        """

    def wake(self) -> None:
        """End the wait, or the next one, at once. The only call for other threads."""

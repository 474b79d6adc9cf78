"""Which keys a file can have, wherever it is stored."""

from __future__ import annotations

from pixmill.core.errors import StorageFailure


class InvalidKey(StorageFailure):
    """No file can have this key."""


def check_key(key: str) -> str:
    """Return a key that leads to one place below the root; raises InvalidKey."""
    if "\0" in key or any(part in {"", ".", ".."} for part in key.split("/")):
        raise InvalidKey(f"{key!r} is not a valid key.")
    return key

"""Where the data of commands is that work on a store without its service."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from pixmill import wiring
from pixmill.core.errors import NotFound
from pixmill.settings import Settings


def ensure_store(settings: Settings) -> str:
    """Return where the store is; raises NotFound if there is none, which opening would make."""
    new = wiring.new_place(settings)
    if new is None:
        return place_of(settings)
    if settings.store:
        raise NotFound(f"There is no store {place_of(settings)}. Name the service's: --store URL")
    raise NotFound(
        f"There is no pixmill data in {new}. Name the service's data folder: --data-dir FOLDER"
    )


def place_of(settings: Settings) -> str:
    """The store, for people: the data folder, or the file if it is set on its own, or MongoDB."""
    if settings.store:
        store = urlsplit(settings.store_url)
        return unquote(store.path) if store.scheme == "sqlite" else "MongoDB"
    return str(Path(settings.data_dir).absolute())

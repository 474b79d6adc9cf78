"""Where the data of commands is that work on a store without its service."""

from __future__ import annotations

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
    return _shown(settings.store) if settings.store else str(settings.data_dir.absolute())


def places_of(settings: Settings) -> str:
    """Where requests and files are, as a sentence: what a service and its workers must share."""
    if not settings.store and not settings.blobs:
        return f"The data is in {place_of(settings)}"
    return f"Requests are in {place_of(settings)}, files in {_shown(settings.blobs_url)}"


def broker_of(settings: Settings) -> str:
    """The broker, for people."""
    return _shown(settings.engine)


def _shown(url: str) -> str:
    """A URL, or several with ``;`` between, without what may be a password, and without options.

    Of a local one its path. A password may hold what ends a host's part elsewhere.
    """
    scheme, _, rest = url.partition("://")
    if scheme in {"sqlite", "file"}:
        return unquote(urlsplit(url).path)
    if ";" in url:
        return ";".join(_shown(part) for part in url.split(";"))
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}"

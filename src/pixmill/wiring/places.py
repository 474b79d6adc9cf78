"""Where everything is kept: stores, keys, webhooks and files, as the settings name them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pixmill.blobs.folder import FolderBlobs
from pixmill.core.errors import InvalidSetting
from pixmill.ports import Access, Blobs, Outbox, Store
from pixmill.settings import Settings
from pixmill.steps.finish import UrlOf
from pixmill.steps.signing import live_secrets
from pixmill.stores.sqlite import SqliteAccess, SqliteOutbox, SqliteStore

clock = time.time
"""The clock that everything goes by."""


def open_store(settings: Settings) -> Store:
    """The store that the settings name."""
    if _is_mongo(settings.store_url):
        return _mongo(settings.store_url)[0]
    return SqliteStore(_local_path("PIXMILL_STORE", settings.store_url, "sqlite"))


def new_place(settings: Settings) -> Path | None:
    """The folder in which a store would be made by opening it; None if there is a store.

    None as well for a store that is no file.
    """
    if _is_mongo(settings.store_url):
        return None
    path = _local_path("PIXMILL_STORE", settings.store_url, "sqlite")
    try:
        return None if path.exists() else path.parent
    except OSError:  # opening it tells what is wrong
        return None


def open_access(settings: Settings) -> Access:
    """The API keys, which are kept where the store is."""
    if _is_mongo(settings.store_url):
        return _mongo(settings.store_url)[1]
    return SqliteAccess(_local_path("PIXMILL_STORE", settings.store_url, "sqlite"))


def open_outbox(settings: Settings) -> Outbox:
    """The webhooks, which are kept where the store is."""
    if _is_mongo(settings.store_url):
        return _mongo(settings.store_url)[2]
    return SqliteOutbox(_local_path("PIXMILL_STORE", settings.store_url, "sqlite"))


def webhook_secrets(settings: Settings, outbox: Outbox) -> list[bytes]:
    """The secrets that sign webhooks now, newest first: those of the settings, or the outbox's."""
    return live_secrets(outbox, settings.webhook_secrets, clock)


def _is_mongo(url: str) -> bool:
    return url.startswith(("mongodb://", "mongodb+srv://"))


def _mongo(url: str) -> tuple[Store, Access, Outbox]:
    """Store, keys and webhooks in MongoDB, none of which connects before it is used."""
    try:
        from pixmill.stores import mongo  # what it needs: the extra
    except ImportError as error:
        raise InvalidSetting(
            'PIXMILL_STORE names MongoDB, which needs more packages: pip install "pixmill[fleet]".'
        ) from error
    return mongo.MongoStore(url), mongo.MongoAccess(url), mongo.MongoOutbox(url)


def open_blobs(settings: Settings) -> Blobs:
    """The blobs that the settings name."""
    if settings.blobs_url.startswith("s3:"):
        return _s3_blobs(settings.blobs_url)
    return FolderBlobs(_local_path("PIXMILL_BLOBS", settings.blobs_url, "file"))


def _s3_blobs(url: str) -> Blobs:
    """Blobs in a bucket, for which one machine needs no packages."""
    try:
        from pixmill.blobs.s3 import S3Blobs  # what it needs comes with the extra
        from pixmill.blobs.s3_place import s3_place
    except ImportError as error:
        raise InvalidSetting(
            'PIXMILL_BLOBS names S3, which needs more packages: pip install "pixmill[fleet]".'
        ) from error
    return S3Blobs(s3_place(url, os.environ))


def url_of(settings: Settings) -> UrlOf:
    """How the URL of a stored image is made: below the public URL, or else the bare key."""
    base = settings.public_url.rstrip("/")
    return lambda key: f"{base}/{key}" if base else key


def _local_path(setting: str, url: str, scheme: str) -> Path:
    """The absolute path in a URL such as ``sqlite:///srv/pixmill.db``."""
    parts = urlsplit(url)
    if parts.scheme != scheme or parts.netloc or not parts.path.startswith("/"):
        # Of another kind's URL, which may hold a password, only the kind is shown.
        shown = f"{parts.scheme}:…" if "@" in url else url
        raise InvalidSetting(f"{setting} must look like {scheme}:///absolute/path, not {shown!r}.")
    return Path(unquote(parts.path))

"""Floor 3: the only place that names concrete backends and puts the parts together."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pixmill.blobs.folder import FolderBlobs
from pixmill.core.addresses import AddressPolicy
from pixmill.core.errors import ImageError, ImageErrorCode, InvalidSetting
from pixmill.core.leases import Lease, Work
from pixmill.core.model import Fetched, Image, SheetRules
from pixmill.core.shards import PRIVATE
from pixmill.core.sheets.limits import SheetLimits
from pixmill.engines.local import LocalEngine
from pixmill.io.fetch import Fetcher, FetchLimits
from pixmill.io.local_files import read_local
from pixmill.io.pixels import ChildLimits, PixelLimits, PixelPool
from pixmill.io.spill import spill_folder
from pixmill.ports import Access, Blobs, Fetch, Store
from pixmill.settings import Settings, cores
from pixmill.steps.delete import purge_request
from pixmill.steps.finish import UrlOf, finish_request
from pixmill.steps.ingest import ingest_csv
from pixmill.steps.mill import Mill, Pace
from pixmill.steps.process import Tools
from pixmill.steps.work import Worker
from pixmill.stores.sqlite import SqliteAccess, SqliteStore

clock = time.time


def open_store(settings: Settings) -> Store:
    """The store that the settings name."""
    if _is_mongo(settings.store_url):
        return _mongo(settings.store_url)[0]
    return SqliteStore(_local_path("PIXMILL_STORE", settings.store_url, "sqlite"))


def open_access(settings: Settings) -> Access:
    """The API keys, which are kept where the store is."""
    if _is_mongo(settings.store_url):
        return _mongo(settings.store_url)[1]
    return SqliteAccess(_local_path("PIXMILL_STORE", settings.store_url, "sqlite"))


def _is_mongo(url: str) -> bool:
    return url.startswith(("mongodb://", "mongodb+srv://"))


def _mongo(url: str) -> tuple[Store, Access]:
    """Store and keys in MongoDB, neither of which connects before it is used."""
    try:
        from pixmill.stores.mongo import MongoAccess, MongoStore  # what they need: the extra
    except ImportError as error:
        raise InvalidSetting(
            'PIXMILL_STORE names MongoDB, which needs more packages: pip install "pixmill[fleet]".'
        ) from error
    return MongoStore(url), MongoAccess(url)


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


def sheet_limits(settings: Settings) -> SheetLimits:
    """How big a CSV may be."""
    return SheetLimits(
        max_rows=settings.max_rows,
        max_urls_per_cell=settings.max_urls_per_cell,
        max_url_length=settings.max_url_length,
    )


def pixel_pool(settings: Settings, children: int) -> PixelPool:
    """Child processes that compress, within the settings' limits."""
    return PixelPool(
        children,
        PixelLimits(max_pixels=int(settings.max_src_resolution * 1_000_000)),
        ChildLimits(
            cpu_seconds=settings.image_cpu_seconds,
            wall_seconds=settings.image_cpu_seconds * 4,
            memory_bytes=settings.image_memory,
        ),
    )


def local_engine(
    settings: Settings, store: Store, name: str, log_file: Path | None = None
) -> LocalEngine:
    """The worker processes of this machine; their log goes to ``log_file`` or standard error."""
    return LocalEngine(
        lambda worker: [sys.executable, "-m", "pixmill", "worker", "--supervised", worker],
        dict(os.environ) | settings.to_environment(),
        count=settings.workers,
        name=name,
        died=store.expire_leases,
        log_file=log_file,
    )


@contextmanager
def worker(settings: Settings, name: str) -> Iterator[Worker]:
    """A worker with its own connections, threads and pixel children, all closed at the end."""
    with ExitStack() as opened:
        store = opened.enter_context(closing(open_store(settings)))
        blobs = open_blobs(settings)
        pool = opened.enter_context(
            closing(pixel_pool(settings, max(1, cores() // settings.workers)))
        )
        fetch = opened.enter_context(_fetching(settings, name))
        tools = Tools(fetch, pool.compress, blobs, settings.samples)
        mill = Mill(store, tools, _pace(settings), clock)

        def ingest(lease: Lease) -> None:
            ingest_csv(store, blobs, lease, sheet_limits(settings), clock)

        def finish(lease: Lease) -> None:
            finish_request(store, blobs, lease, url_of(settings), clock)

        def purge(lease: Lease) -> None:
            purge_request(store, blobs, lease)

        yield Worker(
            name,
            store,
            mill,
            {
                Work.INGEST: ingest,
                Work.SHARD: mill.process_shard,
                Work.FINISH: finish,
                Work.PURGE: purge,
            },
            clock=clock,
            lease_seconds=settings.lease_seconds,
            grace_seconds=settings.grace_seconds,
        )


def _pace(settings: Settings) -> Pace:
    """A worker's pace: the downloads per host are shared out evenly among this machine's."""
    return Pace(
        threads=settings.threads,
        downloads_per_host=max(1, settings.max_downloads_per_host // settings.workers),
        longest_wait=settings.longest_wait,
    )


@contextmanager
def _fetching(settings: Settings, name: str) -> Iterator[Fetch]:
    """Fetch by the kind of the URL; local files only for requests of the command line."""
    limits = FetchLimits(
        max_bytes=settings.max_src_file_size,
        max_redirects=settings.max_redirects,
        deadline=settings.download_timeout,
        stall=max(1, round(settings.stall_timeout)),
    )
    policy = AddressPolicy.parse(settings.allowed_addresses)
    authorities = os.environ.get("SSL_CERT_FILE") or os.environ.get("CURL_CA_BUNDLE")
    with (
        spill_folder(settings.data_dir / PRIVATE / "spill", name) as spill,
        closing(
            Fetcher(policy, limits, spill, settings.user_agent, ca_file=authorities)
        ) as fetcher,
    ):

        def fetch(image: Image, rules: SheetRules) -> Fetched:
            if not image.url.startswith("file:"):
                return fetcher.fetch(image.url)
            if rules.local_folder is None:
                raise ImageError(
                    ImageErrorCode.INVALID_URL, "Local files can be named on the command line only."
                )
            return read_local(image.url, Path(rules.local_folder), limits, spill)

        yield fetch


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

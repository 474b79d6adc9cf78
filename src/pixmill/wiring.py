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
from pixmill.core.errors import InvalidSetting
from pixmill.core.leases import Lease, Work
from pixmill.core.limits import SheetLimits
from pixmill.core.model import Fetched
from pixmill.core.shards import PRIVATE
from pixmill.engines.local import LocalEngine
from pixmill.io.fetch import Fetcher, FetchLimits
from pixmill.io.local_files import read_local
from pixmill.io.loop import Loop
from pixmill.io.pixel_children import PixelChildren
from pixmill.io.pixels import ChildLimits, Comparer, PixelLimits
from pixmill.io.post import Posters
from pixmill.io.spill import spill_folder
from pixmill.io.workshop import PollingWorkshop
from pixmill.ports import Access, Blobs, Outbox, Store
from pixmill.settings import Settings, cores
from pixmill.steps.delete import purge_request
from pixmill.steps.deliver import Desk, Dispatcher
from pixmill.steps.finish import UrlOf, finish_request
from pixmill.steps.ingest import ingest_csv
from pixmill.steps.job import Job, Pace
from pixmill.steps.pump import Pump
from pixmill.steps.signing import live_secrets
from pixmill.steps.tell import event_body
from pixmill.steps.work import Worker
from pixmill.stores.sqlite import SqliteAccess, SqliteOutbox, SqliteStore

clock = time.time


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


def sheet_limits(settings: Settings) -> SheetLimits:
    """How big a CSV may be."""
    return SheetLimits(
        max_rows=settings.max_rows,
        max_urls_per_cell=settings.max_urls_per_cell,
        max_url_length=settings.max_url_length,
    )


def comparer(settings: Settings) -> Comparer:
    """A child process that compares pictures, within the settings' limits."""
    return Comparer(*_pixel_limits(settings))


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
        workshop = opened.enter_context(_workshop(settings, name))
        pump = Pump(store, blobs, workshop, _pace(settings), clock)
        dispatcher = opened.enter_context(_delivering(settings, name, store))

        def ingest(lease: Lease) -> None:
            ingest_csv(store, blobs, lease, clock)

        def finish(lease: Lease) -> None:
            finish_request(store, blobs, lease, url_of(settings), clock)

        def purge(lease: Lease) -> None:
            purge_request(store, blobs, lease)

        yield Worker(
            name,
            store,
            pump,
            {
                Work.INGEST: ingest,
                Work.SHARD: pump.process_shard,
                Work.FINISH: finish,
                Work.PURGE: purge,
            },
            clock=clock,
            lease_seconds=settings.lease_seconds,
            grace_seconds=settings.grace_seconds,
            beside=dispatcher.run,
        )


@contextmanager
def _delivering(settings: Settings, name: str, store: Store) -> Iterator[Dispatcher]:
    """A dispatcher with its own outbox and connections."""
    policy = AddressPolicy.parse(settings.allowed_addresses)
    with (
        closing(open_outbox(settings)) as outbox,
        closing(Posters(policy, settings.user_agent, ca_file=_authorities())) as posters,
    ):
        desk = Desk(
            outbox=outbox,
            post=posters.post,
            break_off=posters.break_off,
            write_body=lambda told: event_body(store, told, url_of(settings), settings.url),
            secrets=lambda: webhook_secrets(settings, outbox),
            clock=clock,
        )
        yield Dispatcher(name, desk, grace_seconds=settings.grace_seconds)


def _authorities() -> str | None:
    """A file of certificate authorities, if the environment names one as curl would know it."""
    return os.environ.get("SSL_CERT_FILE") or os.environ.get("CURL_CA_BUNDLE")


def _pace(settings: Settings) -> Pace:
    """A worker's pace: the downloads per host are shared out evenly among this machine's."""
    return Pace(
        in_hand=settings.threads,
        downloads_per_host=max(1, settings.max_downloads_per_host // settings.workers),
        longest_wait=settings.longest_wait,
        originals=settings.samples,
    )


@contextmanager
def _workshop(settings: Settings, name: str) -> Iterator[PollingWorkshop[Job]]:
    """Where a worker fetches and compresses; what it left on the disk is removed at the end."""
    limits = _fetch_limits(settings)
    policy = AddressPolicy.parse(settings.allowed_addresses)
    with spill_folder(settings.data_dir / PRIVATE / "spill", name) as spill:

        def read(url: str, folder: Path) -> Fetched:
            return read_local(url, folder, limits, spill)

        loop = Loop()
        fetcher: Fetcher[Job] = Fetcher(
            policy, limits, spill, settings.user_agent, loop, ca_file=_authorities()
        )
        children: PixelChildren[Job] = PixelChildren(
            _children_each(settings), *_pixel_limits(settings), loop
        )
        with closing(PollingWorkshop(loop, fetcher, children, read)) as workshop:
            children.start()
            yield workshop


def _children_each(settings: Settings) -> int:
    """A worker's pixel children: rather one too many in all than a core that idles."""
    return -(-cores() // settings.workers)


def _fetch_limits(settings: Settings) -> FetchLimits:
    return FetchLimits(
        max_bytes=settings.max_src_file_size,
        max_redirects=settings.max_redirects,
        deadline=settings.download_timeout,
        stall=max(1, round(settings.stall_timeout)),
    )


def _pixel_limits(settings: Settings) -> tuple[PixelLimits, ChildLimits]:
    return (
        PixelLimits(max_pixels=int(settings.max_src_resolution * 1_000_000)),
        ChildLimits(
            cpu_seconds=settings.image_cpu_seconds,
            wall_seconds=settings.image_cpu_seconds * 4,
            memory_bytes=settings.image_memory,
        ),
    )


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

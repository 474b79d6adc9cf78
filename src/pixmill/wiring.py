"""Floor 3: the only place that names concrete backends and puts the parts together."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pixmill.blobs.folder import FolderBlobs
from pixmill.core.addresses import AddressPolicy
from pixmill.core.errors import InvalidSetting, StorageFailure
from pixmill.core.leases import Lease, Work
from pixmill.core.model import Fetched
from pixmill.core.shards import PRIVATE
from pixmill.engines.local import LocalEngine
from pixmill.io.fetch import Fetcher, FetchLimits
from pixmill.io.local_files import read_local
from pixmill.io.loop import Loop
from pixmill.io.pixel_children import PixelChildren
from pixmill.io.pixels import ChildLimits, Comparer, PixelLimits
from pixmill.io.workshop import PollingWorkshop
from pixmill.settings import Settings, cores
from pixmill.steps.finish import UrlOf, finish_request
from pixmill.steps.ingest import ingest_csv
from pixmill.steps.pump import Job, Pace, Pump
from pixmill.steps.work import Worker
from pixmill.stores.sqlite import SqliteStore

clock = time.time


def open_store(settings: Settings) -> SqliteStore:
    """The store that the settings name."""
    return SqliteStore(_local_path("PIXMILL_STORE", settings.store_url, "sqlite"))


def open_blobs(settings: Settings) -> FolderBlobs:
    """The blobs that the settings name."""
    return FolderBlobs(_local_path("PIXMILL_BLOBS", settings.blobs_url, "file"))


def comparer(settings: Settings) -> Comparer:
    """A child process that compares pictures, within the settings' limits."""
    return Comparer(*_pixel_limits(settings))


def local_engine(
    settings: Settings, store: SqliteStore, name: str, log_file: Path | None = None
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

        def ingest(lease: Lease) -> None:
            ingest_csv(store, blobs, lease, clock)

        def finish(lease: Lease) -> None:
            finish_request(store, blobs, lease, url_of(settings), clock)

        yield Worker(
            name,
            store,
            pump,
            {Work.INGEST: ingest, Work.SHARD: pump.process_shard, Work.FINISH: finish},
            clock=clock,
            lease_seconds=settings.lease_seconds,
            grace_seconds=settings.grace_seconds,
        )


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
    spill_folder = settings.data_dir / PRIVATE / "spill" / name
    try:
        spill_folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageFailure(f"Cannot write into {spill_folder}: {error.strerror}.") from error
    limits = _fetch_limits(settings)
    policy = AddressPolicy.parse(settings.allowed_addresses)
    authorities = os.environ.get("SSL_CERT_FILE") or os.environ.get("CURL_CA_BUNDLE")

    def read(url: str, folder: Path) -> Fetched:
        return read_local(url, folder, limits, spill_folder)

    loop = Loop()
    fetcher: Fetcher[Job] = Fetcher(
        policy, limits, spill_folder, settings.user_agent, loop, ca_file=authorities
    )
    children: PixelChildren[Job] = PixelChildren(
        max(1, cores() // settings.workers), *_pixel_limits(settings), loop
    )
    try:
        with closing(PollingWorkshop(loop, fetcher, children, read)) as workshop:
            children.start()
            yield workshop
    finally:
        shutil.rmtree(spill_folder, ignore_errors=True)


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
        raise InvalidSetting(f"{setting} must look like {scheme}:///absolute/path, not {url!r}.")
    return Path(unquote(parts.path))

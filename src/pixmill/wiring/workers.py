"""A worker with all that it works with."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from pixmill.core.addresses import AddressPolicy
from pixmill.core.leases import Lease, Work
from pixmill.core.limits import SheetLimits
from pixmill.core.model import Fetched
from pixmill.core.shards import PRIVATE
from pixmill.io.fetch import Fetcher, FetchLimits
from pixmill.io.local_files import read_local
from pixmill.io.loop import Loop
from pixmill.io.pixel_children import PixelChildren
from pixmill.io.pixels import ChildLimits, Comparer, PixelLimits
from pixmill.io.post import Posters
from pixmill.io.spill import spill_folder
from pixmill.io.workshop import PollingWorkshop
from pixmill.ports import Store
from pixmill.settings import Settings, cores
from pixmill.steps.delete import purge_request
from pixmill.steps.deliver import Desk
from pixmill.steps.dispatch import Dispatcher
from pixmill.steps.finish import finish_request
from pixmill.steps.ingest import ingest_csv
from pixmill.steps.job import Job, Pace
from pixmill.steps.pump import Pump
from pixmill.steps.tell import event_body
from pixmill.steps.work import Worker
from pixmill.wiring.places import (
    clock,
    open_blobs,
    open_outbox,
    open_store,
    url_of,
    webhook_secrets,
)


@contextmanager
def worker(settings: Settings, name: str) -> Iterator[Worker]:
    """A worker with its own connections, threads and pixel children, all closed at the end."""
    with (
        closing(open_store(settings)) as store,
        delivering(settings, name, store) as dispatcher,
        worker_on(settings, name, store, beside=(dispatcher.run,)) as made,
    ):
        yield made


@contextmanager
def worker_on(
    settings: Settings,
    name: str,
    store: Store,
    *,
    beside: Sequence[Callable[[threading.Event], None]],
    on_change: Callable[[], None] = lambda: None,
) -> Iterator[Worker]:
    with _workshop(settings, name) as workshop:
        blobs = open_blobs(settings)
        pump = Pump(store, blobs, workshop, _pace(settings), clock)

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
            beside=beside,
            on_change=on_change,
        )


@contextmanager
def delivering(
    settings: Settings, name: str, store: Store, *, on_change: Callable[[], None] = lambda: None
) -> Iterator[Dispatcher]:
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
        yield Dispatcher(name, desk, grace_seconds=settings.grace_seconds, on_change=on_change)


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


def comparer(settings: Settings) -> Comparer:
    """A child process that compares pictures, within the settings' limits."""
    return Comparer(*_pixel_limits(settings))


def sheet_limits(settings: Settings) -> SheetLimits:
    """How big a CSV may be."""
    return SheetLimits(
        max_rows=settings.max_rows,
        max_urls_per_cell=settings.max_urls_per_cell,
        max_url_length=settings.max_url_length,
    )

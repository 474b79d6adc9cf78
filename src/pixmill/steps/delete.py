"""Delete a request: hidden and unreachable at once, gone from everywhere soon after."""

from __future__ import annotations

from pixmill.core.leases import Lease
from pixmill.core.shards import images_of, private_folders
from pixmill.ports import Blobs, Clock, Store


def delete_request(
    store: Store, blobs: Blobs, request_id: str, clock: Clock, lease_seconds: float
) -> None:
    """Hide a request, end its work and delete its pictures. Raises NotFound.

    This is quick however large the request is. What takes long is left to the purge.
    A worker may still store the pictures that it has in hand, until it learns that its lease is
    lost. So the purge, which deletes all there is, comes when every lease would have run out.
    """
    now = clock()
    store.delete_request(request_id, now=now, purge_at=now + lease_seconds)
    blobs.delete_all(images_of(request_id))


def purge_request(store: Store, blobs: Blobs, lease: Lease) -> None:
    """Remove all files and records of a deleted request; done again from the start if cut short."""
    for folder in (images_of(lease.request_id), *private_folders(lease.request_id)):
        blobs.delete_all(folder)
    blobs.free_room()
    while not store.forget(lease):
        pass

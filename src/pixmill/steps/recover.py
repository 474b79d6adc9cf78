"""Take back what dead or cut-off workers held, so that somebody else does it."""

from __future__ import annotations

import logging
from collections import Counter

from pixmill.core.leases import judge
from pixmill.ports import Clock, Store

log = logging.getLogger(__name__)


def recover(store: Store, clock: Clock) -> int:
    """Offer again all work whose lease has run out; return how much that was.

    Safe to run from any number of processes at once: each loss is taken back, and counted, once.
    """
    now = clock()
    lost_leases = store.lost_leases(now=now)
    for lost in lost_leases:
        verdict = judge(lost)
        log.debug(
            "lease lost: %s %s/%s, loss %d%s",
            lost.lease.work,
            lost.lease.request_id,
            lost.lease.number,
            lost.losses + 1,
            f", image {lost.trying} in hand" if lost.trying is not None else "",
        )
        store.take_back(lost, verdict, now=now)
    for request_id, parts in Counter(lost.lease.request_id for lost in lost_leases).items():
        many = "1 part" if parts == 1 else f"{parts} parts"
        log.warning("taken over: %s of %s from a worker that ended", many, request_id)
    return len(lost_leases)

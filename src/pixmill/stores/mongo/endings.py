"""How requests end, are reopened, and vanish, each in one transaction."""

from __future__ import annotations

from typing import Any

from pymongo import ReturnDocument

from pixmill.core.errors import NotFound, WrongState
from pixmill.core.leases import Lease, Work
from pixmill.core.model import Request, RequestStatus, final_status
from pixmill.core.webhooks import ENDINGS
from pixmill.stores.mongo import deliveries, documents, ingest, leases, outcomes, requests
from pixmill.stores.mongo.database import Document, Step
from pixmill.stores.mongo.layouts import DELETED


def complete_shard(step: Step, lease: Lease, now: float) -> None:
    """Close a shard; the last one offers the finish.

    Begins with the counter, on which those who complete shards of the same request collide.
    """
    request = step.requests.find_one_and_update(
        {"_id": lease.request_id, "open_shards": {"$gt": 0}},
        {"$set": {"updated_at": now}, "$inc": {"open_shards": -1}},
        session=step.session,
        return_document=ReturnDocument.AFTER,
    )
    if request is None:
        raise leases.lost_by(lease)
    leases.finish(step, lease)
    if request["open_shards"] == 0:
        leases.offer(step, lease.request_id, Work.FINISH, round_=request["round"], now=now)
        step.requests.update_one({"_id": lease.request_id}, leases.OFFERED, session=step.session)


def close(step: Step, lease: Lease, now: float) -> Request:
    """Make a request terminal, with its counters counted anew from the outcomes.

    Counted inside the transaction, which nobody but a cancel or a delete can collide with: no shard
    is open any more.
    """
    leases.finish(step, lease)
    counted = outcomes.count(step, requests.find(step, lease.request_id))
    return _end(step, lease.request_id, final_status(counted[0]), counted, now)


def fail(step: Step, lease: Lease, error: str, now: float) -> None:
    """End a request whose ingest or finish cannot be done; the caller has made sure of the lease.

    What an ingest left behind is seen by nobody; the next one, or a purge, drops it.
    """
    counted = outcomes.count(step, requests.find(step, lease.request_id))
    _end(step, lease.request_id, final_status(counted[0]), counted, now, error=error)
    if lease.work is Work.INGEST:
        leases.drop_all(step, lease.request_id)  # by this, a retry knows that it must ingest
    else:
        leases.end_all(step, lease.request_id)


def cancel(step: Step, request_id: str, now: float) -> Request:
    """Make a request terminal at once; what is pending has failed as cancelled by that alone.

    Begins with the status, on which those who record outcomes collide, so that what is counted
    cannot change any more.
    """
    before = step.requests.find_one_and_update(
        {"_id": request_id, "status": requests.VISIBLE},
        {"$set": {"updated_at": now}},
        session=step.session,
    )
    if before is None:
        raise NotFound(f"There is no request {request_id!r}.")
    status = RequestStatus(before["status"])
    if status.terminal:
        raise WrongState(f"The request is {status} already: there is nothing to cancel.")
    if status is RequestStatus.PENDING:
        leases.drop_all(
            step, request_id
        )  # by its having no work, a retry knows that it must ingest
    else:
        leases.end_all(step, request_id)
    counted = outcomes.count(step, {**before, "status": str(RequestStatus.CANCELLED)})
    return _end(step, request_id, RequestStatus.CANCELLED, counted, now)


def retry(step: Step, request_id: str, now: float) -> int:
    """Reopen the failed images of a terminal request; return how many references they are.

    A new round begins, which makes earlier failures void.
    """
    request = requests.find(step, request_id)
    status = RequestStatus(request["status"])
    if not status.terminal:
        raise WrongState(f"The request is {status}: retry when it has finished.")
    round_ = request["round"] + 1
    if not leases.has_any(step, request_id):
        leases.offer(step, request_id, Work.INGEST, round_=round_, now=now)
        _reopen(step, request_id, RequestStatus.PENDING, open_shards=0, round_=round_, now=now)
        return int(request["total_images"])
    _, failed = outcomes.count(step, request)
    if failed:
        numbers = outcomes.shards_with_failures(step, request)
        leases.reopen(step, request_id, numbers, round_=round_, now=now)
        _reopen(
            *(step, request_id, RequestStatus.PROCESSING),
            open_shards=len(numbers),
            round_=round_,
            now=now,
        )
    elif request["error"] or status is RequestStatus.CANCELLED:  # only its finish is missing
        leases.offer(step, request_id, Work.FINISH, round_=round_, now=now)
        _reopen(step, request_id, RequestStatus.PROCESSING, open_shards=0, round_=round_, now=now)
    return failed


def delete(step: Step, request_id: str, now: float, purge_at: float) -> None:
    """Hide a request, end its work, and offer its purge from a time on."""
    request = requests.find(step, request_id)
    hidden = {"status": DELETED, "updated_at": now, "open": True}
    _change(step, request_id, {**hidden, "turn": purge_at, "ready_at": purge_at}, {"offers": 1})
    leases.drop_all(step, request_id)
    deliveries.drop_all(step, request_id)
    leases.offer(step, request_id, Work.PURGE, round_=request["round"], now=purge_at)
    step.idempotency.delete_many({"request": request_id}, session=step.session)


def forget(step: Step, lease: Lease, limit: int) -> bool:
    """Drop so many images and products; when none is left the request itself, and say so."""
    leases.hold(step, lease)
    left = ingest.drop_some(step, lease.request_id, limit)
    if left:
        leases.drop_all(step, lease.request_id)
        deliveries.drop_all(step, lease.request_id)
        step.requests.delete_one({"_id": lease.request_id}, session=step.session)
    return left > 0


def _end(
    step: Step,
    request_id: str,
    status: RequestStatus,
    counted: tuple[int, int],
    now: float,
    **more: Any,
) -> Request:
    processed, failed = counted
    final = {
        "status": str(status),
        "processed_images": processed,
        "failed_images": failed,
        "open_shards": 0,
        "open": False,
        "updated_at": now,
        "finished_at": now,
    }
    ended = _change(step, request_id, {**final, **more})
    deliveries.tell(step, ended, ENDINGS[status], now)
    return documents.to_request(ended)


def _reopen(
    step: Step,
    request_id: str,
    status: RequestStatus,
    *,
    open_shards: int,
    round_: int,
    now: float,
) -> None:
    again = {
        "status": str(status),
        "round": round_,
        "failed_images": 0,
        "open_shards": open_shards,
        "open": True,
        "error": None,
        "updated_at": now,
        "finished_at": None,
    }
    _change(step, request_id, again, {"offers": 1})


def _change(
    step: Step, request_id: str, values: Document, more: Document | None = None
) -> Document:
    """Change a request; return it as it is then."""
    found = step.requests.find_one_and_update(
        {"_id": request_id},
        {"$set": values, **({"$inc": more} if more else {})},
        session=step.session,
        return_document=ReturnDocument.AFTER,
    )
    if found is None:
        raise NotFound(f"There is no request {request_id!r}.")
    return found

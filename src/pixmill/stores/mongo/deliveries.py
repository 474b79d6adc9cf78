"""Deliveries: made with what they tell of, held, tried.

Whoever makes, takes or ends one changes the document of its endpoint in the same transaction, on
which all those collide: so that document always says when the first delivery is due.
"""

from __future__ import annotations

import secrets
from base64 import b32encode
from collections.abc import Collection

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from pixmill.core.errors import LeaseLost, NotFound
from pixmill.core.events import Event, steps_forward
from pixmill.core.webhooks import Attempt, Delivery, DeliveryState, endpoint_of
from pixmill.stores.mongo import messages
from pixmill.stores.mongo.database import Document, Step, collided
from pixmill.stores.mongo.documents import all_of, record_id

MOST_ATTEMPTS = 100
"""How many attempts of a delivery are kept, the last ones."""

UNTOLD = ["told", "teller"]
"""The fields to be taken from a delivery so that workers are told of it as soon as it is due."""

LET_GO: Document = {"$unset": ["token", "worker", "replay", *UNTOLD]}
"""Takes from a delivery what it has only while somebody holds it."""

AS_BEFORE: list[Document] = [{"$set": {"due": "$next_at"}}, LET_GO]
"""Lets a delivery be due as it was before somebody held it."""

PENDING = {"state": str(DeliveryState.PENDING)}
BY_DUE = [("due", 1), ("request", 1), ("number", 1)]


def tell(step: Step, request: Document, event: Event, now: float) -> None:
    """Send an event off, if the request asked for it, with the counts of this moment."""
    if event not in request.get("webhook_events", ()):
        return
    counted = step.requests.find_one_and_update(
        {"_id": request["_id"]},
        {"$inc": {"told": 1}},
        projection={"told": True},
        session=step.session,
        return_document=ReturnDocument.AFTER,
    )
    if counted is None:
        return
    made = messages.new_delivery(_new_id(), counted["told"], request, event, now)
    step.deliveries.insert_one(made, session=step.session)
    _hear_of(step, endpoint_of(request["webhook_url"]), {"$min": {"due": now}}, now)


def tell_progress(step: Step, request: Document, settled: int, now: float) -> None:
    """Tell of progress if the last ``settled`` references passed a step that is worth it."""
    after = request["processed_images"] + request["failed_images"]
    if steps_forward(after - settled, after, request["total_images"]):
        tell(step, request, Event.PROGRESS, now)


def any_due(step: Step, busy: Collection[str], now: float) -> bool:
    """Whether something is due, to none of the busy endpoints."""
    return step.endpoints.find_one(_due(busy, now), {"_id": True}) is not None


def claim(
    step: Step, worker: str, busy: Collection[str], *, now: float, lease_seconds: float
) -> Delivery | None:
    """Hold the delivery that is due longest; None when nothing is due."""
    held_until = now + lease_seconds
    endpoint = step.endpoints.find_one_and_update(
        _due(busy, now),
        {"$set": {"due": held_until}},
        sort=[("due", 1), ("_id", 1)],
        session=step.session,
    )
    if endpoint is None:
        return None
    found = step.deliveries.find_one_and_update(
        {"endpoint": endpoint["_id"], **PENDING},
        _taken(worker, held_until),
        sort=BY_DUE,
        session=step.session,
        return_document=ReturnDocument.AFTER,
    )
    _set_due(step, endpoint["_id"])
    return messages.to_delivery(found) if found else None


def claim_hinted(
    step: Step, delivery_id: str, worker: str, *, now: float, lease_seconds: float
) -> Delivery | None:
    """Hold just this delivery; None unless it is due."""
    found = step.deliveries.find_one_and_update(
        _waiting(delivery_id, now),
        _taken(worker, now + lease_seconds),
        session=step.session,
        return_document=ReturnDocument.AFTER,
    )
    if found is None:
        return None
    _set_due(step, found["endpoint"])
    return messages.to_delivery(found)


def is_due(step: Step, delivery_id: str, now: float) -> bool:
    """Whether a delivery waits for being tried, and nobody holds it."""
    return step.deliveries.find_one(_waiting(delivery_id, now), {"_id": True}) is not None


def expire(step: Step, worker: str | None) -> None:
    """Let a dead worker's deliveries, or everybody's, be due again as they were."""
    whose = {"worker": {"$gt": ""} if worker is None else worker}
    lost = list(step.deliveries.find(whose, {"endpoint": True}, session=step.session))
    if lost:
        step.deliveries.update_many(whose, AS_BEFORE, session=step.session)
        _set_all_due(step, lost)


def release(step: Step, delivery: Delivery) -> None:
    """Let a delivery be due again as it was; nothing happens if it is no longer held."""
    released = step.deliveries.update_one(_held(delivery), AS_BEFORE, session=step.session)
    if released.matched_count:
        _set_due(step, delivery.endpoint)


def keep_body(step: Step, delivery: Delivery, body: str) -> None:
    """Keep what is sent; raises LeaseLost."""
    if not step.deliveries.update_one(_held(delivery), {"$set": {"body": body}}).matched_count:
        raise _lost(delivery)


def record(
    step: Step,
    delivery: Delivery,
    attempt: Attempt,
    state: DeliveryState,
    next_at: float | None,
) -> None:
    """Record an attempt and let go of the delivery; raises LeaseLost.

    If it was replayed meanwhile, it is due since then, whatever came of this attempt.
    """
    change = {
        "attempts": attempt.number,
        "earlier": _if_replayed(attempt.number, "$earlier"),
        "state": _if_replayed(PENDING["state"], str(state)),
        "next_at": _if_replayed("$next_at", next_at),
        "due": _if_replayed("$next_at", next_at),
    }
    changed = step.deliveries.update_one(
        _held(delivery), [{"$set": change}, LET_GO], session=step.session
    )
    if not changed.matched_count:
        raise _lost(delivery)
    step.attempts.insert_one(messages.from_attempt(delivery, attempt), session=step.session)
    if attempt.number > MOST_ATTEMPTS:
        too_old = record_id(delivery.id, attempt.number - MOST_ATTEMPTS)
        former = {"_id": {"$gt": f"{delivery.id}/", "$lte": too_old}}
        step.attempts.delete_many(former, session=step.session)
    _set_due(step, delivery.endpoint)


def replay(step: Step, delivery_id: str, now: float) -> Delivery:
    """Make a delivery due now, with its schedule begun anew; raises NotFound.

    Who holds it goes on, so that the attempt is recorded; then it is due.
    """
    held = {"$gt": ["$token", None]}
    anew = {
        **PENDING,
        "earlier": "$attempts",
        "next_at": now,
        "due": {"$cond": [held, "$due", now]},
        "replay": {"$cond": [held, True, "$$REMOVE"]},
    }
    found = step.deliveries.find_one_and_update(
        {"_id": delivery_id},
        [{"$set": anew}, {"$unset": UNTOLD}],
        session=step.session,
        return_document=ReturnDocument.AFTER,
    )
    if found is None:
        raise _unknown(delivery_id)
    _set_due(step, found["endpoint"])
    return messages.to_delivery(found)


def find(step: Step, delivery_id: str) -> Delivery:
    """A delivery; raises NotFound."""
    found = step.deliveries.find_one({"_id": delivery_id})
    if found is None:
        raise _unknown(delivery_id)
    return messages.to_delivery(found)


def of_request(step: Step, request_id: str) -> list[Delivery]:
    """The deliveries of a request, oldest first."""
    found = step.deliveries.find({"request": request_id}).sort("number")
    return [messages.to_delivery(each) for each in found]


def attempts(step: Step, delivery_id: str) -> list[Attempt]:
    """The attempts of a delivery, oldest first."""
    found = step.attempts.find({"_id": all_of(delivery_id)}).sort("_id")
    return [messages.to_attempt(each) for each in found]


def drop_all(step: Step, request_id: str) -> None:
    """Drop the deliveries of a request: those that are held are lost."""
    whose = {"request": request_id}
    dropped = list(step.deliveries.find(whose, {"endpoint": True}, session=step.session))
    if dropped:
        step.deliveries.delete_many(whose, session=step.session)
        step.attempts.delete_many(whose, session=step.session)
        _set_all_due(step, dropped)


def _set_all_due(step: Step, changed: Collection[Document]) -> None:
    for endpoint in sorted({each["endpoint"] for each in changed}):
        _set_due(step, endpoint)


def _set_due(step: Step, endpoint: str) -> None:
    """Note when the first delivery to an endpoint is due, after any change of one of them."""
    first = step.deliveries.find_one(
        {"endpoint": endpoint, **PENDING}, {"due": True}, sort=BY_DUE, session=step.session
    )
    if first is None:
        step.endpoints.delete_one({"_id": endpoint}, session=step.session)
    else:
        _hear_of(step, endpoint, {"$set": {"due": first["due"]}}, first["due"])


def _hear_of(step: Step, endpoint: str, change: Document, due: float) -> None:
    """Change when an endpoint is due, or begin with it.

    The count makes this a change in any case: who leaves a document as it is collides with nobody.
    """
    which = {"_id": endpoint}
    counted = {**change, "$inc": {"writes": 1}}
    if step.endpoints.update_one(which, counted, session=step.session).matched_count:
        return
    try:
        step.endpoints.insert_one({**which, "due": due, "writes": 1}, session=step.session)
    except DuplicateKeyError:  # another transaction made it since this one began
        raise collided("tell the same endpoint") from None


def _due(busy: Collection[str], now: float) -> Document:
    return {"due": {"$lte": now}, "_id": {"$nin": list(busy)}}


def _waiting(delivery_id: str, now: float) -> Document:
    """What finds a delivery if it is due."""
    return {"_id": delivery_id, **PENDING, "due": {"$lte": now}}


def _taken(worker: str, until: float) -> Document:
    """What a claim makes of a delivery."""
    held = {"token": secrets.token_hex(16), "worker": worker, "due": until}
    return {"$set": held, "$unset": {"replay": ""}}


def _if_replayed(anew: object, usual: object) -> Document:
    """One of two values, by whether a held delivery was replayed, as MongoDB's own expression."""
    return {"$cond": [{"$ifNull": ["$replay", False]}, anew, usual]}


def _held(delivery: Delivery) -> Document:
    return {"_id": delivery.id, "token": delivery.token}


def _lost(delivery: Delivery) -> LeaseLost:
    return LeaseLost(f"The delivery {delivery.id} is no longer held by this worker.")


def _unknown(delivery_id: str) -> NotFound:
    return NotFound(f"There is no delivery {delivery_id!r}.")


def _new_id() -> str:
    """A webhook-id that cannot be guessed: 128 random bits in lower-case base 32."""
    return "msg_" + b32encode(secrets.token_bytes(16)).decode().rstrip("=").lower()

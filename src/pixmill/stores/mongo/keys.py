"""API keys, and what belongs to them."""

from __future__ import annotations

from pymongo import ReturnDocument

from pixmill.core import access
from pixmill.core.access import ApiKey
from pixmill.core.errors import NotFound
from pixmill.stores.mongo import documents
from pixmill.stores.mongo.database import Document, Step
from pixmill.stores.mongo.schema import NOBODY

BY_AGE = [("created_at", 1), ("_id", 1)]

ONE_MORE = {"$inc": {"writes": 1}}
"""Makes those collide who make a request and who take over its owner's."""


def add(step: Step, key: ApiKey, replaces: str | None) -> None:
    """Keep a key, which takes over what was nobody's if it is the first; raises NotFound."""
    first = not any_key(step)
    step.keys.insert_one(documents.from_key(key), session=step.session)
    if first:
        step.meta.update_one(NOBODY, ONE_MORE, session=step.session)
        _take_over(step, key.id, access.NOBODY)
    if replaces is not None:
        revoke(step, replaces, key.created_at.timestamp())
        heirs = {"$or": [{"_id": replaces}, {"successor": replaces}]}
        step.keys.update_many(heirs, {"$set": {"successor": key.id}}, session=step.session)
        _take_over(step, key.id, replaces)


def any_key(step: Step) -> bool:
    """Whether a key was ever made."""
    found = step.keys.find_one({}, {"_id": True}, sort=BY_AGE, session=step.session)
    return found is not None


def revoke(step: Step, key_id: str, now: float) -> ApiKey:
    """Revoke a key, unless it is; raises NotFound."""
    found = step.keys.find_one_and_update(
        {"_id": key_id},
        [{"$set": {"revoked_at": {"$ifNull": ["$revoked_at", now]}}}],
        session=step.session,
        return_document=ReturnDocument.AFTER,
    )
    if found is None:
        raise NotFound(f"There is no key {key_id!r}.")
    return documents.to_key(found)


def heir_of(step: Step, owner: str) -> str:
    """The key that has taken over an owner's requests, or else the owner; so until the commit.

    What was under way for the owner at that moment comes later, and must not be nobody's.
    """
    found = _heir(step, owner)
    key = {"_id": found["_id"]} if found else None
    if key:
        step.keys.update_one(key, ONE_MORE, session=step.session)
    elif not owner:
        step.meta.update_one(NOBODY, ONE_MORE, session=step.session)
    return _name(found, owner)


def heir_known(step: Step, owner: str) -> str:
    """The same, for those who only look."""
    return _name(_heir(step, owner), owner)


def _heir(step: Step, owner: str) -> Document | None:
    """The key that says who the heir is: the owner's own, or for nobody's, the first."""
    if owner:
        return step.keys.find_one({"_id": owner}, session=step.session)
    return step.keys.find_one({}, sort=BY_AGE, session=step.session)


def _name(found: Document | None, owner: str) -> str:
    return str(found.get("successor", found["_id"])) if found else owner


def _take_over(step: Step, new: str, old: str) -> None:
    """Give all that belongs to an owner to another one."""
    for owned in (step.requests, step.idempotency):
        owned.update_many({"owner": old}, {"$set": {"owner": new}}, session=step.session)

"""The store of a fleet: a MongoDB replica set, shared by any number of machines."""

from pixmill.stores.mongo.access import MongoAccess
from pixmill.stores.mongo.outbox import MongoOutbox
from pixmill.stores.mongo.store import MongoStore

__all__ = ["MongoAccess", "MongoOutbox", "MongoStore"]

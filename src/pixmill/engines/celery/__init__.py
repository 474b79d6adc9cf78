"""The Celery engine: a broker (Redis or RabbitMQ) tells workers of many machines of open work.

What a message says is a hint; what holds is in the store. So messages carry ids only, and none is
worth saving: lost ones are sent again, doubled and late ones find their work taken.
"""

from pixmill.engines.celery.app import make_app
from pixmill.engines.celery.engine import CeleryEngine
from pixmill.engines.celery.messages import Messages
from pixmill.engines.celery.publisher import Publisher
from pixmill.engines.celery.tasks import Hands, add_tasks
from pixmill.engines.celery.worker import bring_hands, run_worker

__all__ = [
    "CeleryEngine",
    "Hands",
    "Messages",
    "Publisher",
    "add_tasks",
    "bring_hands",
    "make_app",
    "run_worker",
]

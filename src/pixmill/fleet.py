"""What ``celery -A pixmill.fleet worker`` loads: the app, as the environment says.

``pixmill worker`` runs the same app; this is for those who start all their workers with Celery's
own command, or look at them with ``celery inspect`` and Flower.
"""

from __future__ import annotations

import os
import sys

from pixmill.core.errors import InvalidSetting
from pixmill.settings import load_settings
from pixmill.wiring import celery_app

try:
    app = celery_app(load_settings({}, os.environ))
except InvalidSetting as refused:
    sys.exit(f"pixmill: {refused.message}")

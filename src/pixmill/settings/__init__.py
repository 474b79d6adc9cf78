"""Settings: environment variables, a ``.env`` file, or flags of the same name."""

from pixmill.settings.fields import PREFIX, Settings, listed
from pixmill.settings.machine import cores
from pixmill.settings.reading import load_settings

__all__ = ["PREFIX", "Settings", "cores", "listed", "load_settings"]

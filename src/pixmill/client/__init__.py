"""Floor 5: the Python client of a pixmill service."""
